"""Connected pieces and holes of a plane that is seen strip by strip.

Each strip is labelled on its own; pieces that meet at a seam are joined afterwards, in one graph of all pieces of all
strips. What comes out is what :mod:`ranvier._runs` finds in the plane as a whole, in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ranvier._runs import Runs, _borders, components, in_order
from ranvier.micrograph import Array

__all__ = ["Holes", "Pieces", "find_holes", "find_pieces"]

Strip = Callable[[int], Runs]
"""Number of a strip to its runs, which must be the same whenever it is asked."""
_NONE = np.iinfo(np.int64).max


@dataclass(frozen=True, eq=False)
class Pieces:
    """Pieces of a plane.

    Attributes
    ----------
    first
        Number of each strip's first part.
    piece
        Of each part (a piece as far as one strip holds it): the piece that it belongs to, from 0 in raster order
        of first pixels.
    count
        How many pieces there are.
    """

    first: tuple[int, ...]
    piece: NDArray[np.int32]
    count: int

    def of(self, strip: int, part: NDArray[np.int32]) -> NDArray[np.int32]:
        """Piece of each run of a strip from its part there; -1 stays."""
        found = np.full(part.size, -1, dtype=np.int32)
        some = part >= 0
        found[some] = self.piece[part[some] + self.first[strip]]
        return found

    def total(self, by_part: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum of what each part has, by piece."""
        total: NDArray[np.float64] = np.bincount(
            self.piece, weights=by_part, minlength=self.count
        ).astype(np.float64)
        return total


class _Graph:
    """Parts of all strips, and which of them belong together."""

    def __init__(self) -> None:
        self.first: list[int] = []
        self.count = 0
        self._one: list[Array] = []
        self._other: list[Array] = []

    def add(self, count: int) -> int:
        """Take in the parts of the next strip; number of the first of them."""
        self.first.append(self.count)
        self.count += count
        return self.first[-1]

    def join(self, one: Array, other: Array) -> None:
        """Join parts, pair by pair."""
        pairs = np.unique(one.astype(np.int64) * max(self.count, 1) + other)
        self._one.append(pairs // max(self.count, 1))
        self._other.append(pairs % max(self.count, 1))

    def pieces(self) -> Pieces:
        if not self.count:
            return Pieces(tuple(self.first), np.zeros(0, dtype=np.int32), 0)
        one, other = (np.concatenate([np.zeros(0, np.int64), *x]) for x in (self._one, self._other))
        links = coo_array(
            (np.ones(one.size, dtype=np.int8), (one, other)), shape=(self.count, self.count)
        )
        count, found = connected_components(links, directed=False)
        return Pieces(tuple(self.first), in_order(found, count), int(count))


def _row(runs: Runs, values: Array, last: bool) -> Array:
    """What the first or last row of a strip holds, where each run has the value given."""
    width = runs.shape[1]
    begin = (runs.shape[0] - 1) * width if last else 0
    part = slice(*np.searchsorted(runs.start, (begin, begin + width)))
    row: Array = np.repeat(values[part], runs.length[part])
    return row


def _sides(one: Array, other: Array, shift: int) -> tuple[Array, Array]:
    """Two rows, the second moved by so many columns, as far as both reach."""
    if shift == 0:
        return one, other
    return (one[:-1], other[1:]) if shift > 0 else (one[1:], other[:-1])


def find_pieces(
    strips: Sequence[object],
    read: Strip,
    *,
    diagonal: bool,
    look: Callable[[Runs, NDArray[np.int32], int], None] | None = None,
) -> Pieces:
    """Find the connected pieces of equal value other than 0.

    Parameters
    ----------
    strips
        From the top; only their number matters.
    read
        Runs of a strip.
    diagonal
        Whether a common corner is enough.
    look
        Called with each strip's runs, the part of each run, and the number of parts.
    """
    graph = _Graph()
    above: tuple[Array, Array] | None = None
    for index in range(len(strips)):
        runs = read(index)
        part, count = components(runs, runs.value != 0, diagonal=diagonal)
        if look is not None:
            look(runs, part, count)
        number = np.where(part >= 0, part.astype(np.int64) + graph.add(count), -1)
        here = _row(runs, number, False), _row(runs, runs.value, False)
        if above is not None:
            for shift in (-1, 0, 1) if diagonal else (0,):
                up, down = _sides(above[0], here[0], shift)
                up_value, down_value = _sides(above[1], here[1], shift)
                both = (up >= 0) & (down >= 0) & (up_value == down_value)
                graph.join(up[both], down[both])
        above = _row(runs, number, True), _row(runs, runs.value, True)
    return graph.pieces()


@dataclass(frozen=True, eq=False)
class Holes:
    """Regions of zeros, and the label that alone encloses each.

    Attributes
    ----------
    regions
        The 4-connected regions.
    owner
        Label of each region; 0 where it has none.
    size
        Pixels of each region.
    """

    regions: Pieces
    owner: NDArray[np.int64]
    size: NDArray[np.float64]

    def filled(self, strip: int, runs: Runs) -> Runs:
        """The runs of a strip, those in a hole with the label around it."""
        empty = runs.value == 0
        part, _ = components(runs, empty, diagonal=False)
        region = self.regions.of(strip, part)
        value = runs.value.copy()
        value[empty] = self.owner[region[empty]]
        return runs.with_values(value)

    def added(self, count: int) -> NDArray[np.float64]:
        """Pixels that each label from 0 to ``count`` gains."""
        total: NDArray[np.float64] = np.bincount(
            self.owner, weights=self.size, minlength=count + 1
        ).astype(np.float64)
        total[0] = 0
        return total


def find_holes(strips: Sequence[object], read: Strip, *, largest: float | None) -> Holes:
    """Find the regions of zeros that touch one label alone, and no image edge, as `with_holes` does.

    Parameters
    ----------
    strips, read
        As for :func:`find_pieces`; values are labels, 0 where there is none.
    largest
        Regions of more pixels than this have no owner; None for any size.
    """
    graph, found = _Graph(), _Touching()
    above: tuple[Array, Array] | None = None
    for index in range(len(strips)):
        runs = read(index)
        empty = runs.value == 0
        part, count = components(runs, empty, diagonal=False)
        offset = graph.add(count)
        ends = (index == 0, index == len(strips) - 1)
        found.look(runs, empty, part, count=count, ends=ends)
        number = np.where(empty, part.astype(np.int64) + offset, -1)
        here = _row(runs, number, False), _row(runs, runs.value, False)
        if above is not None:
            both = (above[0] >= 0) & (here[0] >= 0)
            graph.join(above[0][both], here[0][both])
            for one, other in ((above, here), (here, above)):
                meets = (one[0] >= 0) & (other[0] < 0)
                found.meet(one[0][meets], other[1][meets])
        above = _row(runs, number, True), _row(runs, runs.value, True)
    regions = graph.pieces()
    return Holes(regions, *found.owners(regions, largest))


class _Touching:
    """Which labels the parts of regions touch: the lowest and the highest is enough."""

    def __init__(self) -> None:
        self._low: list[NDArray[np.int64]] = []
        self._high: list[NDArray[np.int64]] = []
        self._size: list[NDArray[np.float64]] = []
        self._edge: list[NDArray[np.bool_]] = []
        self._met: list[tuple[Array, Array]] = []

    def look(
        self,
        runs: Runs,
        empty: NDArray[np.bool_],
        part: NDArray[np.int32],
        *,
        count: int,
        ends: tuple[bool, bool],
    ) -> None:
        """Take in a strip; ``ends`` says whether it is the first and whether it is the last."""
        low = np.full(count, _NONE, dtype=np.int64)
        high = np.zeros(count, dtype=np.int64)
        for hole, beside in _borders(runs, empty):
            label = runs.value[beside].astype(np.int64)
            np.minimum.at(low, part[hole], label)
            np.maximum.at(high, part[hole], label)
        rows, width = runs.shape
        edge = (runs.start % width == 0) | (runs.end % width == 0)
        if ends[0]:
            edge |= runs.start < width
        if ends[1]:
            edge |= runs.start >= (rows - 1) * width
        at_edge = np.zeros(count, dtype=bool)
        at_edge[part[edge & empty]] = True
        self._low.append(low)
        self._high.append(high)
        self._edge.append(at_edge)
        self._size.append(
            np.bincount(part[empty], weights=runs.length[empty], minlength=count).astype(np.float64)
        )

    def meet(self, part: Array, label: Array) -> None:
        """Parts, by their number in the plane, that touch labels across a seam."""
        pairs = np.unique(part << 32 | label.astype(np.int64))
        self._met.append((pairs >> 32, pairs & 0xFFFFFFFF))

    def owners(
        self, regions: Pieces, largest: float | None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Label that owns each region, or 0; and the region's size."""
        low = np.full(regions.count, _NONE, dtype=np.int64)
        high = np.zeros(regions.count, dtype=np.int64)
        if not regions.count:
            return high, np.zeros(0)
        np.minimum.at(low, regions.piece, np.concatenate(self._low))
        np.maximum.at(high, regions.piece, np.concatenate(self._high))
        for part, label in self._met:
            np.minimum.at(low, regions.piece[part], label)
            np.maximum.at(high, regions.piece[part], label)
        owner = np.where(low == high, high, 0)
        owner[regions.piece[np.concatenate(self._edge)]] = 0
        size = regions.total(np.concatenate(self._size))
        if largest is not None:
            owner[size > largest] = 0
        return owner, size
