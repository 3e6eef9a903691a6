"""Axons that are not believed, in classes on disk."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranvier._doubtful_axons import AxonLimits, LeftOut, contacts, sureness
from ranvier._runs import Runs, components, runs_of
from ranvier.micrograph import AXON, BACKGROUND
from ranvier.streaming.pieces import find_pieces
from ranvier.streaming.planes import Plane, strips
from ranvier.tiling import Box

__all__ = ["drop_doubtful_axons"]


def drop_doubtful_axons(classes: Plane, confidence: Plane, limits: AxonLimits) -> LeftOut:
    """Take axons for background, in place, that are hardly bordered by myelin or that the network is not sure of.

    Those are the very ones that go in memory (:func:`ranvier._doubtful_axons.without_doubtful_axons`).

    Parameters
    ----------
    classes
        uint8, committed: 0 background, 1 myelin, 2 axon; committed again.
    confidence
        uint8, committed, the same shape: probability of the class that was chosen, times 255.
    limits
        Which axons go.

    Returns
    -------
    LeftOut
        How many went.

    Raises
    ------
    OutputError
        The disk is full.
    """
    none = LeftOut(limits)
    if limits.keep_all:
        return none
    parts = strips(classes.shape, classes.tile)
    counted: list[tuple[NDArray[np.float64], ...]] = []

    def read(index: int) -> Runs:
        return runs_of((classes.read(parts[index]) == AXON).view(np.uint8))

    def look(runs: Runs, part: NDArray[np.int32], count: int) -> None:
        strip = parts[len(counted)]
        if not count:
            counted.append((np.zeros(0),) * 4)
            return
        above, below = int(strip.top > 0), int(strip.bottom < classes.shape[0])
        around = Box(strip.top - above, strip.left, strip.bottom + below, strip.right)
        labels = runs.with_values((part + 1).astype(np.int32)).painted()
        counted.append(
            (
                *contacts(classes.read(around), labels, count, above=above, below=below),
                *sureness(confidence.read(strip), labels, count),
            )
        )

    pieces = find_pieces(parts, read, diagonal=True, look=look)
    if not pieces.count:
        return none
    myelin, background, sure, area = (
        pieces.total(np.concatenate([c[kind] for c in counted])) for kind in range(4)
    )
    doubtful, left_out = limits.judge(myelin, background, (sure, area))
    if not doubtful.any():
        return none
    for index, strip in enumerate(parts):
        runs = read(index)
        piece = pieces.of(index, components(runs, runs.value == 1, diagonal=True)[0])
        gone = (piece >= 0) & doubtful[np.maximum(piece, 0)]
        if gone.any():
            kept = classes.read(strip)
            kept[runs.with_values(gone.view(np.uint8)).painted() == 1] = BACKGROUND
            classes.write(strip, kept)
    classes.commit()
    return left_out
