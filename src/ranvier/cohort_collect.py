"""A cohort's tables: the results of all shards put together by image, subject and group.

What counts is the plan of the latest run, and of each shard what its latest run saw; results that were made with
other settings, or from files that have changed since, are not taken, however many lie in the folder.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ranvier.cohort_failures import Failure, failures_csv
from ranvier.cohort_manifest import Entry
from ranvier.cohort_plan import FORMAT, VERSION
from ranvier.cohort_store import (
    INDEX,
    PLAN,
    Store,
    read_json,
    result_folder,
    set_record,
    stem_of_key,
)
from ranvier.collected import TABLE
from ranvier.errors import InputError
from ranvier.exporting import json_bytes
from ranvier.groups import Grouped, summarise_groups
from ranvier.micrograph import Array
from ranvier.provenance import file_sha256
from ranvier.results import RUN
from ranvier.summary import SummarySettings
from ranvier.tables import table_csv

__all__ = ["Cohort", "Result", "grouped", "look"]

_STAGED = re.compile(r"row-(\d{7})")


@dataclass(frozen=True, eq=False)
class Result:
    """One row of the manifest and what has become of it.

    Attributes
    ----------
    key
        Of its results; empty where it is not known.
    record
        Of the set, if it is done.
    failure
        Why not, if it failed.
    """

    entry: Entry
    status: Literal["done", "failed", "left"]
    key: str = ""
    record: Mapping[str, Any] | None = None
    failure: Failure | None = None


@dataclass(frozen=True, eq=False)
class Cohort:
    """A cohort as it stands.

    Attributes
    ----------
    plan, plan_sha256
        The content of plan.json, and its hash.
    results
        One per row of the manifest, in its order.
    """

    folder: Path
    plan: Mapping[str, Any]
    plan_sha256: str
    results: tuple[Result, ...]

    def of(self, status: str) -> list[Result]:
        """Those of one status."""
        return [result for result in self.results if result.status == status]

    @property
    def whole(self) -> bool:
        """Whether every row has its results."""
        return len(self.of("done")) == len(self.results)

    @property
    def failures(self) -> bytes:
        """The table of failures."""
        return failures_csv((r.entry, r.failure) for r in self.results if r.failure is not None)


def look(folder: Path) -> Cohort:
    """See how far a cohort is. Tables are compared with the hashes that their records hold.

    Raises
    ------
    InputError
        There is no plan in this folder, or not one of this version.
    """
    plan = read_json(folder / PLAN)
    if (plan.get("format"), plan.get("version")) != (FORMAT, VERSION):
        raise InputError(
            "no cohort in this folder",
            where=folder,
            fix="Make one with: ranvier run MANIFEST -o DIR",
        )
    sha256 = file_sha256(folder / PLAN)
    keys: dict[str, str | None] = {}
    failures: dict[str, Failure] = {}
    for shard in sorted((folder / "shards").glob("*-of-*")):
        index = read_json(shard / INDEX)
        if index.get("plan") == sha256:
            keys |= index["requests"]
        failures |= Failure.of_shard(shard)
    results = tuple(
        _result(folder, _entry(row), str(row["request"]), keys, failures) for row in plan["rows"]
    )
    return Cohort(folder, plan, sha256, results)


def grouped(store: Store, cohort: Cohort) -> Grouped:
    """Put the tables of all that is done together, as :func:`ranvier.groups.summarise_groups` does.

    Images have the names that the manifest gives them. Where it names no subjects, each image stands for
    itself, and the tables of subjects and groups mean nothing.

    Raises
    ------
    InputError
        Some images are in pixels and some in micrometres.
    """
    done = cohort.of("done")
    _one_unit(done)
    names = {_staged_name(result): result.entry.id for result in done}
    stage = store.scratch / "collect"
    stage.mkdir()
    for result in done:
        _stage(cohort.folder, result, stage)
    samples = stage / "samples.csv"
    samples.write_bytes(_samples(done, cohort.plan))
    border = cohort.plan["settings"]["summary"]["include_border"]
    found = summarise_groups([stage], samples, settings=SummarySettings(include_border=border))
    warnings = tuple(_STAGED.sub(lambda m: names[m[0]], warning) for warning in found.warnings)
    tables = {
        name: _named(getattr(found, name), names, cohort.plan) for name in ("images", "fibres")
    }
    shutil.rmtree(stage, ignore_errors=True)
    return replace(found, **tables, warnings=warnings, sources=())


def _entry(row: Mapping[str, Any]) -> Entry:
    """A row as the plan holds it."""
    known = {key: value for key, value in row.items() if key != "request"}
    return Entry(**{**known, "masks": tuple(row["masks"])})


def _result(
    folder: Path,
    entry: Entry,
    request: str,
    keys: Mapping[str, str | None],
    failures: Mapping[str, Failure],
) -> Result:
    key = keys.get(request) or ""
    record = set_record(folder, key) if key else {}
    if not record:
        failure = failures.get(request)
        if request in keys and failure is not None and (failure.key or "") == key:
            return Result(entry, "failed", key, failure=failure)
        return Result(entry, "left", key)
    path = _table_of(folder, key)
    if record["outputs"].get(path.name) == file_sha256(path):
        return Result(entry, "done", key, record)
    reason = (
        f"{path}: the table is missing, or was changed since it was written. "
        f"Remove the folder {path.parent} and run the cohort again"
    )
    return Result(entry, "failed", key, failure=Failure(request, key, "ChangedResult", reason))


def _table_of(folder: Path, key: str) -> Path:
    return result_folder(folder, key) / f"{stem_of_key(key)}{TABLE}"


def _one_unit(results: Iterable[Result]) -> None:
    units: dict[str, list[str]] = {}
    for result in results:
        units.setdefault(str((result.record or {}).get("units")), []).append(result.entry.id)
    if len(units) > 1:
        shown = "; ".join(f"{unit}: {', '.join(ids[:5])}" for unit, ids in sorted(units.items()))
        raise InputError(
            "some images are in pixels and some in micrometres",
            seen=shown,
            fix="Give the pixel size of the former in the manifest's column pixel_size_um, and run again",
        )


def _staged_name(result: Result) -> str:
    return f"row-{result.entry.row:07d}"


def _stage(folder: Path, result: Result, stage: Path) -> None:
    """Put one image's table and record where results are looked for, under a name of this row."""
    name, record = _staged_name(result), result.record or {}
    table, place = _table_of(folder, result.key), stage / f"{name}{TABLE}"
    try:
        place.hardlink_to(table)
    except OSError:  # not every file system links
        shutil.copyfile(table, place)
    outputs = {place.name: record["outputs"][table.name]}
    (stage / f"{name}{RUN}").write_bytes(json_bytes({**record, "outputs": outputs}))


def _samples(results: Sequence[Result], plan: Mapping[str, Any]) -> bytes:
    """The table of samples that the manifest amounts to."""
    extra = plan["extra_columns"]
    table: dict[str, list[str]] = {"image": [_staged_name(r) for r in results]}
    if plan["has_subjects"]:
        table["subject"] = [r.entry.subject for r in results]
        table["group"] = [r.entry.group for r in results]
    else:
        table["subject"] = table["image"]
    table |= {name: [r.entry.extra[name] for r in results] for name in extra}
    return table_csv({name: np.array(cells, dtype=object) for name, cells in table.items()})


def _named(
    table: Mapping[str, Array], names: Mapping[str, str], plan: Mapping[str, Any]
) -> dict[str, Array]:
    """A table with the manifest's names of images, and without subjects where it has none."""
    left_out = set() if plan["has_subjects"] else {"subject", "group"}
    own = np.array([names[name] for name in table["image"]], dtype=object)
    return {**{"image": own}, **{k: v for k, v in table.items() if k not in {"image", *left_out}}}
