"""Axons that no myelin surrounds, in classes on disk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranvier._bare_axons import contacts, is_bare
from ranvier._runs import Runs, components, runs_of
from ranvier.micrograph import AXON, BACKGROUND
from ranvier.streaming.pieces import find_pieces
from ranvier.streaming.planes import Plane, strips
from ranvier.tiling import Box

__all__ = ["drop_bare_axons"]


def drop_bare_axons(classes: Plane, least: float) -> int:
    """Take axons that are hardly bordered by myelin for background, in place.

    Those are the very ones that go in memory (:func:`ranvier._bare_axons.without_bare_axons`).

    Parameters
    ----------
    classes
        uint8, committed: 0 background, 1 myelin, 2 axon; committed again.
    least
        Closure below which an axon goes.

    Returns
    -------
    int
        How many went.

    Raises
    ------
    OutputError
        The disk is full.
    """
    if least <= 0:
        return 0
    parts = strips(classes.shape, classes.tile)
    counted: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def read(index: int) -> Runs:
        return runs_of((classes.read(parts[index]) == AXON).view(np.uint8))

    def look(runs: Runs, part: NDArray[np.int32], count: int) -> None:
        strip = parts[len(counted)]
        if not count:
            counted.append((np.zeros(0), np.zeros(0)))
            return
        above, below = int(strip.top > 0), int(strip.bottom < classes.shape[0])
        around = Box(strip.top - above, strip.left, strip.bottom + below, strip.right)
        labels = runs.with_values((part + 1).astype(np.int32)).painted()
        counted.append(contacts(classes.read(around), labels, count, above=above, below=below))

    pieces = find_pieces(parts, read, diagonal=True, look=look)
    if not pieces.count:
        return 0
    myelin, background = (
        pieces.total(np.concatenate([c[side] for c in counted])) for side in (0, 1)
    )
    bare = is_bare(myelin, background, least)
    if not bare.any():
        return 0
    for index, strip in enumerate(parts):
        runs = read(index)
        piece = pieces.of(index, components(runs, runs.value == 1, diagonal=True)[0])
        gone = (piece >= 0) & bare[np.maximum(piece, 0)]
        if gone.any():
            kept = classes.read(strip)
            kept[runs.with_values(gone.view(np.uint8)).painted() == 1] = BACKGROUND
            classes.write(strip, kept)
    classes.commit()
    return int(bare.sum())
