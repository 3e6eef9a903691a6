"""Heat maps: a row per test set, a column per model, panels side by side, numbers in the cells."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ranvier.errors import SettingsError
from ranvier.scoring.drawing import ellipsis, plain_look, rendered, wrapped
from ranvier.scoring.heat_grid import CELL, LONGEST, SLANT, Grid, Layout, grid_of
from ranvier.writing import make_folder, write_atomically

__all__ = ["HeatMapSettings", "heat_map", "heat_map_files"]

Table = Mapping[tuple[str, str], float]
"""Row and column to value."""
Cell = tuple[str, str]
_BETWEEN, _BAR, _NARROWEST = 0.25, 0.75, 3.2
"""Inches between panels, for the colour bar with its numbers, and of the narrowest picture."""
_DARK, _LIGHT, _NOTHING = "#1a1a1a", "#ffffff", "#e6e6e6"
_MARK = "†"


@dataclass(frozen=True)
class HeatMapSettings:
    """How a heat map looks.

    Attributes
    ----------
    rows, columns
        Which, in order; None takes all, in the order of the tables.
    groups
        Title of a group to its rows; groups are set apart by a gap. A title may be empty. Rows in no group come first.
    marked
        Rows and columns whose cells get a dagger.
    note
        Line below that says what the dagger means.
    label
        What the numbers are, beside the colour bar.
    limits
        Values of the first and the last colour; beyond them it does not change.
    colours
        A colour map of matplotlib.
    decimals
        Of the numbers in the cells.
    title
        Above all.
    """

    rows: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    groups: Mapping[str, Sequence[str]] = field(default_factory=dict)
    marked: Collection[Cell] = ()
    note: str = ""
    label: str = "Dice"
    limits: tuple[float, float] = (0.0, 1.0)
    colours: str = "viridis"
    decimals: int = 3
    title: str = ""

    def __post_init__(self) -> None:
        low, high = self.limits
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            raise SettingsError(
                "must be two numbers, the lower first", where="limits", seen=self.limits
            )


def heat_map(
    tables: Mapping[str, Table], path: Path, *, settings: HeatMapSettings | None = None
) -> tuple[Path, Path]:
    """Draw a heat map and write it as PNG and SVG; the same tables give the same bytes.

    Parameters
    ----------
    tables
        Title of each panel to its table, row and column to value. A cell without a value, or with NaN, is grey.
    path
        Of the PNG; the SVG has the same name with its own ending.
    settings
        Order, groups, marks and looks.

    Returns
    -------
    tuple of Path
        The two files.

    Raises
    ------
    MissingExtraError
        matplotlib is not installed.
    SettingsError
        There is no table, no row or no column; a group names a row that is not there; or no such colour map.
    OutputError
        The files cannot be written.
    """
    files = heat_map_files(tables, settings=settings)
    make_folder(path.parent)
    stem = path.name.removesuffix(path.suffix if path.suffix in files else "")
    png, svg = (path.with_name(stem + ending) for ending in files)
    for one in (png, svg):
        write_atomically(one, files[one.suffix])
    return png, svg


def heat_map_files(
    tables: Mapping[str, Table], *, settings: HeatMapSettings | None = None
) -> dict[str, bytes]:
    """The same as bytes: ``.png`` and ``.svg`` to content."""
    settings = settings or HeatMapSettings()
    cells = [cell for table in tables.values() for cell in table]
    rows = settings.rows or tuple(dict.fromkeys(row for row, _ in cells))
    columns = settings.columns or tuple(dict.fromkeys(column for _, column in cells))
    grid = grid_of(rows, columns, settings.groups)
    with plain_look():
        figure = _drawn(tables, grid, settings)
        return {f".{kind}": rendered(figure, kind) for kind in ("png", "svg")}


def _drawn(tables: Mapping[str, Table], grid: Grid, settings: HeatMapSettings) -> Any:
    from matplotlib import colormaps
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    if settings.colours not in colormaps:
        raise SettingsError("no such colour map", where="colours", seen=settings.colours)
    layout = Layout.of(grid, titled=bool(settings.title))
    cells = grid.height * CELL[1]
    width = max(layout.left + len(tables) * (layout.panel + _BETWEEN) + _BAR, _NARROWEST)
    notes = wrapped(settings.note, int(width / 0.068)) if settings.note else ""
    below = layout.below + 0.15 * (len(notes.splitlines()) + 1 if notes else 0)
    height = cells + layout.above + below
    figure = Figure(figsize=(width, height))

    def place(left: float, wide: float) -> Any:
        return figure.add_axes((left / width, below / height, wide / width, cells / height))

    colours = ScalarMappable(Normalize(*settings.limits, clip=True), settings.colours)
    left = layout.left
    for number, (title, table) in enumerate(tables.items()):
        axis = place(left, layout.panel)
        for cell in _cells(table, grid):
            _paint(axis, cell, colours, settings)
        axis.set_title(title)
        _frame(axis, grid, slanted=layout.slanted, first=number == 0)
        left += layout.panel + _BETWEEN
    bar = figure.colorbar(colours, cax=place(left - 0.08, 0.13), label=settings.label)
    bar.outline.set_visible(False)
    bar.locator = MaxNLocator(max(2, min(5, int(cells / 0.25))))
    bar.update_ticks()
    if settings.title:
        text = wrapped(settings.title, int(width / 0.09))
        figure.text(0.5, 1 - 0.1 / height, text, ha="center", va="top", fontsize=11)
    if notes:
        figure.text(0.1 / width, 0.1 / height, notes, ha="left", va="bottom", fontsize=7.5)
    return figure


@dataclass(frozen=True)
class _Drawn:
    name: Cell
    left: int
    top: float
    value: float


def _cells(table: Table, grid: Grid) -> Iterator[_Drawn]:
    for row in grid.rows:
        for left, column in enumerate(grid.columns):
            cell = (row.name, column)
            yield _Drawn(cell, left, row.top, float(table.get(cell, math.nan)))


def _paint(axis: Any, cell: _Drawn, colours: Any, settings: HeatMapSettings) -> None:
    """Draw a cell with its number, in dark or light letters."""
    from matplotlib.patches import Rectangle

    unknown = math.isnan(cell.value)
    fill: Any = _NOTHING if unknown else colours.to_rgba(cell.value)
    ink = _DARK if unknown or _luminance(fill) > 0.2 else _LIGHT
    marked = cell.name in settings.marked
    axis.add_patch(
        Rectangle((cell.left, cell.top), 1, 1, facecolor=fill, edgecolor="white", linewidth=1.5)
    )
    if marked:
        inset = (cell.left + 0.06, cell.top + 0.1)
        frame = Rectangle(
            inset, 0.88, 0.8, fill=False, edgecolor=ink, linewidth=0.9, linestyle=(0, (2, 2))
        )
        axis.add_patch(frame)
    text = "-" if unknown else f"{cell.value:.{settings.decimals}f}"
    axis.text(
        cell.left + 0.5,
        cell.top + 0.52,
        text + (_MARK if marked else ""),
        ha="center",
        va="center",
        fontsize=8.5,
        color=ink,
    )


def _luminance(colour: Sequence[float]) -> float:
    """Relative luminance of an sRGB colour (IEC 61966-2-1)."""
    rgb = np.asarray(colour[:3], dtype=np.float64)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))


def _frame(axis: Any, grid: Grid, *, slanted: bool, first: bool) -> None:
    """Set limits, labels and titles of groups."""
    labels = [ellipsis(column, LONGEST) for column in grid.columns]
    axis.set_xlim(0, len(labels))
    axis.set_ylim(grid.height, 0)
    axis.set_xticks([i + 0.5 for i in range(len(labels))])
    how = {"rotation": SLANT, "ha": "right", "rotation_mode": "anchor"} if slanted else {}
    axis.set_xticklabels(labels, **how)
    axis.set_yticks([row.top + 0.5 for row in grid.rows])
    axis.set_yticklabels([ellipsis(row.name, LONGEST) for row in grid.rows])
    axis.tick_params(length=0, pad=3, labelleft=first)
    for spine in axis.spines.values():
        spine.set_visible(False)
    if first:
        for title, top in grid.titles:
            axis.text(
                -0.08,
                top - 0.1,
                title,
                ha="right",
                va="bottom",
                fontsize=9,
                fontweight="bold",
            )
