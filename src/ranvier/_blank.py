"""Blank areas on a grid of blocks, and the closing of fibres; :mod:`ranvier.tissue` states the rules.

A block has four quarters, which are what is sampled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ranvier.micrograph import Array

if TYPE_CHECKING:
    from ranvier.tissue import TissueSettings

_SMALLEST, _LARGEST = 3, 16
"""Edge of a quarter of a block, in pixels."""
_MOST_BLOCKS = 100_000
_QUARTERS_PER_FIBRE = 8
_SAMPLES = 3
"""Pixels along the edge of a quarter that are looked at, at least, where it has more."""
_ENOUGH_PIXELS = 1_000_000
"""Pixels from which the typical fibre and the contrast are estimated, about."""
_SHARE_WITHOUT_FIBRES = 0.02
"""Typical fibre diameter as a share of the shorter side, for an image without fibres."""


def typical_fibre(fibres: NDArray[np.int32]) -> float:
    """Median diameter of equal area in pixels, from a part of the pixels."""
    step = _step(fibres.size)
    areas = np.bincount(fibres[::step, ::step].ravel())[1:]
    areas = areas[areas > 0] * step**2
    if not areas.size:
        return float(_SHARE_WITHOUT_FIBRES * min(fibres.shape))
    return float(2 * np.sqrt(np.median(areas) / np.pi))


def _step(size: int) -> int:
    return max(1, int(math.sqrt(size / _ENOUGH_PIXELS)))


def quarter_edge(typical: float, shape: tuple[int, int]) -> int:
    """Edge of a quarter of a block: an eighth of a fibre, within limits, and whole samples."""
    least = max(_SMALLEST, math.ceil(math.sqrt(shape[0] * shape[1] / _MOST_BLOCKS) / 2))
    edge = max(least, min(_LARGEST, int(typical / _QUARTERS_PER_FIBRE)))
    return math.ceil(edge / _stride(edge)) * _stride(edge)


def _stride(edge: int) -> int:
    """Every how many pixels one is looked at."""
    return max(1, math.ceil(edge / _SAMPLES) if edge > 4 else 1)


def _samples(plane: Array, edge: int) -> Array:
    """Samples by quarter of a block: shape (rows, samples, columns, samples), rows and columns even."""
    step = _stride(edge)
    each = edge // step
    rows, cols = (2 * math.ceil(n / (2 * edge)) for n in plane.shape)
    part = plane[::step, ::step]
    short = (rows * each - part.shape[0], cols * each - part.shape[1])
    if any(short):
        part = np.pad(part, ((0, short[0]), (0, short[1])), mode="edge")
    samples: Array = np.ascontiguousarray(part).reshape(rows, each, cols, each)
    return samples


def _pooled(quarters: Array) -> Array:
    """The four quarters of every block: shape (rows, 2, columns, 2)."""
    by_block: Array = quarters.reshape(quarters.shape[0] // 2, 2, quarters.shape[1] // 2, 2)
    return by_block


def _spread_out(blocks: Array) -> Array:
    """Blocks as quarters."""
    return np.repeat(np.repeat(blocks, 2, axis=0), 2, axis=1)


def filled_quarters(fibres: NDArray[np.int32], edge: int) -> NDArray[np.bool_]:
    """Which quarters a fibre reaches."""
    return _any(_any(_samples(fibres, edge) > 0, 1), 2)


def filled_blocks(quarters: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which blocks a fibre reaches."""
    return _any(_any(_pooled(quarters), 1), 2)


def _any(mask: Array, axis: int) -> NDArray[np.bool_]:
    found: NDArray[np.bool_] = np.logical_or.reduce(mask, axis=axis)
    return found


def closed(filled: NDArray[np.bool_], radius: float) -> NDArray[np.bool_]:
    """Closing by a disc, in blocks; beyond the border there is nothing to wear it away."""
    if not filled.any():
        return filled
    wide = ndimage.distance_transform_edt(~filled) <= radius
    if wide.all():
        return np.ones_like(filled)
    shut: NDArray[np.bool_] = ndimage.distance_transform_edt(wide) > radius
    return shut | filled


@dataclass(frozen=True, eq=False)
class Plane:
    """Statistics of the quarters of blocks, and the contrast inside fibres."""

    mean: NDArray[np.float32]
    variance: NDArray[np.float32]
    filled: NDArray[np.bool_]
    contrast: float


def blank_quarters(plane: Plane, typical: float, settings: TissueSettings) -> NDArray[np.bool_]:
    """Quarters of blocks without tissue; the typical fibre is given in blocks."""
    mean = _pooled(plane.mean).mean(axis=(1, 3))
    within = _pooled(plane.variance + plane.mean**2).mean(axis=(1, 3)) - mean**2
    filled = filled_blocks(plane.filled)
    rough, uneven = settings.texture * plane.contrast, settings.level * plane.contrast
    about = ndimage.uniform_filter(mean, 3, mode="nearest")
    varies = ndimage.uniform_filter(mean**2, 3, mode="nearest") - about**2
    plain = ~filled & (within <= rough**2) & (varies <= uneven**2)
    plain = _with_islands(plain, filled, math.pi / 4 * typical**2)
    side = settings.min_side_fibres * typical
    core = _joined(
        _opened(plain, max(3, math.ceil(settings.min_width_fibres * typical))),
        _opened(plain, max(3, math.ceil(side))),
    )
    if not core.any():
        return np.zeros_like(plane.filled)
    near = np.abs(plane.mean - _spread_out(_level_near(mean, core))) <= 2 * uneven
    grown = ~plane.filled & (plane.variance <= rough**2) & near
    return _with_islands(grown | _spread_out(core), plane.filled, (2 * side) ** 2)


def statistics(pixels: Array, edge: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Mean and variance of every quarter of a block."""
    values = _samples(pixels, edge).astype(np.float32)
    values -= values[0, 0, 0, 0]
    count = values.shape[1] * values.shape[3]
    mean = values.sum(axis=1).sum(axis=2) / count
    np.square(values, out=values)
    return mean, np.maximum(values.sum(axis=1).sum(axis=2) / count - mean**2, 0)


def contrast_in_fibres(pixels: Array, fibres: NDArray[np.int32]) -> float:
    """Standard deviation of grey levels in fibres; of all where there is none."""
    step = _step(pixels.size)
    part, inside = pixels[::step, ::step], fibres[::step, ::step] > 0
    return float(np.std(part[inside] if inside.any() else part, dtype=np.float64))


def _opened(mask: NDArray[np.bool_], width: int) -> NDArray[np.bool_]:
    """Opening by a square; what lies beyond the border is like what lies at it."""
    worn = ndimage.minimum_filter(mask.astype(np.uint8), width, mode="nearest")
    origin = 0 if width % 2 else -1
    opened: NDArray[np.bool_] = (
        ndimage.maximum_filter(worn, width, mode="nearest", origin=origin) > 0
    )
    return opened & mask


def _joined(mask: NDArray[np.bool_], seeds: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The 8-connected parts that hold a seed."""
    labels, count = ndimage.label(mask | seeds, structure=np.ones((3, 3)))
    kept = np.zeros(count + 1, dtype=bool)
    kept[labels[seeds]] = True
    joined: NDArray[np.bool_] = kept[labels]
    return joined


def _level_near(mean: NDArray[np.float32], core: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean grey level of the core within two blocks; NaN where there is none."""
    weight = ndimage.uniform_filter(core.astype(np.float32), 5, mode="constant")
    total = ndimage.uniform_filter(np.where(core, mean, 0), 5, mode="constant")
    near: NDArray[np.float32] = np.where(
        weight > 0.5 / 25, total / np.maximum(weight, 0.5 / 25), np.float32(np.nan)
    )
    return near


def _with_islands(
    blank: NDArray[np.bool_], filled: NDArray[np.bool_], smallest: float
) -> NDArray[np.bool_]:
    """Blank areas with the small islands in them that hold no fibre."""
    labels, count = ndimage.label(~blank)
    small = np.bincount(labels.ravel(), minlength=count + 1) < smallest
    small[labels[filled]] = False
    small[0] = True
    islands: NDArray[np.bool_] = small[labels]
    return islands
