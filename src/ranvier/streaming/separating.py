"""From classes on disk to fibres on disk: what :func:`ranvier.instances.separate` finds, for planes of any size."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranvier._runs import runs_of
from ranvier.calibration import PixelSize
from ranvier.instances import InstanceSettings, _in_pixels
from ranvier.streaming.axons import find_axons, find_orphans
from ranvier.streaming.holding import fill_gaps, hold_nearest, holding_planes, write_fibres
from ranvier.streaming.planes import Plane, strips
from ranvier.streaming.sheaths import Rounds, share_out
from ranvier.tiling import Box

__all__ = ["Separated", "separate_streamed"]

Boxes = NDArray[np.int32]
"""Shape (fibres, 4): top, left, bottom and right, the last two exclusive."""


@dataclass(frozen=True, eq=False)
class Separated:
    """Fibres on disk; as :class:`ranvier.micrograph.Instances`, with the boxes of axons and of fibres."""

    axons: Plane
    fibres: Plane
    count: int
    orphan_myelin_px: int
    orphan_myelin_count: int
    small_axons: int
    axon_boxes: Boxes
    fibre_boxes: Boxes


def separate_streamed(
    classes: Plane,
    *,
    folder: Path,
    until: ExitStack,
    settings: InstanceSettings,
    pixel_size: PixelSize | None = None,
    rounds: Rounds = Rounds(),  # noqa: B008  # frozen
) -> Separated:
    """Find every axon and the myelin that belongs to it, window by window.

    Labels are the very ones that :func:`ranvier.instances.separate` gives to the same classes in memory.

    Parameters
    ----------
    classes
        uint8, committed: 0 background, 1 myelin, 2 axon.
    folder
        For the planes that are worked with.
    until
        When it closes, the planes of axons and fibres are deleted.
    settings, pixel_size
        As for ``separate``.
    rounds
        Size of windows; of no influence on the result.

    Raises
    ------
    OutputError
        The disk is full.
    """
    limits = _in_pixels(settings, pixel_size)
    axons, fibres = (
        until.enter_context(Plane(folder / name, classes.shape, np.int32, tile=classes.tile))
        for name in ("axons.plane", "fibres.plane")
    )
    count, small = find_axons(
        classes, axons, smallest=limits.smallest, largest_hole=limits.largest_hole
    )
    boxes = _Boxes(count), _Boxes(count)
    if count:
        with ExitStack() as stage:
            planes = holding_planes(folder, axons, limits.gap, until=stage)
            hold_nearest(planes, classes)
            if limits.largest_hole != 0:
                fill_gaps(planes, limits.largest_hole)
            share_out(planes, count, folder=folder, rounds=rounds)
            write_fibres(planes, fibres, limits.largest_hole)
    for strip in strips(classes.shape, classes.tile):
        for found, plane in zip(boxes, (axons, fibres), strict=True):
            found.look(plane, strip)
    orphan_px, orphans = find_orphans(classes, fibres)
    return Separated(
        axons,
        fibres,
        count,
        orphan_myelin_px=orphan_px,
        orphan_myelin_count=orphans,
        small_axons=small,
        axon_boxes=boxes[0].found,
        fibre_boxes=boxes[1].found,
    )


class _Boxes:
    """The box of every label, strip by strip."""

    def __init__(self, count: int) -> None:
        self._low = np.full((count + 1, 2), np.iinfo(np.int32).max, dtype=np.int32)
        self._high = np.zeros((count + 1, 2), dtype=np.int32)

    def look(self, plane: Plane, strip: Box) -> None:
        """Take in a strip."""
        if not plane.any_stored(strip):
            return
        runs = runs_of(plane.read(strip))
        some = np.flatnonzero(runs.value)
        row, col = np.divmod(runs.start[some], runs.shape[1])
        label, end = runs.value[some], col + runs.length[some]
        for place, low, high in ((0, row + strip.top, row + strip.top + 1), (1, col, end)):
            np.minimum.at(self._low[:, place], label, low.astype(np.int32))
            np.maximum.at(self._high[:, place], label, high.astype(np.int32))

    @property
    def found(self) -> Boxes:
        """Boxes of labels 1 to n."""
        return np.hstack((self._low[1:], self._high[1:]))
