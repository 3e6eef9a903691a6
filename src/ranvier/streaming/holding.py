"""Who holds each pixel of a plane on disk: the nearest axon at first, and the gaps that one fibre encloses."""

from __future__ import annotations

import math
from collections import OrderedDict
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ranvier import _nearest
from ranvier._nearest import FARTHEST, Holding, first_nearest, inside_of
from ranvier._runs import Runs, runs_of
from ranvier.micrograph import MYELIN, Array
from ranvier.streaming.pieces import find_holes
from ranvier.streaming.planes import Plane, cores, grown, strips
from ranvier.tiling import Box

__all__ = ["HoldingPlanes", "fill_gaps", "hold_nearest", "holding_planes", "write_fibres"]

_BLOCKS = 2
"""Edge of what is looked at together, in the blocks of :mod:`ranvier._nearest`."""
_TREES = 64
"""Tiles whose outlines are kept for the next search."""


@dataclass(frozen=True, eq=False)
class HoldingPlanes:
    """The planes of a :class:`ranvier._nearest.Holding`, on disk, and what goes from one stage to the next.

    ``beyond`` is the label that the way (down, right) leads to; ``changed`` marks the pixels that the last round
    changed, ``waiting`` those that nobody holds yet.
    """

    axons: Plane
    owner: Plane
    down: Plane
    right: Plane
    tissue: Plane
    beyond: Plane
    changed: Plane
    waiting: Plane
    max_gap: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.owner.shape

    def window(self, box: Box) -> Holding:
        """A box of it in memory."""
        return Holding(
            axons=self.axons.read(box),
            owner=self.owner.read(box),
            down=self.down.read(box),
            right=self.right.read(box),
            tissue=self.tissue.read(box).view(bool),
            max_gap=self.max_gap,
        )

    def commit(self) -> None:
        """Let readers see what a pass wrote."""
        for plane in (self.owner, self.down, self.right, self.tissue, self.beyond):
            plane.commit()
        self.changed.commit()
        self.waiting.commit()


def holding_planes(
    folder: Path, axons: Plane, max_gap: float, *, until: ExitStack
) -> HoldingPlanes:
    """Make the planes in a folder; they are closed with ``until``."""

    def plane(name: str, dtype: type) -> Plane:
        made = Plane(folder / f"{name}.plane", axons.shape, dtype, tile=axons.tile)
        return until.enter_context(made)

    return HoldingPlanes(
        axons,
        owner=plane("owner", np.int32),
        down=plane("down", np.int16),
        right=plane("right", np.int16),
        tissue=plane("tissue", np.uint8),
        beyond=plane("beyond", np.int32),
        changed=plane("changed", np.uint8),
        waiting=plane("waiting", np.uint8),
        max_gap=max_gap,
    )


def hold_nearest(planes: HoldingPlanes, classes: Plane) -> None:
    """Give myelin, and background no farther than the gap, to the nearest axon.

    Windows lie on the grid of blocks that :func:`ranvier._nearest.nearest` looks at, and reach as far beyond them as
    it does, so that each block gives the same. Among axons at exactly the same distance, farther away than that,
    the one whose outline comes first in raster order is taken.
    """
    block = _nearest._WINDOW
    reach = max(_nearest._HALOS[-1], math.ceil(planes.max_gap))
    search = _Search(planes.axons)
    for core in cores(planes.shape, _BLOCKS * block):
        window = grown(core, reach, planes.shape)
        axons = planes.axons.read(window)
        myelin = (classes.read(window) == MYELIN) & (axons == 0)
        state = Holding(
            axons=axons,
            owner=axons.copy(),
            down=np.zeros(axons.shape, np.int16),
            right=np.zeros(axons.shape, np.int16),
            tissue=myelin | (axons > 0),
            max_gap=planes.max_gap,
        )
        far = [
            _nearest._look_around(state, myelin, _moved(part, core, window))
            for part in cores(core.shape, block)
        ]
        inner = core.within(window)
        beyond = _led_to(state, inner)
        _find_far(state, np.concatenate(far), window, search=search, beyond=beyond, core=core)
        planes.owner.write(core, state.owner[inner])
        planes.down.write(core, state.down[inner])
        planes.right.write(core, state.right[inner])
        planes.tissue.write(core, state.tissue[inner].view(np.uint8))
        planes.beyond.write(core, beyond)
    planes.commit()


def _moved(part: Box, core: Box, window: Box) -> tuple[slice, slice]:
    """Slices, in the window, of a part of its core."""
    down, right = core.top - window.top, core.left - window.left
    return (
        slice(part.top + down, part.bottom + down),
        slice(part.left + right, part.right + right),
    )


def _led_to(state: Holding, inner: tuple[slice, slice]) -> NDArray[np.int32]:
    """Labels that the ways of the inner pixels lead to."""
    rows = np.arange(inner[0].start, inner[0].stop)[:, None] + state.down[inner]
    cols = np.arange(inner[1].start, inner[1].stop)[None, :] + state.right[inner]
    led: NDArray[np.int32] = state.axons[rows, cols]
    return led


def _find_far(
    state: Holding,
    far: NDArray[np.int64],
    window: Box,
    *,
    search: _Search,
    beyond: NDArray[np.int32],
    core: Box,
) -> None:
    """Find the nearest axon of pixels that are far from any."""
    if not far.size:
        return
    row, col = np.divmod(far, state.shape[1])
    to_row, to_col, label = search(row + window.top, col + window.left)
    near = (label > 0) & (np.maximum(abs(to_row), abs(to_col)) <= FARTHEST)
    state.owner.ravel()[far] = np.where(near, label, 0)
    state.down.ravel()[far] = np.where(near, to_row, 0)
    state.right.ravel()[far] = np.where(near, to_col, 0)
    beyond[row + window.top - core.top, col + window.left - core.left] = np.where(near, label, 0)


class _Search:
    """Looks for the nearest pixel of an axon, however far it is, tile by tile from near to far."""

    def __init__(self, axons: Plane) -> None:
        self._axons = axons
        self._boxes = [b for b in cores(axons.shape, axons.tile) if axons.any_stored(b)]
        sides = [(b.top, b.left, b.bottom - 1, b.right - 1) for b in self._boxes]
        self._sides = np.array(sides, dtype=np.int64).reshape(-1, 4)
        self._trees: OrderedDict[int, tuple[cKDTree, Array, Array]] = OrderedDict()

    def __call__(self, row: Array, col: Array) -> tuple[Array, Array, Array]:
        """Ways to the nearest axon pixels and their labels; label 0 where there is no axon at all."""
        down, right, label = (np.zeros(row.size, dtype=np.int64) for _ in range(3))
        if not self._boxes:
            return down, right, label
        tile = self._axons.tile
        group = (row // tile) * (self._axons.shape[1] // tile + 1) + col // tile
        order = np.argsort(group, kind="stable")
        for some in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
            down[some], right[some], label[some] = self._of_tile(row[some], col[some])
        return down, right, label

    def _of_tile(self, row: Array, col: Array) -> tuple[Array, Array, Array]:
        """The same for pixels that lie in one tile."""
        top, left, bottom, right = self._sides.T
        off_row = np.maximum(np.maximum(top - row.max(), row.min() - bottom), 0)
        off_col = np.maximum(np.maximum(left - col.max(), col.min() - right), 0)
        apart = off_row**2 + off_col**2
        best = np.full(row.size, np.iinfo(np.int64).max, dtype=np.int64)
        to_row, to_col, label = (np.zeros(row.size, dtype=np.int64) for _ in range(3))
        for index in np.argsort(apart, kind="stable"):
            if apart[index] > best.max():
                break
            tree, edge, labels = self._tree(int(index))
            if not edge.size:
                continue
            found = first_nearest(tree, row, col)
            ways = edge[found] - np.column_stack((row, col))
            squared = (ways**2).sum(axis=1)
            place, known = edge[found], (row + to_row, col + to_col)
            earlier = (place[:, 0] < known[0]) | (
                (place[:, 0] == known[0]) & (place[:, 1] < known[1])
            )
            earlier &= squared == best
            nearer = (squared < best) | earlier
            best[nearer] = squared[nearer]
            to_row[nearer], to_col[nearer] = ways[nearer].T
            label[nearer] = labels[found[nearer]]
        return to_row, to_col, label

    def _tree(self, index: int) -> tuple[cKDTree, Array, Array]:
        """Outlines of the axons in a tile: a tree, their places and their labels."""
        if index in self._trees:
            self._trees.move_to_end(index)
            return self._trees[index]
        box = self._boxes[index]
        window = grown(box, 1, self._axons.shape)
        seen = self._axons.read(window)
        edge = ((seen > 0) & ~inside_of(seen > 0))[box.within(window)]
        row, col = np.nonzero(edge)
        labels = seen[box.within(window)][row, col]
        places = np.column_stack((row + box.top, col + box.left))
        tree = cKDTree(places if places.size else np.zeros((1, 2)), balanced_tree=False)
        self._trees[index] = (tree, places, labels)
        if len(self._trees) > _TREES:
            self._trees.popitem(last=False)
        return self._trees[index]


def fill_gaps(planes: HoldingPlanes, largest: float | None) -> None:
    """Make background that one fibre alone encloses, such as a gap inside its sheath, part of the tissue."""
    parts = strips(planes.shape, planes.owner.tile)

    def held(index: int) -> Runs:
        return runs_of(planes.owner.read(parts[index]) * planes.tissue.read(parts[index]))

    holes = find_holes(parts, held, largest=largest)
    if not holes.owner.any():
        return
    for index, strip in enumerate(parts):
        runs = held(index)
        filled = holes.filled(index, runs)
        if np.array_equal(filled.value, runs.value):
            continue
        gap = runs.with_values(filled.value != runs.value).painted()
        owner, tissue = planes.owner.read(strip), planes.tissue.read(strip)
        owner[gap] = planes.beyond.read(strip)[gap]
        tissue[gap] = 1
        planes.owner.write(strip, owner)
        planes.tissue.write(strip, tissue)
    planes.commit()


def write_fibres(planes: HoldingPlanes, fibres: Plane, largest: float | None) -> None:
    """Write the fibres: what is held of the tissue, with the holes that one alone encloses."""
    parts = strips(planes.shape, planes.owner.tile)

    def held(index: int) -> Runs:
        return runs_of(planes.owner.read(parts[index]) * planes.tissue.read(parts[index]))

    holes = None if largest == 0 else find_holes(parts, held, largest=largest)
    for index, strip in enumerate(parts):
        runs = held(index)
        if holes is not None:
            runs = holes.filled(index, runs)
        fibres.write(strip, runs.painted().astype(np.int32))
    fibres.commit()
