"""Convex hulls of all objects of a label image at once: their pixels, and their widths.

The hull of an object is that of the middles of its pixels' edges. It is found in two steps, first that of
the pixel centres, then that of the edge middles of the pixels at its corners. Coordinates are doubled here, so
that they are whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._runs import spread
from ranvier.micrograph import Array

_TURN = 10.0
"""More than a full turn, to keep the angles of different objects apart in one sorted list."""
Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Hulls:
    """One polygon per object, no corner in line with its neighbours; sorted by object.

    ``obj`` counts from 0. The left chain of corners (small columns) goes down the rows, the right chain
    as well; both hold the corners of the top and bottom edges.
    """

    left: tuple[Integers, Integers, Integers]
    right: tuple[Integers, Integers, Integers]
    count: int

    def pixels(self, top: Integers, bottom: Integers) -> NDArray[np.float64]:
        """Number of pixel centres in or on each hull, from each object's first row and the row after its last."""
        many = bottom - top
        obj = np.repeat(np.arange(self.count), many)
        row = spread(top, many)
        low_over, low_under = _crossing(self.left, obj, 2 * row)
        high_over, high_under = _crossing(self.right, obj, 2 * row)
        # Columns c with 2 c at or beyond the left chain and at or before the right one.
        first = -((-low_over) // (2 * low_under))
        last = high_over // (2 * high_under)
        inside = np.bincount(obj, weights=last - first + 1, minlength=self.count)
        return inside.astype(np.float64)

    def widths(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Smallest and largest distance between parallel tangents, in pixels, by rotating calipers."""
        obj, row, col = self._around()
        first = np.flatnonzero(np.diff(obj, prepend=-1))
        after = _next_in(obj, first)
        down, across = row[after] - row, col[after] - col
        angle = np.arctan2(across, down)
        angle = np.where(angle <= -np.pi / 2, angle + 2 * np.pi, angle)
        opposite = np.where(angle + np.pi > 1.5 * np.pi, angle - np.pi, angle + np.pi)
        key = obj * _TURN + angle
        found = np.searchsorted(key, obj * _TURN + opposite - 1e-9)
        ends = np.append(first[1:], obj.size)
        found = np.where(found == ends[obj], first[obj], found)
        height = abs((row[found] - row) * across - (col[found] - col) * down)
        smallest = np.minimum.reduceat(height / np.hypot(down, across), first)
        largest = np.zeros(obj.size)
        for one in (np.arange(obj.size), after):
            for other in (found, after[found]):
                apart = np.hypot(row[one] - row[other], col[one] - col[other])
                np.maximum(largest, apart, out=largest)
        return smallest / 2, np.maximum.reduceat(largest, first) / 2

    def _around(self) -> tuple[Integers, Integers, Integers]:
        """Corners in order: down the left side, up the right; a corner at both ends of a side once."""
        obj, row, col = (np.concatenate(pair) for pair in zip(self.left, self.right, strict=True))
        is_right = np.repeat((0, 1), (self.left[0].size, self.right[0].size))
        order = np.lexsort((np.where(is_right, -row, row), is_right, obj))
        obj, row, col = obj[order], row[order], col[order]
        # The last of two equal corners stays, but of the topmost the first, so that angles rise.
        after = _next_in(obj, np.flatnonzero(np.diff(obj, prepend=-1)))
        kept = (row != row[after]) | (col != col[after])
        return obj[kept], row[kept], col[kept]


def hulls_of(obj: Array, row: Array, left: Array, right: Array, *, count: int) -> Hulls:
    """Hulls of objects whose first and last column in each row are known.

    Parameters
    ----------
    obj, row
        Object (from 0) and row of each line, sorted by object and then row; every object has one.
    left, right
        First and last column of the object in that row.
    count
        Number of objects.
    """
    corners = [_chain(obj, row, left), _negated(_chain(obj, row, -right))]
    spread = [
        (obj, 2 * row + down, 2 * col + across)
        for obj, row, col in corners
        for down, across in ((-1, 0), (1, 0), (0, -1), (0, 1))
    ]
    obj, row, col = (np.concatenate(part) for part in zip(*spread, strict=True))
    low = _chain(*_extreme(obj, row, col))
    high = _negated(_chain(*_extreme(obj, row, -col)))
    return Hulls(low, high, count)


def _extreme(obj: Integers, row: Integers, col: Integers) -> tuple[Integers, Integers, Integers]:
    """The smallest column of each object in each row, sorted."""
    lowest_row, lowest_col = int(row.min()), int(col.min())
    rows, cols = int(row.max()) - lowest_row + 1, int(col.max()) - lowest_col + 1
    # One number for all three sorts much faster than three.
    key = np.sort((obj * rows + row - lowest_row) * cols + col - lowest_col)
    line = key // cols
    first = np.flatnonzero(np.diff(line, prepend=-1))
    obj, row = np.divmod(line[first], rows)
    return obj, row + lowest_row, key[first] - line[first] * cols + lowest_col


def _negated(chain: tuple[Integers, Integers, Integers]) -> tuple[Integers, Integers, Integers]:
    return chain[0], chain[1], -chain[2]


def _chain(obj: Array, row: Array, col: Array) -> tuple[Integers, Integers, Integers]:
    """Corners of each hull's side of small columns, from lines sorted by object and row.

    A point that does not lie strictly outside the line through its two neighbours is no corner of the
    hull; all such points of all objects are dropped at once, until none is left.
    """
    done: list[tuple[Integers, Integers, Integers]] = []
    while obj.size:
        same = obj[1:] == obj[:-1]
        down, across = np.diff(row), np.diff(col)
        drop = np.zeros(obj.size, dtype=bool)
        drop[1:-1] = same[1:] & same[:-1] & (across[:-1] * down[1:] >= across[1:] * down[:-1])
        again = np.zeros(int(obj[-1]) + 1, dtype=bool)
        again[obj[drop]] = True
        finished = ~again[obj]
        done.append((obj[finished], row[finished], col[finished]))
        keep = ~finished & ~drop
        obj, row, col = obj[keep], row[keep], col[keep]
    obj, row, col = (np.concatenate(part) for part in zip(*done, strict=True))
    order = np.argsort(obj, kind="stable")
    return obj[order], row[order], col[order]


def _crossing(
    chain: tuple[Integers, Integers, Integers], obj: Integers, row: Integers
) -> tuple[Integers, Integers]:
    """Column at which a chain crosses a row, as a fraction of whole numbers."""
    stride = int(chain[1].max()) + 2
    key = chain[0] * stride + chain[1]
    at = np.searchsorted(key, obj * stride + row, side="right") - 1
    last = np.append(chain[0][1:] != chain[0][:-1], True)
    at -= last[at] & (row == chain[1][at])
    after = np.minimum(at + 1, key.size - 1)
    height = chain[1][after] - chain[1][at]
    over = chain[2][at] * height + (chain[2][after] - chain[2][at]) * (row - chain[1][at])
    return over, height


def _next_in(obj: Integers, first: Integers) -> Integers:
    """Index of the next corner of the same object, in a circle."""
    after = np.arange(1, obj.size + 1)
    after[np.append(first[1:], obj.size) - 1] = first
    return after
