"""A cohort's run: what is missing is computed, what is there is kept, what fails is named and stops nothing else.

First every file of the shard is hashed, so that results made from other bytes or settings are never taken for
current ones; then the images without results are dealt to processes. It may be killed at any moment: whatever is
in its place is whole, and the next run goes on from there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranvier.backends import usable_threads
from ranvier.cohort_addresses import Addresses
from ranvier.cohort_failures import Failure, failures_csv
from ranvier.cohort_log import RunLog
from ranvier.cohort_manifest import read_manifest
from ranvier.cohort_plan import Plan, Unit, make_plan, model_facts
from ranvier.cohort_store import (
    COLLECTED,
    FAILURES,
    INDEX,
    REPORT,
    Store,
    begin,
    begun_elsewhere,
    opened,
    read_json,
)
from ranvier.cohort_terms import Event, RunSettings, Tally, Tell, no_tell
from ranvier.cohort_work import Reply, Setup, Task, failure_of
from ranvier.errors import OutputError
from ranvier.exporting import json_bytes
from ranvier.inference import load_model
from ranvier.workers import Lost, each

__all__ = ["plan_of", "run_cohort"]

_MOST_HASHING = 8


def run_cohort(
    manifest: Path, folder: Path, settings: RunSettings, *, tell: Tell = no_tell
) -> Tally:
    """Run a cohort, or a shard of it.

    Parameters
    ----------
    manifest
        See :func:`ranvier.cohort_manifest.read_manifest`.
    folder
        Where all of it is written; see :mod:`ranvier.cohort_store`.
    settings
        How.
    tell
        Told as the work goes on.

    Returns
    -------
    Tally
        After Ctrl-C, too; then ``stopped`` is set.

    Raises
    ------
    DatasetError
        The manifest has problems; nothing was begun.
    BundleError, BackendError
        The model cannot be used; nothing was begun.
    OutputError
        Results cannot be written; what is in its place is whole.
    """
    plan = plan_of(manifest, settings)
    units = settings.shard.part(plan.units)
    with opened(folder) as store:
        home = begin(store, plan.content, str(settings.shard))
        with RunLog(store.folder, settings.shard) as log:
            log.write(
                "run", manifest=str(manifest.absolute()), plan=plan.sha256, jobs=settings.jobs
            )
            run = _Run(store, home, plan, settings, tell, log, units)
            try:
                run.look()
                run.compute()
            except KeyboardInterrupt:
                return run.finish(stopped=True)
            return run.finish(stopped=False)


def plan_of(manifest: Path, settings: RunSettings) -> Plan:
    """What a run would do. The manifest is checked, and the model loaded to see whether it can be used.

    Raises
    ------
    DatasetError, BundleError, BackendError
        As for :func:`run_cohort`.
    """
    known = read_manifest(manifest)
    segments = any(not entry.masks for entry in known.entries)
    if not segments:
        return make_plan(known, settings.options, {})
    model = load_model(settings.model, precision=settings.precision, threads=1)
    return make_plan(known, settings.options, model_facts(model))


@dataclass(eq=False)
class _Run:
    """A run as it goes on, and what is known of each request."""

    store: Store
    home: Path
    plan: Plan
    settings: RunSettings
    tell: Tell
    log: RunLog
    units: Sequence[Unit]
    keys: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, tuple[str, ...]] = field(default_factory=dict)
    failed: dict[str, Failure] = field(default_factory=dict)
    fine: dict[str, str] = field(default_factory=dict)
    """Requests whose results are there, and whether they are ``done`` or ``skipped``."""
    computed: int = 0

    def look(self) -> None:
        """Hash all files, and find out what is there already."""
        recorded = Failure.of_shard(self.home)
        earlier = {} if self.settings.retry_failed else recorded
        addresses = Addresses()

        def address(unit: Unit) -> tuple[str, list[str]] | Exception:
            try:
                return addresses.of(unit)
            except Exception as error:
                return error

        pool = ThreadPoolExecutor(min(self.settings.jobs, _MOST_HASHING))
        try:
            found = pool.map(address, self.units)
            for number, (unit, one) in enumerate(zip(self.units, found, strict=True), start=1):
                self._looked(unit, one, earlier.get(unit.request))
                self._event("hashed", unit, number)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        for request in recorded.keys() - self.failed.keys():
            Failure.forget(self.home, request)
        requests = {unit.request: self.keys.get(unit.request) for unit in self.units}
        self._write(INDEX, {"requests": requests})

    def _looked(
        self, unit: Unit, found: tuple[str, list[str]] | Exception, earlier: Failure | None
    ) -> None:
        if isinstance(found, Exception):
            self._fail(unit, *failure_of(found, unit.path))
            return
        key, inputs = found
        self.keys[unit.request], self.inputs[unit.request] = key, tuple(inputs)
        try:
            if self.store.state(key) == "whole":
                self.fine[unit.request] = "skipped"
                return
        except OutputError as error:
            self._fail(unit, *failure_of(error, unit.path))
            return
        if earlier is not None and earlier.key == key:
            self.failed[unit.request] = earlier

    def compute(self) -> None:
        """Make the results that are missing."""
        by_key: dict[str, list[Unit]] = {}
        ends = 0
        for unit in self.units:
            failure = self.failed.get(unit.request)
            if failure is None and unit.request not in self.fine:
                by_key.setdefault(self.keys[unit.request], []).append(unit)
                continue
            ends += 1
            self._event(
                "skipped" if failure is None else "failed",
                unit,
                ends,
                message="" if failure is None else failure.reason,
            )
        tasks = [self._task(alike[0]) for alike in by_key.values()]
        if not tasks:
            return
        jobs = min(self.settings.jobs, len(tasks))
        threads = max(1, (self.settings.threads or usable_threads()) // jobs)
        model = None if all(task.masks for task in tasks) else self.settings.model
        facts = {k: v for k, v in self.plan.about.items() if k in ("model", "backend")}
        setup = Setup(self.store, model, self.settings.precision, threads, facts)

        def begun(task: Task, process: int) -> None:
            self._event("begun", by_key[task.key][0], ends, process=process)

        with closing(each(tasks, setup, jobs=jobs, threads=threads, begun=begun)) as answers:
            for task, answer in answers:
                ends += len(by_key[task.key])
                self._answered(by_key[task.key], answer, ends)

    def _task(self, unit: Unit) -> Task:
        key, inputs = self.keys[unit.request], self.inputs[unit.request]
        return Task(unit.request, key, inputs, unit.path, unit.masks, unit.options)

    def _answered(self, alike: Sequence[Unit], answer: Reply | Lost, done: int) -> None:
        first = alike[0]
        if isinstance(answer, Lost):
            answer = Reply("failed", "ProcessDied", f"{first.path}: {answer}")
        key = self.keys[first.request]
        self.log.write(answer.status, image=first.entries[0].id, key=key, **answer.log)
        for unit in alike:
            if answer.status == "failed":
                self._fail(unit, answer.error, answer.message)
            else:
                self.fine[unit.request] = "done"
        self.computed += answer.status == "done"
        said = answer.message or f"{answer.fibres} fibres"
        self._event(answer.status, first, done, message=said, notes=answer.notes)
        if answer.ends:
            raise OutputError(
                "the run was ended: results cannot be written",
                where=self.store.folder,
                seen=answer.message,
                fix="Make room there, then run it again: it goes on where it ended",
            )

    def _fail(self, unit: Unit, error: str, reason: str) -> None:
        failure = Failure(unit.request, self.keys.get(unit.request), error, reason)
        self.failed[unit.request] = failure
        self.store.write(failure.place(self.home), failure.content)

    def finish(self, *, stopped: bool) -> Tally:
        """Write the shard's list of failures, and its report if it came to its end."""
        count = dict.fromkeys(("done", "skipped", "failed", "left"), 0)
        for unit in self.units:
            status = (
                "failed" if unit.request in self.failed else self.fine.get(unit.request, "left")
            )
            count[status] += len(unit.entries)
        rows = [
            (entry, self.failed[unit.request])
            for unit in self.units
            if unit.request in self.failed
            for entry in unit.entries
        ]
        self.store.write(self.home / FAILURES, failures_csv(rows))
        if not stopped:
            whole = count["done"] + count["skipped"]
            self._write(REPORT, {"done": whole, "failed": count["failed"]})
        self.log.write("stopped" if stopped else "end", **count)
        return Tally(
            **count,
            computed=self.computed,
            stopped=stopped,
            failures=self.home / FAILURES if rows else None,
            notes=tuple(self._notes()),
        )

    def _notes(self) -> Iterable[str]:
        rows: dict[str, list[int]] = {}
        for unit in self.units:
            if key := self.keys.get(unit.request):
                rows.setdefault(key, []).extend(entry.row for entry in unit.entries)
        for same in rows.values():
            if len(same) > 1:
                listed = ", ".join(map(str, sorted(same)))
                yield f"rows {listed} ask for the same: computed once"
        if begun_elsewhere(self.store, self.plan.content):
            yield (
                "a run with another manifest or other settings has begun in this folder since; "
                "collect takes that one"
            )
        collected = self.store.folder / COLLECTED
        if collected.is_file() and read_json(collected).get("plan") != self.plan.sha256:
            yield f"the tables in {collected.parent} are of an earlier run: collect again"

    def _write(self, name: str, facts: dict[str, Any]) -> None:
        """Write one of the shard's own files."""
        about = {"plan": self.plan.sha256, "shard": str(self.settings.shard)}
        self.store.write(self.home / name, json_bytes({**about, **facts}))

    def _event(self, what: Any, unit: Unit, done: int, **more: Any) -> None:
        self.tell(Event(what, unit.entries[0].id, done, len(self.units), **more))
