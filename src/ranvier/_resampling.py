"""Resampling that can be computed part by part, with the very same numbers.

Along each axis a pixel of the result is the mean of the pixels below a triangle about its centre, which reaches one
pixel to both sides, or one pixel of the result where that is wider (bilinear when enlarging, antialiased when
shrinking). Its weights follow from its own index and the lengths of the whole axis, and its products are added in one
order. So it does not matter which other pixels are computed with it.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.micrograph import Array

__all__ = ["Stretch", "resample_part"]

_ROWS = 64
"""Rows of the result that are computed at once: they stay in the cache."""


@dataclass(frozen=True)
class Stretch:
    """Some of the pixels of an axis that is resampled as a whole.

    Attributes
    ----------
    before, after
        Length of the whole axis in pixels, before and after.
    start, stop
        The pixels of the result that are meant, half-open.
    """

    before: int
    after: int
    start: int
    stop: int

    @classmethod
    def whole(cls, before: int, after: int) -> Stretch:
        """All pixels of an axis."""
        return cls(before, after, 0, after)

    @property
    def needed(self) -> tuple[int, int]:
        """The pixels before that these depend on, half-open."""
        if self.before == self.after:
            return self.start, self.stop
        first, last = (self._centre(i) for i in (self.start, self.stop - 1))
        return self._lowest(first), min(self.before, math.floor(last + self._reach + 0.5))

    def matrix(self) -> Any:
        """Weights of the needed pixels (columns) in these (rows), a sparse float32 matrix; not to be changed."""
        return _matrix(self)

    def _weights(self) -> Any:
        from scipy.sparse import csr_array

        first, last = self.needed
        centre = np.array([self._centre(i) for i in range(self.start, self.stop)])
        low = np.array([self._lowest(c) for c in centre])
        index = low + np.arange(math.ceil(2 * self._reach) + 1)[:, None]
        weights = 1 - np.abs(index + 0.5 - centre) / self._reach
        weights[(weights < 0) | (index >= self.before)] = 0
        total = weights.cumsum(axis=0)[-1]  # added in order; a plain sum would depend on the shape
        weights /= total
        used = weights.T > 0
        return csr_array(
            (
                weights.T[used].astype(np.float32),
                (index.T[used] - first).astype(np.int32),
                np.concatenate([[0], used.sum(axis=1).cumsum()]).astype(np.int32),
            ),
            shape=(self.stop - self.start, last - first),
        )

    @property
    def _reach(self) -> float:
        return max(1.0, self.before / self.after)

    def _centre(self, index: int) -> float:
        return (index + 0.5) * (self.before / self.after)

    def _lowest(self, centre: float) -> int:
        return max(0, math.floor(centre - self._reach + 0.5))


@functools.lru_cache(maxsize=64)
def _matrix(stretch: Stretch) -> Any:
    """Windows of one size come again and again."""
    return stretch._weights()


def resample_part(part: Array, rows: Stretch, columns: Stretch) -> NDArray[np.float32]:
    """Resample a part of a plane as it would be as a part of the whole, to the last bit.

    Parameters
    ----------
    part
        What the part of the result depends on: shape (rows needed, columns needed), any type that float32 can hold.
    rows, columns
        Which part of the result is computed.

    Returns
    -------
    array
        float32, C-contiguous, of the shape of the part of the result.
    """
    out = np.empty((rows.stop - rows.start, columns.stop - columns.start), dtype=np.float32)
    across = None if columns.before == columns.after else columns.matrix()
    offset = rows.needed[0]
    for start in range(rows.start, rows.stop, _ROWS):
        band = replace(rows, start=start, stop=min(start + _ROWS, rows.stop))
        top, bottom = (n - offset for n in band.needed)
        seen = np.ascontiguousarray(part[top:bottom], dtype=np.float32)
        down = None if band.before == band.after else band.matrix()
        target = out[start - rows.start : band.stop - rows.start]
        if rows.after < rows.before:  # the pass that leaves less comes first
            target[:] = _transposed(across, _times(down, seen))
        else:
            target[:] = _times(down, _transposed(across, seen))
    return out


def _times(weights: Any, plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Resample the rows; as they are without weights."""
    return plane if weights is None else weights @ plane


def _transposed(weights: Any, plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Resample the columns; as they are without weights."""
    if weights is None:
        return plane
    found: NDArray[np.float32] = np.ascontiguousarray((weights @ np.ascontiguousarray(plane.T)).T)
    return found
