"""Bright regions, parted at their necks: the watershed of their distance transform, merged again across wide necks.

The watershed is that of Vincent and Soille (1991), IEEE Transactions on Pattern Analysis and Machine Intelligence
13:583-598. A neck's width is compared with that of the narrower of the two regions that it joins, so that nothing
depends on the scale. Soille (2003), Morphological Image Analysis, chapter 9, describes the merging of basins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Labels = NDArray[np.int32]
Edges = list[tuple[int, int, float]]


@dataclass(frozen=True, eq=False)
class Basins:
    """Basins of the watershed, and how they are merged.

    Attributes
    ----------
    labels
        int32, shape (rows, columns): 0 outside the bright regions, or the basin, from 1 to ``count``.
    unions
        For each width of neck, the union that each basin is part of, from 1; index 0 stands for no basin. Each
        union is part of one of the next width.
    one, other, border
        Pairs of basins that touch, and the length of their common border in pixel edges.
    """

    labels: Labels
    count: int
    unions: tuple[Labels, ...]
    one: NDArray[np.int64]
    other: NDArray[np.int64]
    border: NDArray[np.int64]


def basins_of(bright: NDArray[np.bool_], necks: tuple[float, ...]) -> Basins:
    """Part bright regions.

    Parameters
    ----------
    bright
        Shape (rows, columns).
    necks
        Least widths of necks across which basins are merged, in shares of the narrower side's width, descending.
    """
    from scipy import ndimage
    from skimage.segmentation import watershed

    depth = ndimage.distance_transform_edt(bright).astype(np.float32)
    # Staircases of the pixel grid make plateaus and small peaks.
    depth = ndimage.gaussian_filter(depth, 1.0)
    depth[~bright] = 0
    # Of the four neighbours alone, so that every region of such neighbours has a peak.
    around = [ndimage.maximum_filter1d(depth, 3, axis=axis) for axis in (0, 1)]
    peaks = (depth >= np.maximum(*around)) & bright
    seeds, count = ndimage.label(peaks)
    labels: Labels = watershed(-depth, seeds, mask=bright, connectivity=1).astype(np.int32)  # type: ignore[no-untyped-call]
    one, other, border, saddle = _meetings(labels, depth, count)
    top = np.zeros(count + 1)
    np.maximum.at(top, labels.ravel(), depth.ravel())
    merged = _Merged(top)
    order = np.argsort(-saddle, kind="stable")
    columns = (one[order].tolist(), other[order].tolist(), saddle[order].tolist())
    edges = list(zip(*columns, strict=True))
    unions = tuple(merged.across(edges, neck) for neck in necks)
    return Basins(labels, count, unions, one, other, border)


def _meetings(
    labels: Labels, depth: Floats, count: int
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], Floats]:
    """Pairs of basins that touch, the length of their border and the depth of its deepest point."""
    keys, depths = [], []
    for here, there in (
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[1:], np.s_[:-1]),
    ):
        a, b = labels[here], labels[there]
        at = np.flatnonzero((a != b) & (a > 0) & (b > 0))
        a, b = a.ravel()[at].astype(np.int64), b.ravel()[at].astype(np.int64)
        keys.append(np.minimum(a, b) * (count + 1) + np.maximum(a, b))
        depths.append(np.minimum(depth[here].ravel()[at], depth[there].ravel()[at]))
    pair, back, border = np.unique(np.concatenate(keys), return_inverse=True, return_counts=True)
    saddle = np.zeros(pair.size, dtype=np.float32)
    np.maximum.at(saddle, back, np.concatenate(depths))
    return pair // (count + 1), pair % (count + 1), border.astype(np.int64), saddle


class _Merged:
    """Basins that are merged across wide necks, the widest first."""

    def __init__(self, top: NDArray[np.float64]) -> None:
        self._parent = list(range(top.size))
        self._top = top.tolist()

    def across(self, edges: Edges, neck: float) -> Labels:
        """Merge across necks at least this wide; which union each basin is in, numbered from 1.

        Called with ever narrower necks, so that each union is part of a later one.
        """
        for one, other, saddle in edges:
            low, high = sorted((self._root(one), self._root(other)), key=self._top.__getitem__)
            if low != high and saddle >= neck * self._top[low]:
                self._parent[low] = high
        roots = np.array([self._root(i) for i in range(len(self._parent))])
        return np.unique(roots, return_inverse=True)[1].astype(np.int32)

    def _root(self, node: int) -> int:
        while self._parent[node] != node:
            self._parent[node] = self._parent[self._parent[node]]
            node = self._parent[node]
        return node
