"""Where an image is looked at before its zoom is chosen: a few windows about the same places at every zoom."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ranvier.micrograph import Array
from ranvier.tiling import Box

_CELLS = 12
"""Cells along the longer edge, one of whose middles each window has."""
_MOST_CELL_PX = 256
"""Edge of what is read of a cell to measure its contrast."""
_LEAST_SEEN = 0.02
"""Where no cell is fibre to this share, nothing was seen, and contrast alone decides."""
_OF_CONTRAST = 0.3
"""Weight of contrast beside what was seen."""
SIZES = ((256, 4), (256, 3), (256, 2), (224, 2), (192, 2), (160, 2), (192, 1), (160, 1), (128, 1))
"""Edge of windows as they are shown, and how many, the best first."""

Place = tuple[int, int]
"""Row and column."""


class Pixels(Protocol):
    """An image that is read box by box."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    def read(self, box: Box) -> Array:
        """Grey levels of a box inside the image."""
        ...


@dataclass(frozen=True, eq=False)
class HeldPixels:
    """An array in memory, shape (rows, columns)."""

    pixels: Array

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (int(self.pixels.shape[0]), int(self.pixels.shape[1]))

    def read(self, box: Box) -> Array:
        """A part of the array."""
        part: Array = self.pixels[box.top : box.bottom, box.left : box.right]
        return part


def windows(
    shape: tuple[int, int], places: Sequence[Place], zoom: float, edge: int
) -> tuple[Box, ...]:
    """Boxes of the image that are ``edge`` pixels wide at a zoom, about some places, moved to lie inside.

    Boxes that come out the same, as where each is the whole image, are given once.

    Parameters
    ----------
    shape
        Of the image.
    places
        Middles of the windows.
    zoom, edge
        At this zoom a window has this edge, or that of the image where it is shorter.
    """
    high, wide = (min(n, max(1, round(edge / zoom))) for n in shape)
    found = []
    for row, column in places:
        top = min(max(0, row - high // 2), shape[0] - high)
        left = min(max(0, column - wide // 2), shape[1] - wide)
        found.append(Box(top, left, top + high, left + wide))
    return tuple(dict.fromkeys(found))


def places(pixels: Pixels, count: int, seen: NDArray[np.float32] | None = None) -> list[Place]:
    """Places with much structure, apart from each other; the same for the same image.

    Each cell of a coarse grid is worth its contrast (standard deviation of grey levels) and, where a look at the
    whole image saw fibres, the share of fibre in it; cells without such neighbours, as a label or a fold, are worth
    less.

    Parameters
    ----------
    pixels
        The image.
    count
        How many, at least 1; fewer where the image is small.
    seen
        Where fibres were seen: shares from 0 to 1 over the whole image, at any resolution.
    """
    from scipy.ndimage import uniform_filter

    rows, columns = pixels.shape
    cell = max(1, math.ceil(max(rows, columns) / _CELLS))
    worth = _contrast(pixels, cell)
    if seen is not None:
        share = _shares(seen, worth.shape, (rows / cell, columns / cell))
        if share.max() > _LEAST_SEEN:
            worth = _OF_CONTRAST * worth + share / max(np.percentile(share, 98), _LEAST_SEEN)
    worth = uniform_filter(worth, 3, mode="constant")
    apart = max(1, round(max(worth.shape) / (2 * math.sqrt(count) + 1)))
    found: list[Place] = []
    for _ in range(count):
        row, column = (int(i) for i in np.unravel_index(worth.argmax(), worth.shape))
        if worth[row, column] < 0:
            break
        middle = (int((row + 0.5) * cell), int((column + 0.5) * cell))
        found.append((min(rows - 1, middle[0]), min(columns - 1, middle[1])))
        worth[
            max(0, row - apart) : row + apart + 1, max(0, column - apart) : column + apart + 1
        ] = -1
    return found


def _contrast(pixels: Pixels, cell: int) -> NDArray[np.float64]:
    """Contrast of each cell: 1 for the highest, a few outliers apart; 0 for slivers at the edges."""
    rows, columns = pixels.shape
    found = np.zeros((-(-rows // cell), -(-columns // cell)))
    for i, j in np.ndindex(*found.shape):
        top, left = i * cell, j * cell
        high, wide = min(cell, rows - top), min(cell, columns - left)
        if high * wide < cell * cell / 4:
            continue
        down, right = (max(0, (n - _MOST_CELL_PX) // 2) for n in (high, wide))
        box = Box(top + down, left + right, top + high - down, left + wide - right)
        found[i, j] = np.ascontiguousarray(pixels.read(box)).std(dtype=np.float64)
    high_level = np.percentile(found, 95)
    return np.clip(found / high_level, 0, 1) if high_level > 0 else np.ones_like(found)


def _shares(
    seen: NDArray[np.float32], cells: tuple[int, ...], extent: tuple[float, float]
) -> NDArray[np.float64]:
    """Mean of what was seen in each cell; ``extent`` is how many cells long the image is along both axes."""
    edges = []
    for length, count, whole in zip(seen.shape, cells, extent, strict=True):
        start = np.minimum(np.arange(count) * length / whole, length - 1).astype(np.intp)
        stop = np.maximum(start + 1, np.minimum((np.arange(count) + 1) * length / whole, length))
        edges.append(list(zip(start, stop.astype(np.intp), strict=True)))
    return np.array(
        [[float(seen[a:b, c:d].mean(dtype=np.float64)) for c, d in edges[1]] for a, b in edges[0]]
    )
