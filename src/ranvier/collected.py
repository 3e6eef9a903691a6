"""Results of earlier runs, read back: the table and the record of each image."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ranvier.errors import InputError
from ranvier.figures import FLAGS
from ranvier.micrograph import Array
from ranvier.provenance import file_sha256
from ranvier.results import RUN, stem_of

__all__ = ["Collected", "Results", "collect", "collect_all", "may_mean", "result_for"]

TABLE = "_morphometrics.csv"
_BOOLEAN = ("touches_border", "myelinated", "in_frame", *FLAGS)
_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".btf", ".tf2", ".tf8", ".zarr")
_NEEDED = ("touches_border", "myelinated", "g_ratio")
_WITH_UNIT = ("axon_area", "myelin_area", "axon_diameter")
_FILLED = {
    "id",
    *(f"bbox_{side}_px" for side in ("top", "left", "bottom", "right")),
    *(f"{part}_area_{unit}2" for part in ("axon", "myelin", "fibre") for unit in ("um", "px")),
}
"""Columns in which no cell may be empty: sums of areas and counts would be too small, or no number."""
_WHOLE = re.compile(r"[+-]?\d+")
_LARGEST = 2**63 - 1


@dataclass(frozen=True, eq=False)
class Collected:
    """The results of one image.

    Attributes
    ----------
    stem
        First part of the files' names.
    run, table
        The record and the table of fibres, as read.
    hashes
        Name of each file that was read to its hash.
    changed
        Whether the table is not as it was written.
    name
        What to call these results: the stem, after as much of the folder as it takes to tell them
        from others of that stem.
    """

    stem: str
    folder: Path
    run: Mapping[str, Any]
    table: Mapping[str, Array]
    hashes: Mapping[str, str]
    changed: bool
    name: str = ""

    @property
    def unit(self) -> str:
        """Of lengths: "um" or "px"."""
        return str(self.run["units"])

    @property
    def pixel_size_um(self) -> float | None:
        """Edge of a pixel; None in pixels."""
        size = self.run["inputs"][0].get("pixel_size_um")
        return None if size is None or self.unit == "px" else float(size)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns of the image."""
        rows, cols = self.run["inputs"][0]["shape"]
        return int(rows), int(cols)

    @property
    def names(self) -> set[str]:
        """Names by which a table of samples may call the image."""
        paths = [Path(str(i.get("path", ""))).name for i in self.run["inputs"]]
        return {self.stem, *paths, *(stem_of(Path(p)) for p in paths)} - {""}


@dataclass(frozen=True, eq=False)
class Results:
    """The results in some folders.

    Attributes
    ----------
    found
        One per image and folder, by stem.
    problems
        Folders without results, and results that are incomplete or cannot be read.
    unread
        Stems of the latter.
    """

    found: tuple[Collected, ...]
    problems: tuple[str, ...]
    unread: frozenset[str]


def collect(folders: Iterable[Path]) -> tuple[list[Collected], list[str]]:
    """Read the results in folders (not below): what was found, and what is wrong with the rest."""
    collection = collect_all(folders)
    return list(collection.found), list(collection.problems)


def collect_all(folders: Iterable[Path]) -> Results:
    """Read the results in folders (not below)."""
    found: list[Collected] = []
    problems = []
    unread = set()
    for folder in dict.fromkeys(Path(f).resolve() for f in folders):
        records = sorted(folder.glob(f"*{RUN}")) if folder.is_dir() else []
        records = [p for p in records if not p.name.startswith(".") and p.name != RUN]
        if not records:
            problems.append(f"{folder}: no results here (no X{RUN})")
        for record in records:
            try:
                found.append(_result(record))
            except InputError as error:
                problems.append(str(error))
                unread.add(record.name.removesuffix(RUN))
    by_stem: dict[str, list[Collected]] = {}
    for result in found:
        by_stem.setdefault(result.stem, []).append(result)
    named = (named for stem in sorted(by_stem) for named in _named(by_stem[stem]))
    return Results(tuple(named), tuple(problems), frozenset(unread))


def _named(alike: list[Collected]) -> list[Collected]:
    """Results of one stem with the shortest names that tell them apart."""
    paths = [(*r.folder.parts, r.stem) for r in alike]
    parts = 1
    while len({path[-parts:] for path in paths}) < len(paths):
        parts += 1
    return [replace(r, name="/".join(p[-parts:])) for r, p in zip(alike, paths, strict=True)]


def result_for(image: str, results: Iterable[Collected]) -> list[Collected]:
    """The results that a name of an image may mean.

    The name may be with or without its ending, and may begin with the last parts of the path of
    the folder of its results.
    """
    *folder, last = _parts(image)
    known = [r for r in results if not folder or list(r.folder.parts[-len(folder) :]) == folder]
    for name in dict.fromkeys((last, _without_ending(last))):
        exact = [r for r in known if r.stem == name]
        if exact:
            return exact
    return [r for r in known if last in r.names]


def may_mean(image: str, stem: str) -> bool:
    """Whether a name of an image may be that of results with this stem."""
    last = _parts(image)[-1]
    return stem in (last, _without_ending(last))


def _parts(image: str) -> list[str]:
    return image.replace("\\", "/").split("/")


def _without_ending(name: str) -> str:
    return stem_of(Path(name)) if Path(name).suffix.lower() in _IMAGE_ENDINGS else name


def _result(record: Path) -> Collected:
    stem = record.name.removesuffix(RUN)
    run = _record(record)
    path = record.with_name(stem + TABLE)
    if not path.is_file():
        raise InputError(
            "no table of fibres beside this record", where=record, seen=f"no {path.name}"
        )
    table = _table(path)
    unit = run["units"]
    needed = (*_NEEDED, *(f"{n}_{unit}{'2' if 'area' in n else ''}" for n in _WITH_UNIT))
    missing = [name for name in needed if name not in table]
    if missing:
        raise InputError("the table of fibres lacks columns", where=path, seen=", ".join(missing))
    hashes = {p.name: file_sha256(p) for p in (record, path)}
    written = {**run.get("kept", {}), **run.get("outputs", {})}.get(path.name)
    return Collected(stem, record.parent, run, table, hashes, written != hashes[path.name])


def _record(path: Path) -> dict[str, Any]:
    try:
        run = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError("this record cannot be read", where=path, seen=error) from error
    run = run if isinstance(run, dict) else {}
    inputs = run.get("inputs")
    if not isinstance(inputs, list) or not inputs or not all(isinstance(i, dict) for i in inputs):
        raise InputError("this is no record of an image's results", where=path)
    if run.get("units") not in ("um", "px") or not _is_shape(inputs[0].get("shape")):
        raise InputError("this record lacks the unit or the shape of its image", where=path)
    if run["units"] == "um" and not isinstance(inputs[0].get("pixel_size_um"), int | float):
        raise InputError("this record has no pixel size", where=path)
    if run.get("complete") is not True:
        raise InputError("these results are not complete", where=path, fix="Run the image again")
    found: dict[str, Any] = run
    return found


def _is_shape(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(isinstance(n, int) and n > 0 for n in value)
    )


def _table(path: Path) -> dict[str, Array]:
    try:
        reader = csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline=""))
        rows = [(reader.line_num, row) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("this table cannot be read", where=path, seen=error) from error
    if not rows or len(set(rows[0][1])) != len(rows[0][1]):
        raise InputError("this table has no header, or names a column twice", where=path)
    (_, header), *others = rows
    for line, row in others:
        if len(row) != len(header):
            raise InputError(
                "a row of this table is too short or too long",
                where=path,
                seen=f"line {line}: {len(row)} cells instead of {len(header)}",
            )
    lines = [line for line, _ in others]
    cells = zip(*(row for _, row in others), strict=True) if others else [()] * len(header)
    return {
        name: _column(name, list(zip(lines, column, strict=True)), path)
        for name, column in zip(header, cells, strict=True)
    }


def _column(name: str, cells: list[tuple[int, str]], path: Path) -> Array:
    """Booleans, whole numbers or numbers from lines and cells; an empty cell is NaN."""
    texts = [text for _, text in cells]
    if name in _BOOLEAN:
        _refuse([c for c in cells if c[1] not in ("True", "False", "TRUE", "FALSE")], name, path)
        return np.array([text.lower() == "true" for text in texts], dtype=bool)
    _refuse([c for c in cells if not _is_number(c[1], empty=name not in _FILLED)], name, path)
    if texts and all(map(_WHOLE.fullmatch, texts)):
        _refuse([c for c in cells if abs(int(c[1])) > _LARGEST], name, path)
        return np.array([int(text) for text in texts], dtype=np.int64)
    return np.array([float(text) if text else np.nan for text in texts], dtype=np.float64)


def _is_number(text: str, *, empty: bool) -> bool:
    if not text:
        return empty
    try:
        return math.isfinite(float(text)) and "_" not in text
    except ValueError:
        return False


def _refuse(wrong: list[tuple[int, str]], name: str, path: Path) -> None:
    if wrong:
        shown = ", ".join(f"line {line}: {text!r}" for line, text in wrong[:3])
        raise InputError(
            f"column {name} of this table holds values that make no sense",
            where=path,
            seen=shown + (f" and {len(wrong) - 3} more" if wrong[3:] else ""),
            fix="Correct these cells, or measure the image again",
        )
