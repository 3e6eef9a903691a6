"""Outlines of the objects of a label image, along the edges of their pixels.

Corners lie on the grid between pixels: corner (r, c) is the top left corner of pixel (r, c). Every edge is
walked so that its object lies on the right hand (rows count downwards): clockwise on the screen around an
object, anticlockwise around a hole in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, connected_components

from ranvier.errors import MaskError
from ranvier.micrograph import Array

__all__ = ["OUTSIDE", "Outlines", "trace"]

OUTSIDE = -1
"""Stands for the label beyond the edge of the image."""
_STEP = ((0, 1), (1, 0), (0, -1), (-1, 0))
"""Right, down, left, up: a turn to the right is the next of them."""
_CORNER = ((0, 0), (0, 1), (1, 1), (1, 0))
"""From a pixel to the first corner of its top, right, bottom and left edge, walked in the directions above."""
_BAND = 2**18
"""Pixels that are compared at a time."""

Indices = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Outlines:
    """Every pixel edge that separates an object from something else; one array entry per edge.

    An edge between two objects is listed twice, once for each. Entries are grouped by object, then by loop,
    and stand in walking order within a loop. A loop belongs to one 4-connected part of its object; where
    two pixels of an object touch only at a corner, each loop stays with its own pixel.

    Attributes
    ----------
    owner
        Id of the object, which lies on the right hand; ascending.
    other
        Label on the left hand: another id, 0 for background, ``OUTSIDE`` beyond the image.
    row, col
        Corner at which the edge starts.
    following, preceding
        Index of the next and of the previous edge of the same loop.
    starts
        Index of each loop's first edge, and at the end the number of edges; int64, shape (loops + 1,).
        An object's first loop is the outer one that starts highest in the image.
    """

    owner: Indices
    other: Indices
    row: Indices
    col: Indices
    following: Indices
    preceding: Indices
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.owner.size)

    def midpoints(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Middle of each edge, row and column, in pixels; pixel centres have whole coordinates."""
        return self._middle(self.row), self._middle(self.col)

    def _middle(self, corner: Indices) -> NDArray[np.float32]:
        double = corner + corner[self.following]
        middle: NDArray[np.float32] = double.astype(np.float32)
        middle *= np.float32(0.5)
        middle -= np.float32(0.5)
        return middle

    def smoothed(self, steps: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Middle of each edge, averaged with its neighbours along the loop, which removes the staircase.

        Parameters
        ----------
        steps
            How many neighbours ahead and as many behind; a loop that is shorter is walked again.

        Returns
        -------
        row, col
            float32, in pixels; pixel centres have whole coordinates.
        """
        ends = self.row + self.row[self.following], self.col + self.col[self.following]
        row, col = (self._average(double, steps) for double in ends)
        return row, col

    def _average(self, double: Indices, steps: int) -> NDArray[np.float32]:
        """Mean of an edge's doubled coordinate and its neighbours', halved; whole numbers are added exactly."""
        total = double.astype(np.int64)
        ahead, behind = self.following, self.preceding
        for _ in range(steps):
            total += double[ahead]
            total += double[behind]
            ahead, behind = self.following[ahead], self.preceding[behind]
        mean: NDArray[np.float32] = (total / (2 * (2 * steps + 1)) - 0.5).astype(np.float32)
        return mean


def trace(labels: NDArray[np.int32], count: int) -> Outlines:
    """Walk around every object of a label image.

    Parameters
    ----------
    labels
        Shape (rows, columns): 0, or the id of an object.
    count
        Highest id that may occur.

    Returns
    -------
    Outlines
        Empty where there is no object.

    Raises
    ------
    MaskError
        The labels have no rows and columns, or one is negative or higher than ``count``.
    """
    if labels.ndim != 2 or labels.size == 0:
        raise MaskError("labels must have rows and columns", seen=f"shape {labels.shape}")
    sides = _sides(labels)
    owner, other = (np.concatenate([side[field] for side in sides]) for field in (2, 3))
    lowest, highest = int(other.min(initial=OUTSIDE)), int(owner.max(initial=0))
    if lowest < OUTSIDE or highest > count:
        raise MaskError(
            "a label is negative or higher than the count", seen=f"{lowest} to {highest} of {count}"
        )
    following = _following(labels, sides)
    corner = _CORNER
    row = np.concatenate([side[0] + corner[d][0] for d, side in enumerate(sides)])
    col = np.concatenate([side[1] + corner[d][1] for d, side in enumerate(sides)])
    del sides
    order, starts = _walk(following, owner)
    del following
    ahead = np.arange(1, order.size + 1, dtype=np.int32)
    ahead[starts[1:] - 1] = starts[:-1]
    behind = np.arange(-1, order.size - 1, dtype=np.int32)
    behind[starts[:-1]] = starts[1:] - 1
    return Outlines(
        owner=owner[order],
        other=other[order],
        row=row[order],
        col=col[order],
        following=ahead,
        preceding=behind,
        starts=starts,
    )


_Side = tuple[Indices, Indices, Indices, Indices]
"""Row and column of the pixels that have an edge on one side, their labels, and the labels beyond it."""


def _sides(labels: NDArray[np.int32]) -> list[_Side]:
    """Find the top, right, bottom and left edges of all objects; each list is in raster order."""
    rows, cols = labels.shape
    height = max(1, _BAND // cols)
    found: list[list[_Side]] = [[], [], [], []]
    for top in range(0, rows + 1, height):
        bottom = min(top + height, rows + 1)
        padded = np.full((bottom - top + 1, cols + 2), OUTSIDE, dtype=np.int32)
        held = labels[max(top - 1, 0) : min(bottom, rows)]
        first = 1 if top == 0 else 0
        padded[first : first + held.shape[0], 1:-1] = held
        above, here, before = padded[:-1, 1:-1], padded[1:, 1:-1], padded[1:, :-1]
        row, col = _differing(above, here)
        found[0].append(_of_objects(row + top, col, here[row, col], above[row, col]))
        found[2].append(_of_objects(row + (top - 1), col, above[row, col], here[row, col]))
        after = padded[1:, 1:]
        row, col = _differing(before, after)
        found[3].append(_of_objects(row + top, col, after[row, col], before[row, col]))
        found[1].append(_of_objects(row + top, col - 1, before[row, col], after[row, col]))
    return [_joined(side) for side in found]


def _joined(parts: list[_Side]) -> _Side:
    row, col, owner, other = (np.concatenate(field) for field in zip(*parts, strict=True))
    return row, col, owner, other


def _differing(one: Array, other: Array) -> tuple[Indices, Indices]:
    differ = one != other
    row, col = np.divmod(np.flatnonzero(differ), differ.shape[1])
    return row.astype(np.int32), col.astype(np.int32)


def _of_objects(row: Indices, col: Indices, owner: Indices, other: Indices) -> _Side:
    is_object = owner > 0
    return row[is_object], col[is_object], owner[is_object], other[is_object]


def _following(labels: NDArray[np.int32], sides: list[_Side]) -> Indices:
    """Index of the edge after each, in the four lists put together.

    At its end an edge turns right unless the pixel ahead on the right hand is of the object, then goes
    straight on unless the one on the left hand is too, and then turns left.
    """
    cols = labels.shape[1]
    before = np.cumsum([0, *(side[0].size for side in sides)])
    keys = [side[0].astype(np.int64) * cols + side[1] for side in sides]
    parts = []
    for direction, (row, col, owner, _) in enumerate(sides):
        ahead, left = _STEP[direction], _STEP[direction - 1]
        one = row + ahead[0], col + ahead[1]
        two = one[0] + left[0], one[1] + left[1]
        right_hand = _label_at(labels, *one) == owner
        left_hand = right_hand & (_label_at(labels, *two) == owner)
        part = np.empty(row.size, dtype=np.int32)
        for turn, where, pixel in (
            (1, ~right_hand, (row, col)),
            (0, right_hand & ~left_hand, one),
            (-1, left_hand, two),
        ):
            to = (direction + turn) % 4
            wanted = pixel[0][where].astype(np.int64) * cols + pixel[1][where]
            part[where] = before[to] + np.searchsorted(keys[to], wanted)
        parts.append(part)
    return np.concatenate(parts)


def _label_at(labels: NDArray[np.int32], row: Indices, col: Indices) -> Indices:
    """Labels of pixels, some of which may lie outside the image."""
    rows, cols = labels.shape
    inside = (row >= 0) & (row < rows) & (col >= 0) & (col < cols)
    label: Indices = labels[np.clip(row, 0, rows - 1), np.clip(col, 0, cols - 1)]
    label[~inside] = OUTSIDE
    return label


def _walk(following: Indices, owner: Indices) -> tuple[Indices, NDArray[np.int64]]:
    """Put edges in walking order, loop by loop in order of their owners; and where each loop starts.

    Once every loop is cut before its first edge, and its end tied to the head of the next, all edges form
    one chain, which is followed in a single linear pass.
    """
    size = following.size
    if not size:
        return following, np.zeros(1, dtype=np.int64)
    count, loop = connected_components(_chain(following), connection="strong")
    lengths = np.bincount(loop, minlength=count)
    head = np.full(count, size, dtype=np.int32)
    reverse = np.arange(size - 1, -1, -1, dtype=np.int32)
    head[loop[::-1]] = reverse  # of a repeated index the last, so the first edge, stays
    del reverse
    order = np.lexsort((head, owner[head]))
    head = head[order]
    tail = np.empty(count, dtype=np.int32)
    is_head = np.zeros(size, dtype=bool)
    is_head[head] = True
    last = np.flatnonzero(is_head[following])
    tail[loop[last]] = last
    tail = tail[order]
    cut = following.copy()
    cut[tail[:-1]] = head[1:]
    cut[tail[-1]] = head[0]
    walked = breadth_first_order(_chain(cut), int(head[0]), return_predecessors=False)
    return walked, np.concatenate([[0], np.cumsum(lengths[order])]).astype(np.int64)


def _chain(following: Indices) -> csr_array:
    """Graph in which every edge leads to one other."""
    size = following.size
    return csr_array(
        (np.ones(size), following, np.arange(size + 1, dtype=np.int32)), shape=(size, size)
    )
