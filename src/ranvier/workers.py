"""Processes that work through tasks. One that dies costs only the task that it was at.

Each process has a pipe of its own, so that it is always known which task died with it; it ends when the process
that started it does, however that came about.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, Generic, TypeVar

from ranvier.errors import BackendError

__all__ = ["Lost", "each"]

T = TypeVar("T")
R = TypeVar("R")
Make = Callable[[], Callable[[T], R]]
_THREADS_OF = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_MOST_FAILED_STARTS = 3
_PATIENCE = 5.0


@dataclass(frozen=True)
class Lost:
    """The process died.

    Attributes
    ----------
    exit_code
        As of :mod:`multiprocessing`: negative is a signal; None if it could not be told.
    """

    exit_code: int | None

    def __str__(self) -> str:
        if self.exit_code is not None and self.exit_code < 0:
            try:
                name = signal.Signals(-self.exit_code).name
            except ValueError:
                name = f"signal {-self.exit_code}"
            if name == "SIGKILL":
                return (
                    "its process was killed (SIGKILL), most likely for want of memory: "
                    "use fewer --jobs, or crop the image"
                )
            return f"its process crashed ({name})"
        return f"its process ended by itself (exit code {self.exit_code})"


@dataclass(eq=False)
class _Worker(Generic[T]):
    process: SpawnProcess
    pipe: Connection
    task: T | None = None
    ready: bool = False

    def end(self, *, at_once: bool) -> int | None:
        """Let the process end, or end it, and tell its exit code."""
        self.pipe.close()
        if at_once:
            self.process.terminate()
        self.process.join(_PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
        code = self.process.exitcode
        self.process.close()
        return code


def each(
    tasks: Iterable[T],
    make: Make[T, R],
    *,
    jobs: int,
    threads: int = 1,
    begun: Callable[[T, int], None] = lambda task, process: None,
) -> Generator[tuple[T, R | Lost]]:
    """Work through tasks and give each with its answer, as they come.

    Parameters
    ----------
    tasks
        What to do; picklable.
    make
        Called in each process to make the function that does one task; picklable. What it raises is raised here.
    jobs
        How many processes at most.
    threads
        Of each process, for libraries that take as many as there are.
    begun
        Told of each task and the number of the process that begins it.

    Raises
    ------
    BackendError
        Processes die before they can take a task.
    """
    waiting, busy, idle = deque(tasks), dict[Any, _Worker[T]](), list[_Worker[T]]()
    failed_starts, finished = 0, False
    try:
        while waiting or busy:
            while waiting and len(busy) < jobs:
                worker = idle.pop() if idle else _started(make, threads)
                worker.task = waiting.popleft()
                busy[worker.pipe] = worker
                with contextlib.suppress(OSError):  # if it died meanwhile, its pipe will tell
                    worker.pipe.send(worker.task)
                if worker.ready:
                    begun(worker.task, worker.process.pid or 0)
            for pipe in wait(list(busy)):
                worker = busy[pipe]
                task = _task_of(worker)
                kind, answer = _heard(worker)
                if kind == "ready":
                    worker.ready, failed_starts = True, 0
                    begun(task, worker.process.pid or 0)
                    continue
                del busy[pipe]
                if kind == "answer":
                    idle.append(worker)
                    yield task, answer
                    continue
                code = worker.end(at_once=False)
                if kind == "unable":
                    raise answer
                if worker.ready:
                    yield task, Lost(code)
                    continue
                waiting.appendleft(task)
                failed_starts += 1
                if failed_starts >= _MOST_FAILED_STARTS:
                    raise BackendError(
                        "processes cannot be started",
                        seen=f"{failed_starts} died at once, the last with exit code {code}",
                        fix="Is there enough memory? Use fewer --jobs",
                    )
        finished = True
    finally:
        for worker in (*busy.values(), *idle):
            worker.end(at_once=not finished)


def _task_of(worker: _Worker[T]) -> T:
    if worker.task is None:
        raise BackendError("a process answered without a task")
    return worker.task


def _heard(worker: _Worker[Any]) -> tuple[str, Any]:
    try:
        kind, content = worker.pipe.recv()
    except (EOFError, OSError):
        return "dead", None
    return kind, content


def _started(make: Make[T, R], threads: int) -> _Worker[T]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, make), daemon=True)
    with _for_children(threads):
        process.start()
    theirs.close()
    return _Worker(process, ours)


@contextmanager
def _for_children(threads: int) -> Iterator[None]:
    """Let a process start undisturbed, with few threads and deaf to Ctrl-C, which its starter hears afterwards."""
    added = [name for name in _THREADS_OF if name not in os.environ]
    os.environ.update(dict.fromkeys(added, str(threads)))
    try:
        with _ctrl_c_after():
            yield
    finally:
        for name in added:
            os.environ.pop(name, None)


@contextmanager
def _ctrl_c_after() -> Iterator[None]:
    """Put Ctrl-C off; what is started meanwhile never hears of it, where the system allows that."""
    masks = hasattr(signal, "pthread_sigmask")
    main = threading.current_thread() is threading.main_thread()
    heard: list[int] = []
    before: Any = None
    if masks:
        resource_tracker.ensure_running()  # it lets the signal through as it starts
    if main:  # other threads, of libraries, may receive it for this one
        before = signal.signal(signal.SIGINT, lambda number, frame: heard.append(number))
    if masks:
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        if masks:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        if main:
            signal.signal(signal.SIGINT, signal.SIG_DFL if before is None else before)
    if heard:
        raise KeyboardInterrupt


def _serve(pipe: Connection, make: Make[Any, Any]) -> None:
    """Be such a process: answer tasks until there are no more."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work = make()
    except Exception as error:
        pipe.send(("unable", error))
        return
    pipe.send(("ready", None))
    while True:
        try:
            task = pipe.recv()
        except (EOFError, OSError):
            return
        pipe.send(("answer", work(task)))


def _end_with_parent() -> None:
    """Wait for the starter's end, and end at once: nobody wants the answer."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
