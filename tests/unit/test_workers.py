"""Processes that die cost their own task alone."""

from __future__ import annotations

import os
import signal
from copy import copy
from functools import partial

import pytest

from ranvier.bundle import open_bundle
from ranvier.errors import BackendError, BundleNotFoundError
from ranvier.workers import Lost, _ctrl_c_after, each

TO_ONESELF = partial(copy, signal.raise_signal)
"""Makes a work function that sends the task, a signal, to its own process; 0 does nothing."""


def test_a_killed_process_costs_its_task_alone():
    begun = []
    answers = list(
        each([0, signal.SIGKILL, 0, 0], TO_ONESELF, jobs=1, begun=lambda t, p: begun.append((t, p)))
    )
    assert answers == [(0, None), (signal.SIGKILL, Lost(-9)), (0, None), (0, None)]
    assert "for want of memory" in str(answers[1][1])
    assert [task for task, _ in begun] == [0, signal.SIGKILL, 0, 0]
    assert len({process for _, process in begun}) == 2  # one, and its successor
    assert os.getpid() not in {process for _, process in begun}


def test_other_ends_are_told_apart():
    assert "SIGSEGV" in str(Lost(-signal.SIGSEGV))
    assert "exit code 3" in str(Lost(3))
    ended = list(each([3], partial(copy, os._exit), jobs=1))
    assert ended == [(3, Lost(3))]


def test_what_cannot_be_loaded_is_told_as_it_is():
    with pytest.raises(BundleNotFoundError, match="no such model") as caught:
        list(each([1], partial(open_bundle, "nowhere"), jobs=1))
    assert caught.value.where == "nowhere"


def test_processes_that_die_at_once_end_the_run():
    with pytest.raises(BackendError, match="exit code 5"):
        list(each([1, 2], partial(os._exit, 5), jobs=2))


def test_leaving_early_ends_the_processes():
    processes = []
    answers = each([0, 0], TO_ONESELF, jobs=1, begun=lambda t, p: processes.append(p))
    next(answers)
    answers.close()
    with pytest.raises(ProcessLookupError):
        os.kill(processes[0], 0)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_ctrl_c_during_a_start_is_heard_after_it():
    started = []
    with pytest.raises(KeyboardInterrupt), _ctrl_c_after():
        os.kill(os.getpid(), signal.SIGINT)
        started.append("undisturbed")
    assert started == ["undisturbed"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())
