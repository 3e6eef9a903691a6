"""A sheet of small pictures of annotated images: the whole image, and a part of it with the masks' outlines."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.micrograph import AXON, BACKGROUND, Array, Micrograph
from ranvier.pictures import AXON_COLOUR, MYELIN_COLOUR, png

__all__ = ["Cell", "cell", "sheet_png"]

_EDGE = 260
"""Edge of each of the two pictures of a cell, in px of the sheet."""
_GAP = 8
_LINE = 17
_FONT = 13
_COLUMNS = 3
_FIBRES_ACROSS = 22
"""The part that is shown with outlines is this many typical axon diameters wide."""
_SMALLEST_PART = 96
_STRETCH_PERCENT = (0.5, 99.5)
_GROUND, _INK, _FRAME = (24, 24, 24), (235, 235, 235), (255, 220, 0)


@dataclass(frozen=True, eq=False)
class Cell:
    """The two pictures of an image, RGB, and lines of text about it."""

    whole: NDArray[np.uint8]
    part: NDArray[np.uint8]
    lines: tuple[str, ...]


def cell(
    micrograph: Micrograph,
    classes: NDArray[np.uint8],
    *,
    lines: Sequence[str],
    typical_px: float | None,
) -> Cell:
    """Make the pictures of an image.

    Parameters
    ----------
    micrograph
        Shown from its 0.5th to its 99.5th percentile.
    classes
        uint8, the same shape; axons are outlined in blue, myelin in red.
    lines
        Text beside the pictures.
    typical_px
        Diameter of a typical axon, which decides how large a part is shown with outlines; None for the whole.
    """
    step = max(1, math.isqrt(micrograph.pixels.size // 1_000_000))
    low, high = np.percentile(micrograph.pixels[::step, ::step], _STRETCH_PERCENT)
    rows, columns = micrograph.shape
    wanted = max(rows, columns) if typical_px is None else round(_FIBRES_ACROSS * typical_px)
    edge = min(max(wanted, _SMALLEST_PART), max(rows, columns))
    top, left = max(0, (rows - edge) // 2), max(0, (columns - edge) // 2)
    place = (slice(top, top + edge), slice(left, left + edge))
    whole = _fitted(_grey(micrograph.pixels[::step, ::step], low, high))
    _frame(whole, [v * whole.shape[0] / rows for v in (top, left, edge)])
    part = _fitted(_grey(micrograph.pixels[place], low, high))
    _outline(part, classes[place])
    return Cell(whole, part, tuple(lines))


def _grey(pixels: Array, low: float, high: float) -> NDArray[np.uint8]:
    share = (pixels.astype(np.float32) - low) / max(high - low, 1e-6)
    grey: NDArray[np.uint8] = (np.clip(share, 0, 1) * 255).astype(np.uint8)
    return grey


def _fitted(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """RGB picture whose longer edge is ``_EDGE``."""
    from PIL import Image

    size = _fitted_size(grey.shape[0], grey.shape[1])
    resized = Image.fromarray(grey).resize(size[::-1], Image.Resampling.LANCZOS)
    picture: NDArray[np.uint8] = np.repeat(np.asarray(resized)[..., None], 3, axis=2)
    return picture


def _fitted_size(rows: int, columns: int) -> tuple[int, int]:
    scale = _EDGE / max(rows, columns)
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def _frame(picture: NDArray[np.uint8], place: Sequence[float]) -> None:
    """Mark the part that is shown beside; nothing where that is the whole."""
    rows, columns = picture.shape[:2]
    top, left, edge = (round(v) for v in place)
    bottom, right = min(top + edge, rows) - 1, min(left + edge, columns) - 1
    if top <= 0 and left <= 0 and bottom >= rows - 2 and right >= columns - 2:
        return
    picture[[top, bottom], left:right] = _FRAME
    picture[top:bottom, [left, right]] = _FRAME


def _outline(picture: NDArray[np.uint8], classes: NDArray[np.uint8]) -> None:
    """Draw borders of axons and of fibres at the picture's own scale."""
    rows, columns = picture.shape[:2]
    at_row = np.minimum((np.arange(rows) + 0.5) * classes.shape[0] / rows, classes.shape[0] - 1)
    at_col = np.minimum(
        (np.arange(columns) + 0.5) * classes.shape[1] / columns, classes.shape[1] - 1
    )
    small = classes[np.ix_(at_row.astype(np.intp), at_col.astype(np.intp))]
    for inside, colour in ((small != BACKGROUND, MYELIN_COLOUR), (small == AXON, AXON_COLOUR)):
        border = np.zeros(inside.shape, bool)
        border[1:] |= inside[1:] & ~inside[:-1]
        border[:-1] |= inside[:-1] & ~inside[1:]
        border[:, 1:] |= inside[:, 1:] & ~inside[:, :-1]
        border[:, :-1] |= inside[:, :-1] & ~inside[:, 1:]
        picture[border] = colour


def sheet_png(cells: Sequence[Cell], *, title: str) -> bytes:
    """All cells in rows of three below a title, as PNG.

    Parameters
    ----------
    cells
        At least one.
    title
        One line.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_FONT)
    columns = min(_COLUMNS, len(cells))
    width, head = 2 * _EDGE + 3 * _GAP, _LINE + 2 * _GAP
    text = max(len(c.lines) for c in cells) * _LINE
    height = _EDGE + text + 2 * _GAP
    shape = (columns * width, head + math.ceil(len(cells) / columns) * height)
    sheet = Image.new("RGB", shape, _GROUND)
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, _GAP), _plain(title), fill=_INK, font=font)
    for number, one in enumerate(cells):
        left = number % columns * width + _GAP
        top = head + number // columns * height
        for row, line in enumerate(one.lines):
            shown = _cut(_plain(line), draw, font, 2 * _EDGE + _GAP)
            draw.text((left, top + row * _LINE), shown, fill=_INK, font=font)
        for column, picture in enumerate((one.whole, one.part)):
            place = (left + column * (_EDGE + _GAP), top + text + _GAP // 2)
            sheet.paste(Image.fromarray(picture), place)
    return png(np.asarray(sheet))


def _plain(text: str) -> str:
    """Letters that Pillow's own font has."""
    return text.encode("latin-1", "replace").decode("latin-1")


def _cut(text: str, draw: object, font: object, width: int) -> str:
    while len(text) > 4 and draw.textlength(text, font=font) > width:  # type: ignore[attr-defined]
        text = text[:-4].rstrip() + "..."
    return text
