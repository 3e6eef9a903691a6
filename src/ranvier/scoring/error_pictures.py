"""Micrographs with what a segmentation missed, invented and confused, in colours that do not need colour vision."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._lettering import draw_scale_bar
from ranvier.micrograph import Array, Micrograph
from ranvier.pictures import png

__all__ = ["FALSE", "MISSED", "WRONG", "error_png"]

MISSED, FALSE, WRONG = (230, 100, 0), (30, 140, 255), (255, 235, 0)
"""Orange, blue and yellow, which differ in lightness and to every kind of colour vision (after Wong 2011)."""
_KINDS = (("missed", MISSED), ("false", FALSE), ("wrong class", WRONG))
_OPACITY = 0.75
_DIMMED = 0.7
"""Brightness of the micrograph below the errors, so that they stand out of white tissue, too."""
_LARGEST, _SMALLEST = 1100, 400
"""Longest edge of a panel, in px of the picture."""
_ROWS_AT_A_TIME = 512
_STRETCH_PERCENT = (0.5, 99.5)
_GAP, _FONT, _LINE, _SWATCH = 10, 15, 21, 15
_NARROWEST = 520
_WIDE = 1.7
"""Images this many times as wide as high are shown below each other."""
_GROUND, _INK = (24, 24, 24), (235, 235, 235)
Picture = NDArray[np.uint8]


def error_png(
    micrograph: Micrograph,
    predicted: NDArray[np.uint8],
    truth: NDArray[np.uint8],
    *,
    lines: Sequence[str],
    drawn: bool = False,
) -> bytes:
    """A micrograph, and beside it the same with its errors: missed, false, and of the wrong class, as PNG.

    Parameters
    ----------
    micrograph
        Shown from its 0.5th to its 99.5th percentile; large ones are shrunk, small ones enlarged.
    predicted, truth
        uint8 classes, the same shape.
    lines
        Text above.
    drawn
        The micrograph is a drawing of the truth: it is not shown alone, and its grey levels are kept.

    References
    ----------
    Wong B. (2011). Points of view: Color blindness. Nat Methods 8, 441.
    """
    low, high = (0.0, 255.0) if drawn else _range(micrograph.pixels)
    scale = _Scale.of(micrograph.shape)
    wrong = _errors(predicted, truth)
    shares = [np.count_nonzero(wrong == kind) / max(wrong.size, 1) for kind in (1, 2, 3)]
    panels = [] if drawn else [_panel(micrograph.pixels, None, (low, high), scale)]
    panels.append(_panel(micrograph.pixels, wrong, (low, high), scale))
    size = micrograph.pixel_size
    if size is not None:
        draw_scale_bar(panels[-1], size.um * scale.shrunk / scale.enlarged)
    return png(_sheet(panels, lines, shares))


def _range(pixels: Array) -> tuple[float, float]:
    step = max(1, math.isqrt(pixels.size // 4_000_000))
    low, high = np.percentile(pixels[::step, ::step], _STRETCH_PERCENT)
    return float(low), float(high) if high > low else float(low) + 1.0


@dataclass(frozen=True)
class _Scale:
    """An image is shrunk, or enlarged, by a whole number."""

    shrunk: int
    enlarged: int

    @classmethod
    def of(cls, shape: tuple[int, int]) -> _Scale:
        edge = max(shape)
        return cls(-(-edge // _LARGEST), max(1, -(-_SMALLEST // edge)) if edge < _SMALLEST else 1)


def _errors(predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """0 right, 1 missed, 2 false, 3 of the wrong class."""
    kinds = np.array([[0, 2, 2], [1, 0, 3], [1, 3, 0]], dtype=np.uint8)
    found: NDArray[np.uint8] = kinds[truth, predicted]
    return found


def _panel(
    pixels: Array, wrong: NDArray[np.uint8] | None, limits: tuple[float, float], scale: _Scale
) -> Picture:
    """RGB of an image at the picture's scale, with its errors where they are given."""
    from PIL import Image

    low, high = limits
    bands: list[Picture] = []
    step = max(1, _ROWS_AT_A_TIME // scale.shrunk) * scale.shrunk
    for top in range(0, pixels.shape[0], step):
        part = pixels[top : top + step].astype(np.float32)
        grey = np.clip((part - low) * (255 / (high - low)), 0, 255)
        colour = np.repeat(grey[..., None], 3, axis=2)
        if wrong is not None:
            colour *= np.float32(_DIMMED)
            for kind, (_, paint) in enumerate(_KINDS, 1):
                where = wrong[top : top + step] == kind
                ink = np.array(paint, np.float32) * _OPACITY
                colour[where] = colour[where] * (1 - _OPACITY) + ink
        band = Image.fromarray(colour.round().astype(np.uint8))
        bands.append(np.asarray(band.reduce(scale.shrunk) if scale.shrunk > 1 else band))
    picture = np.concatenate(bands)
    if scale.enlarged > 1:
        picture = picture.repeat(scale.enlarged, axis=0).repeat(scale.enlarged, axis=1)
    return picture.copy()


def _sheet(panels: Sequence[Picture], lines: Sequence[str], shares: Sequence[float]) -> Picture:
    """Panels side by side, or wide ones below each other, the text above and the legend below."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(_FONT)
    rows, columns = panels[0].shape[:2]
    down, across = (rows + _GAP, 0) if columns > _WIDE * rows else (0, columns + _GAP)
    last = len(panels) - 1
    inner = max(columns + across * last, _NARROWEST)
    draw = ImageDraw.Draw(Image.new("RGB", (1, 1)))
    text = [part for line in lines for part in _lines(_plain(line), draw, font, inner)]
    legend = _legend(shares, draw, font, inner)
    top = _GAP + len(text) * _LINE + _GAP // 2
    below = top + rows + down * last + _GAP
    height = below + (1 + max(row for *_, row in legend)) * _LINE + _GAP
    sheet = Image.new("RGB", (inner + 2 * _GAP, height), _GROUND)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(text):
        draw.text((_GAP, _GAP + number * _LINE), line, fill=_INK, font=font)
    for number, panel in enumerate(panels):
        place = (_GAP + number * across, top + number * down)
        sheet.paste(Image.fromarray(panel), place)
    for said, colour, at, row in legend:
        left, y = _GAP + at, below + row * _LINE
        if colour is not None:
            draw.rectangle((left, y + 2, left + _SWATCH, y + 2 + _SWATCH), fill=colour)
            left += _SWATCH + 6
        draw.text((left, y), said, fill=_INK, font=font)
    return np.asarray(sheet)


_Entry = tuple[str, tuple[int, int, int] | None, int, int]
"""Text, colour of its swatch, distance from the left, row."""


def _legend(shares: Sequence[float], draw: Any, font: Any, width: int) -> list[_Entry]:
    """Entries of the legend, in as many rows as are needed."""
    entries: list[_Entry] = []
    at = row = 0
    said: Iterator[tuple[str, tuple[int, int, int] | None]] = iter(
        [
            *(
                (f"{name} {100 * share:.2g} %", colour)
                for (name, colour), share in zip(_KINDS, shares, strict=True)
            ),
            ("of all pixels", None),
        ]
    )
    for text, colour in said:
        wide = round(draw.textlength(text, font=font)) + (_SWATCH + 6 if colour else 0)
        if at and at + wide > width:
            at, row = 0, row + 1
        entries.append((text, colour, at, row))
        at += wide + (22 if colour else 0)
    return entries


def _lines(text: str, draw: Any, font: Any, width: int) -> list[str]:
    """A text in lines that fit; a word that does not is cut."""
    lines = [""]
    for word in text.split():
        rest = word
        joined = f"{lines[-1]} {rest}".strip()
        if draw.textlength(joined, font=font) <= width:
            lines[-1] = joined
            continue
        if lines[-1]:
            lines.append("")
        while draw.textlength(rest, font=font) > width:
            fitting = next(
                n
                for n in range(len(rest) - 1, 0, -1)
                if draw.textlength(rest[:n], font=font) <= width
            )
            lines[-1] = rest[:fitting]
            lines.append("")
            rest = rest[fitting:]
        lines[-1] = rest
    return lines


def _plain(text: str) -> str:
    """Letters that Pillow's own font has."""
    return text.encode("latin-1", "replace").decode("latin-1")
