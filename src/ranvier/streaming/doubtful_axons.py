"""Axons that are not believed, in classes on disk."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._doubtful_axons import AxonCounts, AxonLimits, LeftOut, counted
from ranvier._runs import Runs, components, runs_of
from ranvier.micrograph import AXON, BACKGROUND
from ranvier.streaming.pieces import find_pieces
from ranvier.streaming.planes import Plane, strips
from ranvier.streaming.sources import WindowSource
from ranvier.tiling import Box

__all__ = ["drop_doubtful_axons"]


def drop_doubtful_axons(
    classes: Plane, confidence: Plane, source: WindowSource, limits: AxonLimits
) -> LeftOut:
    """Take axons for background, in place: with hardly any myelin, or not sure, or with faint sheaths.

    Those are the very ones that go in memory (:func:`ranvier._doubtful_axons.without_doubtful_axons`).

    Parameters
    ----------
    classes
        uint8, committed: 0 background, 1 myelin, 2 axon; committed again.
    confidence
        uint8, committed, the same shape: probability of the class that was chosen, times 255.
    source
        The image, of the same shape; only read where contrast counts.
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
    found: list[AxonCounts] = []

    def read(index: int) -> Runs:
        return runs_of((classes.read(parts[index]) == AXON).view(np.uint8))

    def look(runs: Runs, part: NDArray[np.int32], count: int) -> None:
        strip = parts[len(found)]
        if not count:
            found.append(AxonCounts(*(np.zeros(0) for _ in fields(AxonCounts))))
            return
        above, below = int(strip.top > 0), int(strip.bottom < classes.shape[0])
        around = Box(strip.top - above, strip.left, strip.bottom + below, strip.right)
        found.append(
            counted(
                classes.read(around),
                runs.with_values((part + 1).astype(np.int32)).painted(),
                count,
                confidence.read(strip),
                source.read(around) if limits.contrast > 0 else None,
                above=above,
                below=below,
            )
        )

    pieces = find_pieces(parts, read, diagonal=True, look=look)
    if not pieces.count:
        return none

    def total(name: str) -> NDArray[np.float64] | None:
        each = [getattr(seen, name) for seen in found]
        return None if any(one is None for one in each) else pieces.total(np.concatenate(each))

    totals: dict[str, Any] = {field.name: total(field.name) for field in fields(AxonCounts)}
    doubtful, left_out = limits.judge(AxonCounts(**totals))
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
