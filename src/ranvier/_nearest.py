"""The nearest axon of every pixel of myelin, found in windows whose size has no influence on the result."""

from __future__ import annotations

import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import cKDTree

_WINDOW = 640
"""Side of the windows in which distances are found."""
_HALOS = (32, 256)
"""Distances up to this are found in a window; the second is tried where more than a few pixels are farther."""
_FEW_FAR = 0.01
_WORKERS = 2
_BAND = 512
_QUERIES = 50_000
_TIES = 8
"""So many places are asked for first, to see whether several are equally near."""
FARTHEST = np.iinfo(np.int16).max
"""No axon holds a pixel that is farther from it than this, in rows or columns."""


_Part = tuple[slice, slice]


@dataclass(frozen=True, eq=False)
class Holding:
    """Who holds each pixel, and where the nearest pixel of the holder's axon is; changed in place.

    ``owner`` is 0 where nobody can hold a pixel. ``down`` and ``right`` lead from a pixel to that of
    the axon. ``tissue`` is myelin and axons; background is held no farther than ``max_gap`` from an axon.
    """

    axons: NDArray[np.int32]
    owner: NDArray[np.int32]
    down: NDArray[np.int16]
    right: NDArray[np.int16]
    tissue: NDArray[np.bool_]
    max_gap: float

    @property
    def shape(self) -> tuple[int, int]:
        return (int(self.owner.shape[0]), int(self.owner.shape[1]))


def nearest(axons: NDArray[np.int32], myelin: NDArray[np.bool_], max_gap: float) -> Holding:
    """Give myelin, and background no farther than the gap, to the nearest axon."""
    state = Holding(
        axons=axons,
        owner=axons.copy(),
        down=np.zeros(axons.shape, np.int16),
        right=np.zeros(axons.shape, np.int16),
        tissue=myelin | (axons > 0),
        max_gap=max_gap,
    )
    # The windows write to parts of the planes that do not overlap.
    with ThreadPoolExecutor(_WORKERS) as pool:
        parts = pool.map(lambda core: _look_around(state, myelin, core), _cores(axons.shape))
        far = np.concatenate(list(parts))
    if far.size:
        _search(state, far)
    return state


def _look_around(state: Holding, myelin: NDArray[np.bool_], core: _Part) -> NDArray[np.int64]:
    """Find the nearest axon of the pixels of a part; which pixels of myelin are too far from any."""
    own = myelin[core].copy()
    for least in _HALOS:
        halo = max(least, math.ceil(state.max_gap))
        window, inner = _around(core, state.shape, halo)
        seen = state.axons[window]
        to_row, to_col = _ways(seen, inner)
        squared = to_row * to_row + to_col * to_col
        far = own & (squared > halo**2) if seen.any() else own
        if np.count_nonzero(far) <= _FEW_FAR * own.size:
            break
    if seen.any():
        state.down[core], state.right[core] = to_row, to_col
        near = (own & ~far) | (squared <= state.max_gap**2)
        near &= squared > 0
        row, col = np.divmod(np.flatnonzero(near), own.shape[1])
        to_row, to_col = to_row[row, col], to_col[row, col]
        label = seen[row + to_row + inner[0].start, col + to_col + inner[1].start]
        state.owner[row + core[0].start, col + core[1].start] = label
    row, col = np.divmod(np.flatnonzero(far), own.shape[1])
    flat: NDArray[np.int64] = (row + core[0].start) * state.shape[1] + col + core[1].start
    return flat


def _ways(axons: NDArray[np.int32], inner: _Part) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    """Rows down and columns right to the nearest axon pixel, from each pixel of a window's inner part."""
    down, right = (
        index[inner]
        for index in ndimage.distance_transform_edt(
            axons == 0, return_distances=False, return_indices=True
        )
    )
    down -= np.arange(inner[0].start, inner[0].stop, dtype=np.int32)[:, None]
    right -= np.arange(inner[1].start, inner[1].stop, dtype=np.int32)[None, :]
    return down, right


def _cores(shape: tuple[int, ...]) -> Iterator[_Part]:
    """Parts that cover the plane."""
    for top in range(0, shape[0], _WINDOW):
        for left in range(0, shape[1], _WINDOW):
            yield (
                slice(top, min(top + _WINDOW, shape[0])),
                slice(left, min(left + _WINDOW, shape[1])),
            )


def _around(core: _Part, shape: tuple[int, int], halo: int) -> tuple[_Part, _Part]:
    """A wider part, and the place of the first in it."""
    low = [max(0, part.start - halo) for part in core]
    high = [min(size, part.stop + halo) for part, size in zip(core, shape, strict=True)]
    window = (slice(low[0], high[0]), slice(low[1], high[1]))
    inner = [slice(p.start - first, p.stop - first) for p, first in zip(core, low, strict=True)]
    return window, (inner[0], inner[1])


def _search(state: Holding, far: NDArray[np.int64]) -> None:
    """Find the nearest axon of pixels that are far from any: its first pixel, in raster order, of equally near ones."""
    width = state.shape[1]
    edges = []
    for top in range(0, state.shape[0], _BAND):
        low = max(0, top - 1)
        inside = inside_of(state.axons[low : top + _BAND + 1] > 0)[top - low :][:_BAND]
        edge = np.flatnonzero((state.axons[top : top + _BAND] > 0) & ~inside)
        edges.append(edge + top * width)
    edge = np.concatenate(edges)
    tree = cKDTree(np.column_stack(np.divmod(edge, width)), balanced_tree=False)
    for begin in range(0, far.size, _QUERIES):
        pixel = far[begin : begin + _QUERIES]
        row, col = np.divmod(pixel, width)
        found = first_nearest(tree, row, col)
        to_row, to_col = np.divmod(edge[found], width)
        near = np.maximum(abs(to_row - row), abs(to_col - col)) <= FARTHEST
        state.owner.ravel()[pixel] = np.where(near, state.axons.ravel()[edge[found]], 0)
        state.down.ravel()[pixel] = np.where(near, to_row - row, 0)
        state.right.ravel()[pixel] = np.where(near, to_col - col, 0)


def first_nearest(
    tree: cKDTree, row: NDArray[np.int64], col: NDArray[np.int64]
) -> NDArray[np.intp]:
    """Index of the place in a tree that is nearest to each pixel; of equally near ones, the first.

    Places are whole numbers, so that equal distances are found exactly.
    """
    points = np.column_stack((row, col))
    found = np.zeros(len(points), dtype=np.intp)
    left, many = np.arange(len(points)), _TIES
    while left.size:
        many = min(many, tree.n)
        near = tree.query(points[left], k=many)[1].reshape(left.size, many)
        squared = ((tree.data[near] - points[left, None]) ** 2).sum(axis=2)
        alike = squared == squared.min(axis=1, keepdims=True)
        found[left] = np.where(alike, near, tree.n).min(axis=1)
        # Where all are equally near, there may be more of them.
        left = left[alike.all(axis=1)] if many < tree.n else left[:0]
        many *= 4
    return found


def inside_of(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels of a mask whose four neighbours are in it as well; the image's edge is no border."""
    inside = mask.copy()
    inside[1:] &= mask[:-1]
    inside[:-1] &= mask[1:]
    inside[:, 1:] &= mask[:, :-1]
    inside[:, :-1] &= mask[:, 1:]
    return inside
