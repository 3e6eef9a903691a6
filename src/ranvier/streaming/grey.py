"""Statistics of an image that is read strip by strip, the very numbers of :func:`ranvier.preprocess.statistics`."""

from __future__ import annotations

import math

import numpy as np

from ranvier._zoom_windows import Pixels
from ranvier.preprocess import _ROWS_AT_A_TIME, GreyStatistics
from ranvier.streaming.planes import strips

__all__ = ["streamed_statistics"]


def streamed_statistics(source: Pixels) -> GreyStatistics:
    """Measure the grey levels of a whole image in one pass over its strips, two for float pixels.

    8 and 16-bit levels are counted, and the sums taken of the counts. Sums of float pixels are taken over the same
    blocks of rows as in memory. So both are the same to the last bit.

    Parameters
    ----------
    source
        The image.
    """
    shape = source.shape
    rows = max(1, _ROWS_AT_A_TIME * 4096 // max(1, shape[1]))
    parts, size = strips(shape, rows), shape[0] * shape[1]
    low, high = math.inf, -math.inf
    counts, sums = np.zeros(0, dtype=np.int64), []
    for part in parts:
        pixels = np.ascontiguousarray(source.read(part))
        low, high = min(low, float(pixels.min())), max(high, float(pixels.max()))
        if pixels.dtype.kind == "f":
            sums.append(float(pixels.sum(dtype=np.float64)))
        else:
            if not counts.size:
                counts = np.zeros(int(np.iinfo(pixels.dtype).max) + 1, dtype=np.int64)
            counts += np.bincount(pixels.ravel(), minlength=counts.size)
    if counts.size:
        levels = np.arange(counts.size, dtype=np.float64)
        mean = float(counts @ levels) / size
        variance = float(counts @ (levels - mean) ** 2) / size
    else:
        mean = math.fsum(sums) / size
        squares = (
            float(((np.ascontiguousarray(source.read(p)).astype(np.float64) - mean) ** 2).sum())
            for p in parts
        )
        variance = math.fsum(squares) / size
    return GreyStatistics(mean, 0.0 if low == high else math.sqrt(variance), low, high)
