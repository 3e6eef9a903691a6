"""Horizontal runs of equal values: connected components and holes at a cost that follows the outlines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ranvier.micrograph import Array


@dataclass(frozen=True, eq=False)
class Runs:
    """All runs of a plane in raster order; together they cover it.

    Attributes
    ----------
    start
        int64, position of each run's first pixel in the raveled plane; a row begins a new run.
    value
        What the plane holds there.
    shape
        Rows and columns of the plane.
    """

    start: NDArray[np.int64]
    value: Array
    shape: tuple[int, int]

    @property
    def end(self) -> NDArray[np.int64]:
        """Position after each run's last pixel."""
        return np.append(self.start[1:], self.shape[0] * self.shape[1])

    @property
    def length(self) -> NDArray[np.int64]:
        """Number of pixels of each run."""
        return np.diff(self.start, append=self.shape[0] * self.shape[1])

    def with_values(self, value: Array) -> Runs:
        """The same runs, with other values."""
        return Runs(self.start, value, self.shape)

    def painted(self) -> Array:
        """The plane again."""
        return np.repeat(self.value, self.length).reshape(self.shape)


def runs_of(plane: Array) -> Runs:
    """Cut a plane, shape (rows, columns), into runs of equal values."""
    begins = np.ones(plane.shape, dtype=bool)
    np.not_equal(plane[:, 1:], plane[:, :-1], out=begins[:, 1:])
    start = np.flatnonzero(begins)
    return Runs(start, plane.ravel()[start], (int(plane.shape[0]), int(plane.shape[1])))


def touching(
    runs: Runs, chosen: NDArray[np.bool_], *, diagonal: bool
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pairs of runs in neighbouring rows that touch: a chosen one, and any one in the row below.

    Parameters
    ----------
    runs
        All runs of a plane.
    chosen
        Which runs to look below of.
    diagonal
        Whether a common corner is enough.
    """
    width = runs.shape[1]
    upper = np.flatnonzero(chosen)
    upper = upper[runs.start[upper] < (runs.shape[0] - 1) * width]
    first, last = runs.start[upper], runs.end[upper] - 1
    if diagonal:
        first, last = first - (first % width > 0), last + (last % width < width - 1)
    low = np.searchsorted(runs.start, first + width, side="right") - 1
    high = np.searchsorted(runs.start, last + width, side="right")
    many = high - low
    return np.repeat(upper, many), spread(low, many)


def components(
    runs: Runs, chosen: NDArray[np.bool_], *, diagonal: bool
) -> tuple[NDArray[np.int32], int]:
    """Connected components of equal value among the chosen runs.

    Returns
    -------
    component
        Of each run, from 0 in raster order of first pixels; -1 for runs that were not chosen.
    count
        How many there are.
    """
    upper, lower = touching(runs, chosen, diagonal=diagonal)
    same = chosen[lower] & (runs.value[upper] == runs.value[lower])
    beside = np.flatnonzero(
        chosen[:-1]
        & chosen[1:]
        & (runs.value[:-1] == runs.value[1:])
        & (runs.start[1:] % runs.shape[1] > 0)
    )
    return _joined(chosen, np.append(upper[same], beside), np.append(lower[same], beside + 1))


def _joined(chosen: NDArray[np.bool_], one: Array, other: Array) -> tuple[NDArray[np.int32], int]:
    """Components of a graph on the chosen runs, numbered in the order of their first runs."""
    nodes = np.flatnonzero(chosen)
    place = np.zeros(chosen.size, dtype=np.int32)
    place[nodes] = np.arange(nodes.size, dtype=np.int32)
    result = np.full(chosen.size, -1, dtype=np.int32)
    if nodes.size == 0:
        return result, 0
    links = coo_array(
        (np.ones(one.size, dtype=np.int8), (place[one], place[other])),
        shape=(nodes.size, nodes.size),
    )
    count, found = connected_components(links, directed=False)
    result[nodes] = in_order(found, count)
    return result, int(count)


def in_order(found: Array, count: int) -> NDArray[np.int32]:
    """Renumber 0 to count - 1 in the order of first appearance."""
    first = np.full(count, found.size, dtype=np.int64)
    first[found[::-1]] = np.arange(found.size - 1, -1, -1)
    new = np.empty(count, dtype=np.int32)
    new[np.argsort(first)] = np.arange(count, dtype=np.int32)
    return new[found]


def with_holes(runs: Runs, *, largest: float | None = None) -> Runs:
    """Give each label the 4-connected regions of zeros that touch it alone, and no image edge.

    Parameters
    ----------
    runs
        Of a label plane, 0 where there is none.
    largest
        Regions of more pixels than this stay zero; None for any size.
    """
    empty = runs.value == 0
    region, count = components(runs, empty, diagonal=False)
    if count == 0:
        return runs
    lowest = np.full(count, np.iinfo(np.int64).max, dtype=np.int64)
    highest = np.zeros(count, dtype=np.int64)
    for hole, beside in _borders(runs, empty):
        at, label = region[hole], runs.value[beside].astype(np.int64)
        np.minimum.at(lowest, at, label)
        np.maximum.at(highest, at, label)
    owner = np.where(lowest == highest, highest, 0)
    owner[region[_at_edge(runs) & empty]] = 0
    if largest is not None:
        size = np.bincount(region[empty], weights=runs.length[empty], minlength=count)
        owner[size > largest] = 0
    value = runs.value.copy()
    value[empty] = owner[region[empty]]
    return runs.with_values(value)


def _borders(runs: Runs, empty: NDArray[np.bool_]) -> list[tuple[Array, Array]]:
    """Pairs of an empty run and a run of a label that share a pixel edge."""
    width = runs.shape[1]
    inside = runs.start[1:] % width > 0
    right = np.flatnonzero(inside & empty[:-1] & ~empty[1:])
    left = np.flatnonzero(inside & ~empty[:-1] & empty[1:])
    upper, lower = touching(runs, np.ones(empty.size, dtype=bool), diagonal=False)
    down, up = empty[upper] & ~empty[lower], ~empty[upper] & empty[lower]
    return [
        (right, right + 1),
        (left + 1, left),
        (upper[down], lower[down]),
        (lower[up], upper[up]),
    ]


def _at_edge(runs: Runs) -> NDArray[np.bool_]:
    rows, width = runs.shape
    at_edge: NDArray[np.bool_] = (runs.start % width == 0) | (runs.end % width == 0)
    at_edge |= (runs.start < width) | (runs.start >= (rows - 1) * width)
    return at_edge


def spread(begin: Array, many: Array) -> NDArray[np.int64]:
    """Every position of runs that are given by their first position and length."""
    nth = np.arange(int(many.sum())) - np.repeat(np.cumsum(many) - many, many)
    positions: NDArray[np.int64] = np.repeat(begin, many) + nth
    return positions
