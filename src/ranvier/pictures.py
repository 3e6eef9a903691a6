"""Pictures to look at: the micrograph with its fibres drawn in, and fibres in colours of their own."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ranvier._lettering import draw_numbers, draw_scale_bar
from ranvier._png_out import encode_png
from ranvier.calibration import PixelSize
from ranvier.micrograph import AXON, CLASS_NAMES, MYELIN, Array, Fibres, Instances

__all__ = [
    "AXON_COLOUR",
    "MYELIN_COLOUR",
    "OUTLINE_COLOUR",
    "instance_map_png",
    "overlay_png",
    "png",
]

AXON_COLOUR = (30, 110, 255)
MYELIN_COLOUR = (255, 60, 40)
OUTLINE_COLOUR = (255, 220, 0)
_OPACITY = 0.4
_STRETCH_PERCENT = (0.5, 99.5)
_ROWS_AT_A_TIME = 512
_FEW_PIXELS = 1 << 17
"""A table of all colours is only worth its while where there are more."""
_GOLDEN = (math.sqrt(5) - 1) / 2
_NEAR_PX = (1, 3, 8)
"""Fibres this far apart, along a row or a column, are neighbours."""
_HUES_APART = 0.13
"""Least difference between neighbours' hues, as a share of the circle."""
_ROUNDS = 100
_AXON_LOOK = (0.35, 1.0)
_MYELIN_LOOK = (0.95, 0.62)
"""Saturation and value."""
_LARGEST_PNG_UNIT = 2**31 - 1


def overlay_png(
    pixels: Array,
    classes: NDArray[np.uint8],
    fibres: NDArray[np.int32] | None,
    *,
    numbers: Fibres | None = None,
    pixel_size: PixelSize | None = None,
) -> bytes:
    """The micrograph with axons in blue, myelin in red and each fibre's outline in yellow, as PNG.

    Parameters
    ----------
    pixels
        Grey levels, shape (rows, columns); shown from their 0.5th to their 99.5th percentile.
    classes
        uint8, the same shape.
    fibres
        Label image whose borders are drawn, or None for no outlines.
    numbers
        Fibres whose ids are written at the centroids of their axons, or None for no numbers.
    pixel_size
        With one, a scale bar is drawn, unless the image is too small for it, and the PNG states its pixels
        per metre.
    """
    paint = _Paint(pixels)
    out = np.empty((*pixels.shape, 3), dtype=np.uint8)
    for top in range(0, pixels.shape[0], _ROWS_AT_A_TIME):
        rows = slice(top, top + _ROWS_AT_A_TIME)
        out[rows] = paint(pixels[rows], classes[rows])
        if fibres is not None:
            context = fibres[max(top - 1, 0) : rows.stop + 1]
            first = min(top, 1)
            out[rows][_outlines(context)[first : first + len(out[rows])]] = OUTLINE_COLOUR
    if numbers is not None:
        draw_numbers(out, numbers)
    if pixel_size is not None:
        draw_scale_bar(out, pixel_size.um)
    return png(out, pixel_size=pixel_size)


class _Paint:
    """Grey levels and classes -> colours. Of whole numbers each colour is worked out once and then looked up."""

    def __init__(self, pixels: Array) -> None:
        self._low, self._high = _shown_range(pixels)
        self._table: NDArray[np.uint32] | None = None
        if pixels.dtype in (np.uint8, np.uint16) and pixels.size > _FEW_PIXELS:
            levels = np.arange(np.iinfo(pixels.dtype).max + 1, dtype=pixels.dtype)[None]
            table = np.zeros((len(CLASS_NAMES), levels.size, 4), dtype=np.uint8)
            for value in range(len(CLASS_NAMES)):
                table[value, :, :3] = self._painted(levels, np.full(levels.shape, value))[0]
            self._table = table.view(np.uint32).ravel()
            self._levels = levels.size

    def __call__(self, pixels: Array, classes: NDArray[np.uint8]) -> NDArray[np.uint8]:
        if self._table is None:
            return self._painted(pixels, classes)
        index = classes * np.int32(self._levels) + pixels
        colours = self._table[index].view(np.uint8).reshape(*pixels.shape, 4)
        shown: NDArray[np.uint8] = colours[..., :3]
        return shown

    def _painted(self, pixels: Array, classes: Array) -> NDArray[np.uint8]:
        low, high = self._low, self._high
        grey = np.clip((pixels.astype(np.float32) - low) * (255 / (high - low)), 0, 255)
        colour = np.repeat(grey[..., None], 3, axis=2)
        for value, paint in ((MYELIN, MYELIN_COLOUR), (AXON, AXON_COLOUR)):
            where = classes == value
            colour[where] = colour[where] * (1 - _OPACITY) + np.array(paint, np.float32) * _OPACITY
        painted: NDArray[np.uint8] = colour.round().astype(np.uint8)
        return painted


def _shown_range(pixels: Array) -> tuple[float, float]:
    step = max(1, int(math.sqrt(pixels.size / 4e6)))
    low, high = np.percentile(pixels[::step, ::step], _STRETCH_PERCENT)
    return float(low), float(high) if high > low else float(low) + 1.0


def _outlines(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Find the border pixels of fibres; between two touching fibres, only those of the one above or to the left."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & (labels[:, :-1] > 0)
    edge[:-1] |= (labels[:-1] != labels[1:]) & (labels[:-1] > 0)
    edge[:, 1:] |= (labels[:, :-1] == 0) & (labels[:, 1:] > 0)
    edge[1:] |= (labels[:-1] == 0) & (labels[1:] > 0)
    return edge


def instance_map_png(instances: Instances, *, pixel_size: PixelSize | None = None) -> bytes:
    """Every fibre in a colour of its own on black, its axon light and its myelin dark, as PNG.

    Hues follow from ids by steps of the golden section; where two neighbours would be alike, the one with
    the higher id is given another. The same labels always have the same colours.

    Parameters
    ----------
    instances
        Label images.
    pixel_size
        With one, the PNG states its pixels per metre.
    """
    hues = _hues(instances)
    axon_colours, myelin_colours = (_rgb(hues, *look) for look in (_AXON_LOOK, _MYELIN_LOOK))
    axon_colours[0] = myelin_colours[0] = 0
    out = np.empty((*instances.fibres.shape, 3), dtype=np.uint8)
    for top in range(0, out.shape[0], _ROWS_AT_A_TIME):
        rows = slice(top, top + _ROWS_AT_A_TIME)
        axons = instances.axons[rows]
        out[rows] = myelin_colours[instances.fibres[rows]]
        out[rows][axons > 0] = axon_colours[axons[axons > 0]]
    return png(out, pixel_size=pixel_size)


def _hues(instances: Instances) -> NDArray[np.float64]:
    """Hue of each id in [0, 1), those of neighbours at least ``_HUES_APART`` apart where there is room."""
    hues = np.arange(instances.count + 1, dtype=np.float64)
    hues = hues * _GOLDEN % 1.0
    low, high = _neighbours(instances.fibres, instances.count)
    for _ in range(_ROUNDS):
        apart = np.abs(hues[low] - hues[high])
        alike = np.minimum(apart, 1 - apart) < _HUES_APART
        if not alike.any():
            break
        moved = np.unique(high[alike])
        hues[moved] = (hues[moved] + _GOLDEN) % 1.0
    return hues


def _neighbours(labels: NDArray[np.int32], count: int) -> tuple[Array, Array]:
    """Lower and higher id of each pair of fibres that touch or nearly do."""
    found = [np.zeros(0, dtype=np.int64)]
    reach = max(_NEAR_PX)
    for top in range(0, labels.shape[0], _ROWS_AT_A_TIME):
        band = labels[top : top + _ROWS_AT_A_TIME + reach]
        for gap in _NEAR_PX:
            for one, other in ((band[gap:], band[:-gap]), (band[:, gap:], band[:, :-gap])):
                pair = (one != other) & (one > 0) & (other > 0)
                a, b = one[pair].astype(np.int64), other[pair].astype(np.int64)
                found.append(np.unique(np.minimum(a, b) * (count + 1) + np.maximum(a, b)))
    low, high = np.divmod(np.unique(np.concatenate(found)), count + 1)
    return low, high


def _rgb(hues: NDArray[np.float64], saturation: float, value: float) -> NDArray[np.uint8]:
    """Colours of hues, shape (n, 3) (Smith A.R. (1978). Color gamut transform pairs. SIGGRAPH 12, 12-19)."""
    k = (hues[:, None] * 6 + np.array([5, 3, 1])) % 6
    share = value - value * saturation * np.clip(np.minimum(k, 4 - k), 0, 1)
    colours: NDArray[np.uint8] = np.rint(share * 255).astype(np.uint8)
    return colours


def png(pixels: NDArray[np.uint8], *, pixel_size: PixelSize | None = None) -> bytes:
    """8-bit grey (rows, columns) or RGB (rows, columns, 3) as PNG, with its pixels per metre where known."""
    per_metre = None
    if pixel_size is not None and 1e6 / pixel_size.um <= _LARGEST_PNG_UNIT:
        per_metre = int(1e6 / pixel_size.um + 0.5)
    return encode_png(pixels, per_metre=per_metre)
