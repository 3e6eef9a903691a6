"""Results of earlier runs, read back: the table and the record of each image."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ranvier.errors import InputError
from ranvier.figures import FLAGS
from ranvier.micrograph import Array
from ranvier.provenance import file_sha256
from ranvier.results import RUN, stem_of

__all__ = ["Collected", "collect", "result_for"]

TABLE = "_morphometrics.csv"
_BOOLEAN = ("touches_border", "myelinated", "in_frame", *FLAGS)
_IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".btf", ".tf2", ".tf8", ".zarr")
_NEEDED = ("touches_border", "myelinated", "g_ratio")
_WITH_UNIT = ("axon_area", "myelin_area", "axon_diameter")


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
    """

    stem: str
    folder: Path
    run: Mapping[str, Any]
    table: Mapping[str, Array]
    hashes: Mapping[str, str]
    changed: bool

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


def collect(folders: Iterable[Path]) -> tuple[list[Collected], list[str]]:
    """Read the results in folders (not below).

    Returns
    -------
    found
        One per image, by name.
    problems
        Folders without results, and results that are incomplete or cannot be read.
    """
    found: dict[str, Collected] = {}
    problems = []
    for folder in dict.fromkeys(Path(f).resolve() for f in folders):
        records = sorted(folder.glob(f"*{RUN}")) if folder.is_dir() else []
        records = [p for p in records if not p.name.startswith(".") and p.name != RUN]
        if not records:
            problems.append(f"{folder}: no results here (no X{RUN})")
        for record in records:
            try:
                result = _result(record)
            except InputError as error:
                problems.append(str(error))
                continue
            if result.stem in found:
                problems.append(f"{record}: {found[result.stem].folder} has results of that name")
            found.setdefault(result.stem, result)
    return [found[stem] for stem in sorted(found)], problems


def result_for(image: str, results: Iterable[Collected]) -> list[Collected]:
    """The results that a name of an image, with or without its ending, may mean."""
    known = list(results)
    has_ending = Path(image).suffix.lower() in _IMAGE_ENDINGS
    for name in (image, stem_of(Path(image)) if has_ending else image):
        exact = [r for r in known if r.stem == name]
        if exact:
            return exact
    return [r for r in known if image in r.names]


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
        rows = list(csv.reader(io.StringIO(path.read_bytes().decode("utf-8-sig"), newline="")))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError("this table cannot be read", where=path, seen=error) from error
    rows = [row for row in rows if row]
    if not rows or len(set(rows[0])) != len(rows[0]):
        raise InputError("this table has no header, or names a column twice", where=path)
    uneven = next((i for i, row in enumerate(rows) if len(row) != len(rows[0])), None)
    if uneven is not None:
        raise InputError(
            "a row of this table is too short or too long", where=path, seen=f"row {uneven + 1}"
        )
    cells = zip(*rows[1:], strict=True) if len(rows) > 1 else [()] * len(rows[0])
    return {n: _column(n, list(c), path) for n, c in zip(rows[0], cells, strict=True)}


def _column(name: str, cells: list[str], path: Path) -> Array:
    """Booleans, whole numbers or numbers; an empty cell is NaN."""
    if name in _BOOLEAN:
        wrong = sorted(set(cells) - {"True", "False", "TRUE", "FALSE"})
        if not wrong:
            return np.array([c.lower() == "true" for c in cells], dtype=bool)
    else:
        if cells and all(c.lstrip("-").isdecimal() for c in cells):
            return np.array([int(c) for c in cells], dtype=np.int64)
        try:
            return np.array([float(c) if c else np.nan for c in cells], dtype=np.float64)
        except ValueError:
            wrong = sorted({c for c in cells if not _is_number(c)})
    raise InputError(
        f"column {name} of this table holds values that make no sense",
        where=path,
        seen=", ".join(map(repr, wrong[:3])),
    )


def _is_number(text: str) -> bool:
    try:
        float(text or "nan")
    except ValueError:
        return False
    return True
