"""Axons that are not believed, in classes on disk."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._axon_counts import FAINT, AxonCounts, counted, walls
from ranvier._doubtful_axons import AxonLimits, LeftOut
from ranvier._runs import Runs, components, runs_of
from ranvier.micrograph import AXON, BACKGROUND, MYELIN
from ranvier.streaming.pieces import Pieces, find_pieces
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

    def look(runs: Runs, part: NDArray[np.int32], count: int) -> None:
        strip = parts[len(found)]
        if not count:
            found.append(AxonCounts(*(np.zeros(0) for _ in fields(AxonCounts))))
            return
        around, above, below = _with_neighbours(strip, classes.shape[0])
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

    pieces = find_pieces(parts, _Reader(classes, parts, AXON), diagonal=True, look=look)
    if not pieces.count:
        return none

    def total(name: str) -> NDArray[np.float64] | None:
        each = [getattr(seen, name) for seen in found]
        return None if any(one is None for one in each) else pieces.total(np.concatenate(each))

    totals: dict[str, Any] = {field.name: total(field.name) for field in fields(AxonCounts)}
    become, left_out = limits.judge(AxonCounts(**totals))
    if (become == AXON).all():
        return none
    _repaint(classes, parts, AXON, pieces, become)
    if left_out.faint:
        _drop_walls(classes, parts)
    return left_out


def _drop_walls(classes: Plane, parts: Sequence[Box]) -> None:
    """Take FAINT axons for background, and the myelin that borders on them and on no other axon."""
    found: list[tuple[NDArray[np.float64], NDArray[np.float64]]] = []

    def look(runs: Runs, part: NDArray[np.int32], count: int) -> None:
        around, above, below = _with_neighbours(parts[len(found)], classes.shape[0])
        labels = runs.with_values((part + 1).astype(np.int32)).painted()
        found.append(walls(classes.read(around), labels, count, above=above, below=below))

    pieces = find_pieces(parts, _Reader(classes, parts, MYELIN), diagonal=True, look=look)
    kept, faint = (pieces.total(np.concatenate([f[kind] for f in found])) for kind in range(2))
    become = np.where((faint > 0) & (kept == 0), BACKGROUND, MYELIN).astype(np.uint8)
    _repaint(classes, parts, MYELIN, pieces, become)
    for strip in parts:
        here = classes.read(strip)
        if (here == FAINT).any():
            classes.write(strip, np.where(here == FAINT, np.uint8(BACKGROUND), here))
    classes.commit()


@dataclass(frozen=True, eq=False)
class _Reader:
    """Runs of one class, strip by strip."""

    classes: Plane
    parts: Sequence[Box]
    value: int

    def __call__(self, index: int) -> Runs:
        return runs_of((self.classes.read(self.parts[index]) == self.value).view(np.uint8))


def _with_neighbours(strip: Box, rows: int) -> tuple[Box, int, int]:
    """A strip with the rows next to it, and how many these are above and below."""
    above, below = int(strip.top > 0), int(strip.bottom < rows)
    return Box(strip.top - above, strip.left, strip.bottom + below, strip.right), above, below


def _repaint(
    classes: Plane, parts: Sequence[Box], value: int, pieces: Pieces, become: NDArray[np.uint8]
) -> None:
    """Give the pieces of a class what they become."""
    read = _Reader(classes, parts, value)
    for index, strip in enumerate(parts):
        runs = read(index)
        piece = pieces.of(index, components(runs, runs.value == 1, diagonal=True)[0])
        new = become[np.maximum(piece, 0)]
        changed = (piece >= 0) & (new != value)
        if changed.any():
            here = classes.read(strip)
            painted = runs.with_values(np.where(changed, new + 1, 0).astype(np.uint8)).painted()
            here[painted > 0] = painted[painted > 0] - 1
            classes.write(strip, here)
    classes.commit()
