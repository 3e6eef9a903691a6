"""How the values of a mask lie about its levels, and whether they lie there as those of a mask do."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.micrograph import Array

NEAR_LEVEL = 8 / 255
"""A grey value this close to a level (share of the largest level) counts as that level."""
STRAY_SHARE = 0.5
"""So many stray grey pixels for each foreground pixel at a level are few, wherever they lie."""
MOST_STRAY = 4.0
"""More than this is no mask; so it is if half of all pixels are stray."""
DEEP = 0.25
"""A grey value further than this share of a step from every level is one of an edge ..."""
EDGE_WIDTH = 2
"""... which is this many pixels wide on either side of the border between two levels."""
BLOCK = 8
"""Fainter ones lie within a block of JPEG compression from a border, in pixels."""
ELSEWHERE = 0.01
"""Share of the stray pixels that may lie elsewhere."""
_BAND = 2**22


def coded(plane: Array, highest: float) -> tuple[Array, float]:
    """The mask in 8 or 16 bits, and what to multiply it by for its values."""
    if plane.dtype in (np.uint8, np.uint16):
        return plane, 1.0
    if highest <= 65535:
        whole = plane.astype(np.uint16)
        if plane.dtype.kind in "ui" or np.array_equal(whole, plane):
            return whole, 1.0
    scale = highest / 65535
    return np.rint(plane / scale).astype(np.uint16), scale


def counted(codes: Array) -> NDArray[np.int64]:
    """How often each code occurs; band by band, as the counting widens what it counts."""
    flat = codes.ravel()
    total = np.zeros(np.iinfo(codes.dtype).max + 1, dtype=np.int64)
    for start in range(0, flat.size, _BAND):
        total += np.bincount(flat[start : start + _BAND], minlength=total.size)
    return total


@dataclass(frozen=True, eq=False)
class Levels:
    """Where each code of a mask lies among its levels.

    Attributes
    ----------
    nearest
        uint8: the class that it becomes.
    off
        Distance from the nearest level, as a share of the highest level.
    step
        Distance of one level from the next, likewise.
    """

    nearest: NDArray[np.uint8]
    off: NDArray[np.float64]
    step: float

    @property
    def at(self) -> NDArray[np.bool_]:
        """Which codes count as a level."""
        return np.asarray(self.off <= NEAR_LEVEL)

    def fit(self, codes: Array, counts: NDArray[np.int64]) -> bool:
        """Whether the pixels pile up at the levels, some of them above the lowest, as in a mask."""
        at_foreground = int(counts[self.at & (self.nearest > 0)].sum())
        stray = int(counts[~self.at].sum())
        if not at_foreground or stray <= STRAY_SHARE * at_foreground:
            return at_foreground > 0
        if stray > MOST_STRAY * at_foreground or 2 * stray >= codes.size:
            return False
        deep = self.off > DEEP * self.step
        classes = self.nearest[codes]
        for which, reach in ((deep, EDGE_WIDTH), (~self.at, BLOCK)):
            elsewhere = which[codes] & ~near_borders(classes, reach)
            if np.count_nonzero(elsewhere) > ELSEWHERE * stray:
                return False
        return True


def near_borders(classes: NDArray[np.uint8], reach: int) -> NDArray[np.bool_]:
    """Pixels with one of another class within a square that reaches so far."""
    from scipy import ndimage

    side = 2 * reach + 1
    highest = ndimage.maximum_filter(classes, side)
    differ: NDArray[np.bool_] = highest != ndimage.minimum_filter(classes, side)
    return differ


def beside(pixels: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels that are so, or have one of the 8 around them that is."""
    wide = pixels.copy()
    wide[:, 1:] |= pixels[:, :-1]
    wide[:, :-1] |= pixels[:, 1:]
    found = wide.copy()
    found[1:] |= wide[:-1]
    found[:-1] |= wide[1:]
    return found
