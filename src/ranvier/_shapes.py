"""Size and shape of all objects of a label image at once; :mod:`ranvier.morphometrics` has the formulae."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._hulls import hulls_of
from ranvier._runs import runs_of
from ranvier.micrograph import Array

_ISOTROPIC = 1e-12
"""Principal moments that differ by less than this share of their sum name no direction."""
_LINE = 1 / 12
"""Least second moment: that of a line one pixel wide."""
_BAND = 1 << 20
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Shapes:
    """One value per object, in pixels.

    ``minor`` is the minor axis of the ellipse of equal moments; ``box`` is top, left, bottom, right,
    the last two exclusive.
    """

    area: Floats
    centroid: tuple[Floats, Floats]
    box: tuple[Array, Array, Array, Array]
    perimeter: Floats
    minor: Floats
    eccentricity: Floats
    orientation: Floats
    solidity: Floats
    feret_min: Floats
    feret_max: Floats

    @property
    def diameter(self) -> Floats:
        """Diameter of the circle of equal area."""
        return 2 * np.sqrt(self.area / np.pi)

    @property
    def circularity(self) -> Floats:
        """4 pi area / perimeter squared, at most 1."""
        return np.minimum(4 * np.pi * self.area / self.perimeter**2, 1.0)


@dataclass(frozen=True, eq=False)
class _Runs:
    """Every horizontal run of a label, sorted by label and then in raster order.

    ``obj`` counts from 0; ``end`` is exclusive; ``first`` holds each object's first run.
    """

    obj: NDArray[np.int64]
    row: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    first: NDArray[np.int64]


def shapes_of(labels: NDArray[np.int32], count: int) -> Shapes:
    """Measure objects 1 to ``count``, each of which has a pixel."""
    if count == 0:
        none, whole = np.zeros(0), np.zeros(0, dtype=np.int64)
        return Shapes(none, (none, none), (whole,) * 4, *(none,) * 7)
    runs = _runs(labels)
    box = (
        runs.row[runs.first],
        np.minimum.reduceat(runs.start, runs.first),
        np.maximum.reduceat(runs.row, runs.first) + 1,
        np.maximum.reduceat(runs.end, runs.first),
    )
    area, row, col, rr, cc, rc = _moments(runs, box[0], box[1])
    spread = np.hypot(rr - cc, 2 * rc)
    directed = spread > _ISOTROPIC * (rr + cc)
    angle = 0.5 * np.arctan2(2 * rc, rr - cc)
    angle = np.where(angle <= -np.pi / 2, np.pi / 2, angle)
    line = np.flatnonzero(np.diff(runs.obj, prepend=-1) | np.diff(runs.row, prepend=-1))
    last = np.append(line[1:], runs.obj.size) - 1
    hulls = hulls_of(
        runs.obj[line], runs.row[line], runs.start[line], runs.end[last] - 1, count=count
    )
    feret_min, feret_max = hulls.widths()
    return Shapes(
        area=area,
        centroid=(box[0] + row, box[1] + col),
        box=box,
        perimeter=_perimeters(labels, count),
        minor=4 * np.sqrt(np.maximum((rr + cc - spread) / 2, _LINE)),
        eccentricity=np.sqrt(2 * spread / np.where(directed, rr + cc + spread, np.inf)),
        orientation=np.where(directed, angle, np.nan),
        solidity=area / hulls.pixels(box[0], box[2]),
        feret_min=feret_min,
        feret_max=feret_max,
    )


def _runs(labels: NDArray[np.int32]) -> _Runs:
    runs = runs_of(labels)
    at, ids, length = runs.start, runs.value, runs.length
    kept = np.flatnonzero(ids)
    kept = kept[np.argsort(ids[kept], kind="stable")]
    row, start = np.divmod(at[kept], labels.shape[1])
    obj = ids[kept].astype(np.int64) - 1
    first = np.flatnonzero(np.diff(obj, prepend=-1))
    return _Runs(obj, row, start, start + length[kept], first)


def _moments(runs: _Runs, top: Array, left: Array) -> tuple[Floats, ...]:
    """Area; mean row and column from the box's corner; second central moments rr, cc, rc.

    The sums are whole numbers, so that mirrored objects differ only in the last rounding.
    """
    n = runs.end - runs.start
    r = runs.row - top[runs.obj]
    c = runs.start - left[runs.obj]
    col_sum = n * c + n * (n - 1) // 2
    col_squares = n * c * c + c * n * (n - 1) + (n - 1) * n * (2 * n - 1) // 6
    area, row, col, rr, cc, rc = (
        np.add.reduceat(term, runs.first).astype(np.float64)
        for term in (n, n * r, col_sum, n * r * r, col_squares, r * col_sum)
    )
    row, col = row / area, col / area
    return (
        area,
        row,
        col,
        rr / area - row**2,
        cc / area - col**2,
        rc / area - row * col,
    )


def _perimeters(labels: NDArray[np.int32], count: int) -> Floats:
    """Crofton's formula in four directions, for all labels at once."""
    total = np.zeros(count + 1)
    inner, less, more = slice(None), slice(None, -1), slice(1, None)
    diagonal = 1 / np.sqrt(2)
    step = max(1, _BAND // labels.shape[1])
    for top in range(-1, labels.shape[0], step):
        # A band with one row above, and zeros around the image.
        held = labels[max(0, top) : top + step + 1]
        padded = np.zeros((min(step, labels.shape[0] - top) + 1, labels.shape[1] + 2), labels.dtype)
        first = 1 if top < 0 else 0
        padded[first : first + held.shape[0], 1:-1] = held
        for one, other, weight in (
            ((more, less), (more, more), 1.0),
            ((less, inner), (more, inner), 1.0),
            ((less, less), (more, more), diagonal),
            ((less, more), (more, less), diagonal),
        ):
            crossed = np.flatnonzero(padded[one] != padded[other])
            for side in (one, other):
                at = padded[side].reshape(-1)[crossed]
                total += weight * np.bincount(at, minlength=count + 1)
    return total[1:] * np.pi / 8
