"""Axons of a plane on disk, numbered as :func:`ranvier.instances.separate` numbers those of an array."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._runs import Runs, components, runs_of
from ranvier.micrograph import AXON, MYELIN
from ranvier.streaming.pieces import Holes, Pieces, find_holes, find_pieces
from ranvier.streaming.planes import Plane, strips

__all__ = ["find_axons", "find_orphans"]


@dataclass(eq=False)
class _Labelled:
    """Strips of the axon class, each run with the label of its piece, from 1; 0 for those left out."""

    classes: Plane
    pieces: Pieces | None = None
    keep: NDArray[np.bool_] | None = None

    def __post_init__(self) -> None:
        self.strips = strips(self.classes.shape, self.classes.tile)

    def mask(self, index: int) -> Runs:
        """Runs of the class itself."""
        return runs_of((self.classes.read(self.strips[index]) == AXON).view(np.uint8))

    def __call__(self, index: int) -> Runs:
        runs = self.mask(index)
        part, _ = components(runs, runs.value == 1, diagonal=True)
        value = part if self.pieces is None else self.pieces.of(index, part)
        label = value.astype(np.int32) + 1
        if self.keep is not None:
            label = np.where(self.keep[label], label, 0).astype(np.int32)
        return runs.with_values(label)


def find_axons(
    classes: Plane, axons: Plane, *, smallest: float, largest_hole: float | None
) -> tuple[int, int]:
    """Label the axons, fill their holes, drop the small ones and number the rest.

    Parameters
    ----------
    classes
        uint8: 0 background, 1 myelin, 2 axon.
    axons
        int32; gets ids from 1 in raster order of first pixels.
    smallest
        Least area of an axon, in pixels, with its filled holes.
    largest_hole
        Larger holes stay open; 0 fills none, None has no limit.

    Returns
    -------
    count, small
        How many axons are left, and how many were dropped.
    """
    labelled = _Labelled(classes)
    own: list[NDArray[np.float64]] = []

    def measure(runs: Runs, part: NDArray[np.int32], count: int) -> None:
        some = part >= 0
        area = np.bincount(part[some], weights=runs.length[some], minlength=count)
        own.append(area.astype(np.float64))

    pieces = find_pieces(labelled.strips, labelled.mask, diagonal=True, look=measure)
    labelled.pieces = pieces
    if not pieces.count:
        return 0, 0
    area = np.append(0.0, pieces.total(np.concatenate(own)))
    holes = _holes(labelled, largest_hole)
    if holes is not None:
        area += holes.added(pieces.count)
    keep = area >= smallest
    keep[0] = False
    small = pieces.count - int(np.count_nonzero(keep))
    if small:
        labelled.keep = keep
        # A hole that held nothing but dropped axons is now a hole like any other.
        holes = _holes(labelled, largest_hole)
    number = np.where(keep, np.cumsum(keep), 0).astype(np.int32)
    for index, strip in enumerate(labelled.strips):
        runs = labelled(index)
        if holes is not None:
            runs = holes.filled(index, runs)
        axons.write(strip, runs.with_values(number[runs.value]).painted())
    axons.commit()
    return pieces.count - small, small


def _holes(labelled: _Labelled, largest: float | None) -> Holes | None:
    return None if largest == 0 else find_holes(labelled.strips, labelled, largest=largest)


def find_orphans(classes: Plane, fibres: Plane) -> tuple[int, int]:
    """Pixels of myelin that no fibre holds, and 8-connected pieces of them."""
    parts = strips(classes.shape, classes.tile)
    pixels = 0

    def read(index: int) -> Runs:
        strip = parts[index]
        loose = (classes.read(strip) == MYELIN) & (fibres.read(strip) == 0)
        return runs_of(loose.view(np.uint8))

    def look(runs: Runs, part: NDArray[np.int32], count: int) -> None:
        nonlocal pixels
        pixels += int(runs.length[part >= 0].sum())

    pieces = find_pieces(parts, read, diagonal=True, look=look)
    return pixels, pieces.count
