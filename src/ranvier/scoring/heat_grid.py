"""Where the cells of a heat map stand, and how much room its labels take."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ranvier.errors import SettingsError
from ranvier.scoring.drawing import ellipsis, text_width

__all__ = ["CELL", "LONGEST", "SLANT", "Grid", "Layout", "Row", "grid_of"]

CELL = (0.66, 0.36)
"""Width and height of a cell in inches."""
FONT = 9.0
SLANT = 40
"""Degrees by which long labels of columns are turned."""
LONGEST = 44
"""Letters of a label; of longer ones, beginning and end are shown."""
_COS, _SIN = math.cos(math.radians(SLANT)), math.sin(math.radians(SLANT))
_GAP, _TITLED_GAP = 0.4, 0.9
"""Between groups of rows, in cells; the wider one has room for a group's title."""


@dataclass(frozen=True)
class Row:
    """A row and its place, in cells from the top."""

    name: str
    top: float


@dataclass(frozen=True)
class Grid:
    """Where rows, columns and groups' titles stand, in cells from the top left."""

    rows: tuple[Row, ...]
    columns: tuple[str, ...]
    titles: tuple[tuple[str, float], ...]
    height: float


def grid_of(
    rows: Sequence[str], columns: Sequence[str], groups: Mapping[str, Sequence[str]]
) -> Grid:
    """Place rows, those in no group first, and the groups below.

    Raises
    ------
    SettingsError
        No row or no column; or a group names a row that is not there, or one twice.
    """
    if not rows or not columns:
        raise SettingsError("a heat map needs a row and a column", seen="nothing")
    grouped = [row for names in groups.values() for row in names]
    unknown = [row for row in grouped if row not in rows]
    if unknown or len(grouped) != len(set(grouped)):
        raise SettingsError(
            "a group of rows names one that is not there, or one twice",
            where="groups",
            seen=", ".join(unknown) or ", ".join(grouped),
        )
    parts = [("", [row for row in rows if row not in grouped]), *groups.items()]
    top = 0.0
    placed: list[Row] = []
    titles: list[tuple[str, float]] = []
    for title, names in parts:
        if not names:
            continue
        if title:
            top += _TITLED_GAP if placed else 0.5
            titles.append((title, top))
        elif placed:
            top += _GAP
        for name in names:
            placed.append(Row(name, top))
            top += 1
    return Grid(tuple(placed), tuple(columns), tuple(titles), top)


@dataclass(frozen=True)
class Layout:
    """Inches: of what stands around the cells, which always have one size."""

    left: float
    below: float
    above: float
    panel: float
    slanted: bool

    @classmethod
    def of(cls, grid: Grid, *, titled: bool) -> Layout:
        """Measure the labels; called within :func:`ranvier.scoring.drawing.plain_look`."""
        widths = [text_width(ellipsis(c, LONGEST), FONT) for c in grid.columns]
        slanted = max(widths) > 0.92 * CELL[0]
        # A slanted label ends below the middle of its column, and reaches down and to the left.
        reach = [w * _COS - (i + 0.5) * CELL[0] for i, w in enumerate(widths)]
        rows = [text_width(ellipsis(row.name, LONGEST), FONT) for row in grid.rows]
        titles = [text_width(title, FONT + 1) for title, _ in grid.titles]
        return cls(
            left=max(*rows, *titles, *(reach if slanted else ()), 0.0) + 0.2,
            below=max(widths) * _SIN + 0.25 if slanted else 0.3,
            above=0.7 if titled else 0.35,
            panel=len(grid.columns) * CELL[0],
            slanted=slanted,
        )
