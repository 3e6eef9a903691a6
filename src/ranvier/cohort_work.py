"""One unit of a cohort, done in a process of its own: from the files to a set of results in its place."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from ranvier.backends import Precision
from ranvier.cohort_plan import model_facts
from ranvier.cohort_store import Store, stem_of_key
from ranvier.errors import (
    BundleIntegrityError,
    InputError,
    OutputError,
    OutputExistsError,
    RanvierError,
)
from ranvier.exporting import json_bytes
from ranvier.inference import Model, load_model
from ranvier.jobs import MaskSet, Options, Outcome
from ranvier.pipeline import measure_masks
from ranvier.results import RUN
from ranvier.streaming.running import segment_any
from ranvier.writing import write_atomically

__all__ = ["Reply", "Setup", "Task", "failure_of"]

TIMES = ("started", "seconds")
"""What a record says of when it was made; a set leaves it out, and the log has it."""


@dataclass(frozen=True)
class Task:
    """What a process needs to know to do one unit.

    Attributes
    ----------
    request, key
        Of the unit.
    inputs
        Hashes that its files had when the key was made.
    path, masks, options
        As of :class:`ranvier.cohort_plan.Unit`.
    """

    request: str
    key: str
    inputs: tuple[str, ...]
    path: Path
    masks: MaskSet | None
    options: Options


@dataclass(frozen=True)
class Reply:
    """What became of it.

    Attributes
    ----------
    status, error, message
        Kind of the error and its text, if it failed.
    ends
        Nothing else can succeed either: results cannot be written.
    fibres, notes
        What is told of one that is done.
    log
        Times, threads and the process, for the log alone.
    """

    status: Literal["done", "failed"]
    error: str = ""
    message: str = ""
    ends: bool = False
    fibres: int = 0
    notes: tuple[str, ...] = ()
    log: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Setup:
    """What each process loads before it begins; called there, it gives the function that does a task.

    Attributes
    ----------
    store
        Where results go.
    model
        A model's name or folder; None where only masks are measured.
    threads
        CPU threads of one process.
    facts
        Which model and runtime the plan was made for.
    """

    store: Store
    model: str | Path | None
    precision: Precision
    threads: int
    facts: Mapping[str, Any]

    def __call__(self) -> Callable[[Task], Reply]:
        """Load the model.

        Raises
        ------
        BundleError, BackendError
            It cannot be used, or is not the one that the plan was made for.
        """
        model = None
        if self.model is not None:
            model = load_model(self.model, precision=self.precision, threads=self.threads)
            if model_facts(model) != self.facts:
                raise BundleIntegrityError(
                    "the model was changed while the cohort ran",
                    where=self.model,
                    fix="Run the cohort again",
                )
        return lambda task: _reply(task, self.store, model)


def failure_of(error: Exception, path: Path) -> tuple[str, str]:
    """Kind and text of an error, in one line."""
    kind, text = type(error).__name__, str(error)
    if isinstance(error, MemoryError):
        text = f"{path}: not enough memory for this image. Crop it, or use fewer --jobs"
    elif isinstance(error, OSError):
        text = f"{path}: cannot be opened (seen: {error.strerror or error})"
    elif not isinstance(error, RanvierError):
        text = f"{path}: unexpected failure (seen: {kind}: {error})"
    return kind, " ".join(text.split())


def _reply(task: Task, store: Store, model: Model | None) -> Reply:
    made = store.scratch / f"made-{task.request}"
    try:
        outcome, record = _made(task, made, model)
        log = {name: record.pop(name) for name in TIMES}
        log["threads"] = record.get("backend", {}).pop("threads", None)
        _neutral(made, outcome, record, task.key)
        store.keep(made, task.key)
    except Exception as error:
        kind, message = failure_of(error, task.path)
        ends = isinstance(error, OutputError) and not isinstance(error, OutputExistsError)
        return Reply("failed", kind, message, ends, log={"process": os.getpid()})
    finally:
        shutil.rmtree(made, ignore_errors=True)
    log["process"] = os.getpid()
    fibres = int(outcome.summary["fibre_count"])
    return Reply("done", fibres=fibres, notes=outcome.notes, log=log)


def _made(task: Task, made: Path, model: Model | None) -> tuple[Outcome, dict[str, Any]]:
    """Results in a folder of their own, and their record."""
    shutil.rmtree(made, ignore_errors=True)
    options = replace(task.options, output=made)
    if task.masks is not None:
        outcome = measure_masks(task.masks, options)
    elif model is not None:
        outcome = segment_any(task.path, model, options)
    else:
        raise InputError("no model was loaded for this image", where=task.path)
    record: dict[str, Any] = json.loads(outcome.outputs[-1].read_text(encoding="utf-8"))
    # A mask of the nerve is not looked at when streaming, and belongs to the key all the same.
    count = 1 if "streaming" in record else len(task.inputs)
    if tuple(i["sha256"] for i in record["inputs"]) != task.inputs[:count]:
        raise InputError(
            "a file was changed while the cohort ran", where=task.path, fix="Run the cohort again"
        )
    return outcome, record


def _neutral(made: Path, outcome: Outcome, record: dict[str, Any], key: str) -> None:
    """Name the files by their key, and say nothing that is not decided by what they were made from."""
    *files, old_record = outcome.outputs
    before, stem = old_record.name.removesuffix(RUN), stem_of_key(key)
    names = {path.name: stem + path.name.removeprefix(before) for path in files}
    for path in files:
        path.rename(made / names[path.name])
    inputs = [{k: v for k, v in one.items() if k != "path"} for one in record["inputs"]]
    outputs = {names[name]: digest for name, digest in record["outputs"].items()}
    old_record.unlink()
    content = json_bytes({**record, "key": key, "inputs": inputs, "outputs": outputs})
    write_atomically(made / f"{stem}{RUN}", content)
