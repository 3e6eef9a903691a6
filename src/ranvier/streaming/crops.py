"""Whole fibres cut out of the planes: each belongs to one crop, which holds all of it and a margin."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.contours import Outlines
from ranvier.micrograph import Array
from ranvier.streaming.planes import grown
from ranvier.streaming.separating import Separated
from ranvier.tiling import Box

__all__ = ["LARGEST_PX", "Crop", "Placed", "crops", "placed"]

LARGEST_PX = 24_000_000
"""Fibres whose box is larger are measured by their area alone."""
_MARGIN = 4
"""Pixels around a fibre that its measures look at, and one more."""
Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Crop:
    """Some fibres, whole.

    Attributes
    ----------
    ids
        Their ids, ascending.
    box
        Where the crop lies in the image.
    axons, fibres
        int32: their labels, from 1 in the order of ``ids``; all other fibres are ``len(ids) + 1`` in ``fibres``, and
        their axons 0.
    """

    ids: Ids
    box: Box
    axons: NDArray[np.int32]
    fibres: NDArray[np.int32]

    @property
    def own(self) -> NDArray[np.int32]:
        """``fibres`` without the others."""
        return np.where(self.fibres > self.ids.size, 0, self.fibres).astype(np.int32)


def crops(
    found: Separated, *, window: int = 1024, largest: int = LARGEST_PX
) -> Iterator[Crop | int]:
    """Cut all fibres out, those near each other together.

    Parameters
    ----------
    found
        Fibres on disk.
    window
        A fibre goes with those whose boxes have their centres in the same square of this edge. One that is larger
        than that has a crop of its own.
    largest
        Pixels of the largest crop of one fibre.

    Yields
    ------
    Crop or int
        Crops, each fibre in one of them; and ids of fibres that are too large.
    """
    if not found.count:
        return
    boxes = found.fibre_boxes.astype(np.int64)
    size = boxes[:, 2:] - boxes[:, :2]
    cell = (boxes[:, :2] + boxes[:, 2:]) // 2 // window
    alone: NDArray[np.bool_] = np.max(size, axis=1) > window
    across = found.fibres.shape[1] // window + 1
    key = np.where(alone, -1 - np.arange(found.count), cell[:, 0] * across + cell[:, 1])
    order = np.lexsort((np.arange(found.count), key))
    lookup = np.zeros(found.count + 1, dtype=np.int32)
    for part in np.split(order, np.flatnonzero(np.diff(key[order])) + 1):
        if alone[part[0]] and int(np.prod(size[part[0]])) > largest:
            yield int(part[0]) + 1
        else:
            yield _crop(found, part + 1, lookup)


def _crop(found: Separated, ids: Ids, lookup: NDArray[np.int32]) -> Crop:
    boxes = found.fibre_boxes[ids - 1]
    (top, left), (bottom, right) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    box = grown(Box(int(top), int(left), int(bottom), int(right)), _MARGIN, found.fibres.shape)
    lookup[ids] = np.arange(1, ids.size + 1, dtype=np.int32)
    fibres = found.fibres.read(box)
    local = lookup[fibres]
    local[(fibres > 0) & (local == 0)] = ids.size + 1
    axons = lookup[found.axons.read(box)]
    lookup[ids] = 0
    return Crop(ids, box, axons, local)


@dataclass(frozen=True, eq=False)
class Placed(Outlines):
    """Outlines found in a crop whose points lie where they lie in the image, to the last bit.

    Corners are those of the crop.
    """

    down: int = 0
    right: int = 0

    def midpoints(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As of :class:`ranvier.contours.Outlines`, in the image."""
        row, col = self._moved()
        return self._middle(row), self._middle(col)

    def smoothed(self, steps: int) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """As of :class:`ranvier.contours.Outlines`, in the image."""
        ends = (corner + corner[self.following] for corner in self._moved())
        row, col = (self._average(double, steps) for double in ends)
        return row, col

    def _moved(self) -> tuple[Array, Array]:
        return self.row + np.int32(self.down), self.col + np.int32(self.right)


def placed(outlines: Outlines, box: Box) -> Placed:
    """Put the outlines of a crop where the crop lies."""
    return Placed(
        **{name: getattr(outlines, name) for name in Outlines.__dataclass_fields__},
        down=box.top,
        right=box.left,
    )
