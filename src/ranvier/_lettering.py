"""Numbers and a scale bar, written into a picture."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.micrograph import Fibres

_SMALLEST_TEXT, _LARGEST_TEXT = 10, 48
_DIGIT_WIDTH = 0.62
"""Width of a digit, as a share of the size of the font."""
_SMALLEST_PICTURE = (60, 120)
"""Rows and columns below which there is no room for a scale bar."""
_BAR_SHARE = 0.2
_GROUND = 0.6
"""Opacity of the ground on which the scale bar stands."""
WHITE, BLACK = (255, 255, 255), (0, 0, 0)


def draw_numbers(picture: NDArray[np.uint8], fibres: Fibres) -> None:
    """Write each fibre's id at its axon's centroid, white with a black rim, as large as the axon allows.

    Parameters
    ----------
    picture
        RGB, shape (rows, columns, 3); changed in place.
    fibres
        The table's ``centroid_row_px``, ``centroid_col_px`` and area of the axon say where and how large.
    """
    font = _fonts()
    table, size = fibres.table, fibres.pixel_size
    px2 = table["axon_area_px2"] if size is None else table["axon_area_um2"] / size.um**2
    diameters = 2 * np.sqrt(np.asarray(px2) / np.pi)
    places = (table["id"], table["centroid_row_px"], table["centroid_col_px"], diameters)
    for label, row, col, diameter in zip(*(p.tolist() for p in places), strict=True):
        text = str(label)
        fitting = min(0.45 * diameter, 0.8 * diameter / (_DIGIT_WIDTH * len(text)))
        height = min(max(fitting, _SMALLEST_TEXT), _LARGEST_TEXT)
        ink, rim = _letters(text, font(round(height)), rim=max(1, round(height / 12)))
        top, left = round(row - ink.shape[0] / 2), round(col - ink.shape[1] / 2)
        _paint(picture, rim, (top, left), colour=BLACK)
        _paint(picture, ink, (top, left), colour=WHITE)


def _fonts() -> Any:
    """Pillow's own font, by size; each size is loaded once."""
    from PIL import ImageFont

    loaded: dict[int, Any] = {}

    def font(size: int) -> Any:
        if size not in loaded:
            loaded[size] = ImageFont.load_default(size)
        return loaded[size]

    return font


def _letters(text: str, font: Any, *, rim: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Coverage of the letters in [0, 1], and of the letters with their rim; same shape."""
    from PIL import Image, ImageDraw

    left, top, right, bottom = (round(v) for v in font.getbbox(text, stroke_width=rim))
    shape = (max(1, right - left + 1), max(1, bottom - top + 1))
    covers: list[NDArray[np.float32]] = []
    for stroke in (0, rim):
        image = Image.new("L", shape)
        write = partial(ImageDraw.Draw(image).text, (-left, -top), text, fill=255, font=font)
        write(stroke_width=stroke)
        covers.append(np.asarray(image, dtype=np.float32) / np.float32(255))
    return covers[0], covers[1]


def _paint(
    picture: NDArray[np.uint8],
    cover: NDArray[np.float32],
    place: tuple[int, int],
    *,
    colour: tuple[int, int, int],
) -> None:
    """Blend a colour in where a cover is laid; what reaches beyond the picture is cut off."""
    (top, left), (rows, cols) = place, cover.shape
    first, start = max(0, -top), max(0, -left)
    part = picture[max(top, 0) : max(top + rows, 0), max(left, 0) : max(left + cols, 0)]
    if not part.size:
        return
    share = cover[first : first + part.shape[0], start : start + part.shape[1], None]
    part[:] = np.rint(part * (1 - share) + np.array(colour, np.float32) * share)


def draw_scale_bar(picture: NDArray[np.uint8], um: float) -> None:
    """Draw a bar of about a fifth of the width with its length, in the bottom right corner.

    Parameters
    ----------
    picture
        RGB, shape (rows, columns, 3); changed in place, unless there is no room.
    um
        Edge of a pixel in micrometres.
    """
    rows, cols = picture.shape[:2]
    if rows < _SMALLEST_PICTURE[0] or cols < _SMALLEST_PICTURE[1]:
        return
    length = round_length(_BAR_SHARE * cols * um)
    size = int(min(max(min(rows, cols) / 28, 12), 240))
    letters, _ = _letters(_length_text(length), _fonts()(size), rim=0)
    bar = round(length / um)
    thick, gap = max(2, size // 5), max(4, size // 2)
    height, width = letters.shape[0] + thick + 3 * gap, max(letters.shape[1], bar) + 2 * gap
    if height + gap > rows or width + gap > cols:
        return
    top, left = rows - height - gap, cols - width - gap
    ground = np.full((height, width), _GROUND, dtype=np.float32)
    _paint(picture, ground, (top, left), colour=BLACK)
    middle = left + width / 2
    text_left, bar_left = round(middle - letters.shape[1] / 2), round(middle - bar / 2)
    _paint(picture, letters, (top + gap, text_left), colour=WHITE)
    below = top + 2 * gap + letters.shape[0]
    picture[below : below + thick, bar_left : bar_left + bar] = WHITE


def round_length(wanted: float) -> float:
    """The nearest length, by ratio, of the series 1, 2, 5, 10, 20, 50, ..."""
    power = 10.0 ** math.floor(math.log10(wanted))
    return min((f * power for f in (1, 2, 5, 10)), key=lambda x: abs(math.log(x / wanted)))


def _length_text(um: float) -> str:
    """Length with its unit; Pillow's font has no Greek letters, so a micrometre is um as in the tables."""
    return f"{um:g} um" if um > 0.999 else f"{um * 1000:g} nm"
