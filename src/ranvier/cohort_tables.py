"""The files of a collected cohort: all of one state, never over anything that was changed since."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from ranvier.cohort_collect import Cohort, Result, grouped, look
from ranvier.cohort_store import COLLECTED, Store, opened, read_json, result_folder, stem_of_key
from ranvier.errors import OutputExistsError
from ranvier.exporting import json_bytes
from ranvier.measures import measure_of
from ranvier.micrograph import Array
from ranvier.provenance import file_sha256, own_version, versions
from ranvier.results import OVERLAY
from ranvier.tables import table_csv, unit_of

__all__ = ["Collection", "collect_cohort"]

FAILURES = "failures.csv"
OVERLAYS = "overlays"
_PLAIN = " ,()[]+=@"
Content = bytes | Path
"""Bytes to write, or a file to copy."""


@dataclass(frozen=True, eq=False)
class Collection:
    """What was collected.

    Attributes
    ----------
    cohort
        What it was collected from.
    fibres, subjects
        How many; no number of subjects where the manifest names none.
    warnings
        In what the images differ that should be alike.
    outputs
        What was written.
    """

    cohort: Cohort
    fibres: int
    subjects: int | None
    warnings: tuple[str, ...]
    outputs: tuple[Path, ...]


def collect_cohort(folder: Path, *, overlays: bool = False) -> Collection:
    """Write the cohort's tables, its failures and cohort.json into its folder ``cohort``.

    ``images.csv``, ``fibres.csv`` and, where PyArrow is installed, ``fibres.parquet``; ``subjects.csv`` and
    ``groups.csv`` if the manifest names subjects; ``failures.csv``. There are no tables while nothing is done.
    The same results give the same bytes.

    Parameters
    ----------
    folder
        Of a cohort.
    overlays
        Copy the images' overlays there, too, each under the name of its image.

    Raises
    ------
    InputError
        There is no cohort in the folder, or its images have different units.
    OutputExistsError
        A file that would be replaced was changed since it was written.
    OutputError
        The folder cannot be written.
    """
    cohort = look(folder)
    with opened(folder) as store:
        done = cohort.of("done")
        files: dict[str, Content] = {FAILURES: cohort.failures}
        fibres, subjects, warnings = 0, None, tuple(_listed_twice(done))
        if done:
            found = grouped(store, cohort)
            fibres, warnings = len(found.fibres["image"]), (*warnings, *found.warnings)
            files["images.csv"] = table_csv(_with_places(found.images, done))
            files["fibres.csv"] = table_csv(found.fibres)
            if importlib.util.find_spec("pyarrow") is not None:
                files["fibres.parquet"] = parquet(found.fibres)
            if cohort.plan["has_subjects"]:
                subjects = len(found.subjects["subject"])
                files["subjects.csv"] = table_csv(found.subjects)
                files["groups.csv"] = table_csv(found.groups)
        if overlays:
            files |= _overlays(folder, done)
        about = {**_about(cohort), "fibres": fibres, "subjects": subjects, "warnings": [*warnings]}
        outputs = _publish(store, files, about)
    return Collection(cohort, fibres, subjects, warnings, tuple(outputs))


def parquet(table: Mapping[str, Array]) -> bytes:
    """A table as Parquet; each field's metadata hold its unit and its meaning."""
    pa, writer = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    fields, columns = [], []
    for name, values in table.items():
        text = values.dtype == object
        column = (
            pa.array(values.tolist(), pa.string()) if text else pa.array(values, from_pandas=True)
        )
        meaning = _meaning(name)
        fields.append(
            pa.field(name, column.type, metadata={"unit": unit_of(name), "meaning": meaning})
        )
        columns.append(column)
    schema = pa.schema(fields, metadata={"ranvier": json.dumps({"version": own_version()})})
    sink = pa.BufferOutputStream()
    writer.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content


def _meaning(column: str) -> str:
    try:
        return measure_of(column).meaning
    except KeyError:
        return ""


def _with_places(images: Mapping[str, Array], done: Iterable[Result]) -> dict[str, Array]:
    """The table of images with the file that each is of, and the folder of its results."""
    places = {r.entry.id: (r.entry.file, _place(r)) for r in done}
    own = [places[name] for name in images["image"]]
    columns = {
        "image": images["image"],
        "file": np.array([file for file, _ in own], dtype=object),
        "results": np.array([place for _, place in own], dtype=object),
    }
    return {**columns, **{k: v for k, v in images.items() if k != "image"}}


def _place(result: Result) -> str:
    return result_folder(Path(), result.key).as_posix()


def _listed_twice(done: Iterable[Result]) -> Iterable[str]:
    by_key: dict[str, list[str]] = {}
    for result in done:
        by_key.setdefault(result.key, []).append(result.entry.id)
    for ids in by_key.values():
        if len(ids) > 1:
            yield f"the same image, so that its fibres count {len(ids)} times: {', '.join(ids)}"


def _overlays(folder: Path, done: Iterable[Result]) -> dict[str, Content]:
    """Name of each image's overlay among the collected files, and where it lies if it was not removed."""
    found: dict[str, Content] = {}
    for result in done:
        place = result_folder(folder, result.key) / f"{stem_of_key(result.key)}{OVERLAY}"
        if place.is_file():
            found[f"{OVERLAYS}/{quote(result.entry.id, safe=_PLAIN)}.png"] = place
    return found


def _about(cohort: Cohort) -> dict[str, Any]:
    """What cohort.json says of where the tables come from: no time, no host."""
    plan = cohort.plan
    kept = ("format", "version", "ranvier", "manifest", "model", "backend", "settings", "exports")
    counts = {status: len(cohort.of(status)) for status in ("done", "failed", "left")}
    return {
        **{key: plan[key] for key in kept if key in plan},
        "plan": cohort.plan_sha256,
        "collected_by": own_version(),
        "versions": versions(),
        "rows": {"all": len(cohort.results), **counts},
        "images": [_told(result) for result in cohort.results],
    }


def _told(result: Result) -> dict[str, Any]:
    about: dict[str, Any] = {
        "image": result.entry.id,
        "row": result.entry.row,
        "file": result.entry.file,
        "status": result.status,
    }
    if result.status == "done" and result.record is not None:
        about |= {"results": _place(result), "inputs": result.record["inputs"]}
    return about


def _publish(store: Store, files: Mapping[str, Content], about: Mapping[str, Any]) -> list[Path]:
    """Replace the collected files; cohort.json says first what comes, and last that it is there.

    A file that it does not list, or that was changed since, is never replaced nor removed.
    """
    record = store.folder / COLLECTED
    home = record.parent
    before = read_json(record)
    written: dict[str, set[str]] = {}
    for part in ("outputs", "replaced"):
        for name, digest in before.get(part, {}).items():
            written.setdefault(name, set()).add(digest)
    old = {n: d for n in {*written, *files} if (d := file_sha256(home / n))}
    for name in sorted(old):
        if old[name] not in written.get(name, set()):
            raise OutputExistsError(
                "not replaced: this file was not written by Ranvier, or was changed since",
                where=home / name,
                fix="Move it away and collect again",
            )
    outputs = {
        name: hashlib.sha256(c).hexdigest() if isinstance(c, bytes) else file_sha256(c)
        for name, c in sorted(files.items())
    }
    whole = {**about, "outputs": outputs}
    store.write(record, json_bytes({**whole, "complete": False, "replaced": old}))
    for name in old.keys() - files.keys():
        (home / name).unlink(missing_ok=True)
    for name, content in files.items():
        store.write(home / name, content if isinstance(content, bytes) else content.read_bytes())
    with contextlib.suppress(OSError):  # not there, or not empty
        (home / OVERLAYS).rmdir()
    store.write(record, json_bytes({**whole, "complete": True}))
    return [*(home / name for name in files), record]
