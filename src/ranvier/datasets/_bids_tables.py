"""What BIDS writes beside the images: tables of participants and samples, sidecars with pixel sizes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ranvier._pixel_size import um_per
from ranvier.calibration import PixelSize, checked
from ranvier.datasets.annotated import load_json
from ranvier.errors import DatasetError

Row = Mapping[str, str]
_UNITS = ("mm", "um", "nm")
"""What BIDS 1.10 allows for PixelSizeUnits."""


@dataclass(frozen=True)
class Tables:
    """Rows of participants.tsv by subject, and of samples.tsv by subject and sample; without prefixes."""

    participants: Mapping[str, Row] = field(default_factory=dict)
    samples: Mapping[tuple[str, str], Row] = field(default_factory=dict)

    def value(self, column: str, subject: str, sample: str | None) -> str | None:
        """What the sample's row says in a column, else the participant's; None for nothing or ``n/a``."""
        rows = (self.samples.get((subject, sample or "")), self.participants.get(subject))
        for row in rows:
            text = (row or {}).get(column, "").strip()
            if text and text.lower() != "n/a":
                return text
        return None


def read_participants(path: Path) -> dict[str, Row]:
    """Rows by subject, its ``sub-`` taken off.

    Raises
    ------
    DatasetError
        The file cannot be read, lacks its column, or has rows of wrong length or subjects twice.
    """
    rows = [(_bare(row, "participant_id", "sub-"), row) for row in _rows(path, "participant_id")]
    return _unique(rows, path)


def read_sample_table(path: Path) -> dict[tuple[str, str], Row]:
    """Rows by subject and sample, their ``sub-`` and ``sample-`` taken off.

    Raises
    ------
    DatasetError
        As in :func:`read_participants`.
    """
    rows = [
        ((_bare(row, "participant_id", "sub-"), _bare(row, "sample_id", "sample-")), row)
        for row in _rows(path, "participant_id", "sample_id")
    ]
    return _unique(rows, path)


def _bare(row: Row, column: str, prefix: str) -> str:
    return row[column].strip().removeprefix(prefix)


def _unique(rows: Sequence[tuple[Any, Row]], path: Path) -> dict[Any, Row]:
    found: dict[Any, Row] = {}
    for key, row in rows:
        if key in found and found[key] != row:
            raise DatasetError("two different rows of one name", where=path, seen=key)
        found[key] = row
    return found


def _rows(path: Path, *needed: str) -> list[dict[str, str]]:
    try:
        text = path.read_bytes().decode("utf-8-sig")
        lines = list(csv.reader(io.StringIO(text), delimiter="\t", quoting=csv.QUOTE_NONE))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError("not a readable table", where=path, seen=str(error)) from error
    lines = [line for line in lines if any(cell.strip() for cell in line)]
    header = [cell.strip() for cell in lines[0]] if lines else []
    missing = [name for name in needed if name not in header]
    if missing:
        raise DatasetError(f"no column {', '.join(missing)}", where=path, seen=", ".join(header))
    uneven = [i for i, line in enumerate(lines, 1) if len(line) != len(header)]
    if uneven:
        raise DatasetError(
            f"not {len(header)} cells, separated by tabs", where=path, seen=f"line {uneven[0]}"
        )
    return [dict(zip(header, line, strict=True)) for line in lines[1:]]


def sidecar(folder: Path, image: Path, stem: str) -> tuple[dict[str, Any], Path]:
    """Fields that the JSON sidecars give an image, and the last file that gave any (or the image).

    A sidecar holds for every file in or below its folder whose name has all the parts of its own; the deeper and the
    more precise one wins (BIDS 1.10, inheritance principle).

    Raises
    ------
    DatasetError
        A sidecar cannot be read.
    """
    entities = set(stem.split("_"))
    known: dict[str, Any] = {}
    where = image
    for level in [*reversed(image.relative_to(folder).parents)]:
        fitting = (
            s
            for s in (folder / level).glob(f"*{stem.rsplit('_', 1)[-1]}.json")
            if set(s.stem.split("_")) <= entities
        )
        for path in sorted(fitting, key=lambda s: (len(s.stem), s.stem)):
            known |= load_json(path)
            where = path
    return known, where


def pixel_size_of(known: dict[str, Any], where: Path) -> tuple[PixelSize | None, list[str]]:
    """Pixel size out of a sidecar's fields, None if they name none; and notes.

    One number stands for both edges. The unit may be any length that :func:`ranvier._pixel_size.um_per` knows.

    Raises
    ------
    DatasetError
        No number, no unit, or a unit that is not a length.
    PixelSizeError
        Absurd, or pixels that are not square.
    """
    if "PixelSize" not in known:
        return None, ["no sidecar names a pixel size"]
    size, unit = known["PixelSize"], known.get("PixelSizeUnits")
    edges: list[Any] = size[:2] if isinstance(size, list) and len(size) in (2, 3) else [size, size]
    factor = um_per(unit) if isinstance(unit, str) else None
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in edges)
    if factor is None or not numeric:
        raise DatasetError(
            "PixelSize must be two numbers and PixelSizeUnits one of mm, um, nm",
            where=where,
            seen=f"{size!r}, {unit!r}"[:200],
        )
    notes = [] if isinstance(size, list) else ["PixelSize is one number: taken for both edges"]
    if unit not in _UNITS:
        notes.append(f"PixelSizeUnits {unit!r} is not as BIDS writes it: taken as {factor:g} um")
    x, y = (_number(v) * factor for v in edges)
    return checked(x, y, "bids-sidecar", where=where), notes


def _number(value: int | float) -> float:
    try:
        return float(value)
    except OverflowError:
        return math.inf
