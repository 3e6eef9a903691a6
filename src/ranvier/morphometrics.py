"""One row of measurements per fibre.

Let a be the area of an axon and f that of its fibre, in pixels, each the number of its pixels;
the fibre holds the axon, so that m = f - a is the area of its myelin and never negative.
Lengths are multiplied by the pixel size and areas by its square, where it is known.

===================  ==============================================================================
column               definition
===================  ==============================================================================
axon_diameter        2 sqrt(a / pi): the diameter of the circle of equal area [1]_
fibre_diameter       2 sqrt(f / pi)
myelin_thickness     (fibre_diameter - axon_diameter) / 2
g_ratio              axon_diameter / fibre_diameter = sqrt(a / f) [2]_, [3]_; NaN without myelin
..._perimeter        Crofton's formula in four directions [4]_: (pi / 8) (h + v + (d + e) / sqrt 2),
                     h, v, d, e being the crossings of the outline (and of any holes) by grid lines
                     along rows, columns and the two diagonals; the image edge closes an outline
..._eccentricity     sqrt(1 - l2 / l1), l1 >= l2 being the principal second central moments of the
                     area; each pixel is a square, whose own 1/12 is included [5]_
..._orientation_rad  angle of the major axis, from the row axis (down) towards the column axis, in
                     (-pi/2, pi/2]: 0 is vertical; NaN where the moments name no direction
..._solidity         area / number of pixels whose centres lie in the convex hull of the object's
                     pixel centres (by Pick's theorem [6]_): 1 for every digitally convex object,
                     single pixels and straight lines included
===================  ==============================================================================

References
----------
.. [1] ISO 9276-6:2008, area-equivalent diameter.
.. [2] Rushton W.A.H. (1951). A theory of the effects of fibre size in medullated nerve.
   J Physiol 115, 101-122.
.. [3] Chomiak T., Hu B. (2009). What is the optimal value of the g-ratio for myelinated fibers in
   the rat CNS? A theoretical approach. PLoS ONE 4, e7754.
.. [4] Legland D., Kieu K., Devaux M.-F. (2007). Computation of Minkowski measures on 2D and 3D
   binary images. Image Anal Stereol 26, 83-92.
.. [5] Haralick R.M., Shapiro L.G. (1992). Computer and Robot Vision I, Appendix A. Addison-Wesley.
.. [6] Pick G. (1899). Geometrisches zur Zahlenlehre. Sitzungsber. Lotos (Prag) 19, 311-319.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.calibration import PixelSize
from ranvier.errors import MaskError
from ranvier.micrograph import Array, Fibres, Instances

__all__ = ["column_names", "measure"]

_PLACE = (
    "id",
    "centroid_row_px",
    "centroid_col_px",
    "bbox_top_px",
    "bbox_left_px",
    "bbox_bottom_px",
    "bbox_right_px",
    "touches_border",
)
_AREAS = ("axon_area", "myelin_area", "fibre_area")
_LENGTHS = (
    "axon_diameter",
    "fibre_diameter",
    "myelin_thickness",
    "axon_perimeter",
    "fibre_perimeter",
)
_SHAPES = (
    "g_ratio",
    "myelinated",
    "axon_eccentricity",
    "fibre_eccentricity",
    "axon_orientation_rad",
    "fibre_orientation_rad",
    "axon_solidity",
    "fibre_solidity",
)

_ISOTROPIC = 1e-12
"""Principal moments that differ by less than this share of their sum name no direction."""


def column_names(pixel_size: PixelSize | None = None) -> tuple[str, ...]:
    """Names of the table's columns, in order, with their units.

    Parameters
    ----------
    pixel_size
        With one, lengths are in um and areas in um2; without, in px and px2.

    Returns
    -------
    tuple of str
        Places and boxes are always in pixels.
    """
    unit = "px" if pixel_size is None else "um"
    areas = tuple(f"{name}_{unit}2" for name in _AREAS)
    return _PLACE + areas + tuple(f"{name}_{unit}" for name in _LENGTHS) + _SHAPES


def measure(instances: Instances, *, pixel_size: PixelSize | None = None) -> Fibres:
    """Measure every fibre; the module's docstring defines each column.

    Parameters
    ----------
    instances
        Label images, int32, shape (rows, columns), ids 1 to ``count``, each axon inside its fibre.
    pixel_size
        With one, lengths are in um and areas in um2; without, in px and px2.

    Returns
    -------
    Fibres
        One row per fibre, in order of its id. The centroid is the axon's (pixel centres have
        whole coordinates); the box is the fibre's, its bottom and right edges exclusive.
        With no fibre, every column is there and has length 0.

    Raises
    ------
    MaskError
        The label images differ in shape, an id is missing or too high, or an axon has pixels
        outside the fibre of its id.
    """
    _check(instances)
    axon = _outline(instances.axons, instances.count)
    fibre = _outline(instances.fibres, instances.count)
    rows, cols = instances.fibres.shape
    um = 1.0 if pixel_size is None else pixel_size.um
    myelinated = fibre.area > axon.area
    axon_diameter, fibre_diameter = (2 * np.sqrt(o.area / np.pi) for o in (axon, fibre))
    top, left, bottom, right = fibre.box
    columns: tuple[Array, ...] = (
        np.arange(1, instances.count + 1, dtype=np.int32),
        axon.centroid[0],
        axon.centroid[1],
        top,
        left,
        bottom,
        right,
        (top == 0) | (left == 0) | (bottom == rows) | (right == cols),
        *(area * um**2 for area in (axon.area, fibre.area - axon.area, fibre.area)),
        axon_diameter * um,
        fibre_diameter * um,
        (fibre_diameter - axon_diameter) / 2 * um,
        axon.perimeter * um,
        fibre.perimeter * um,
        np.where(myelinated, np.sqrt(axon.area / fibre.area), np.nan),
        myelinated,
        axon.eccentricity,
        fibre.eccentricity,
        axon.orientation,
        fibre.orientation,
        axon.solidity,
        fibre.solidity,
    )
    table = dict(zip(column_names(pixel_size), columns, strict=True))
    return Fibres(table=table, instances=instances, pixel_size=pixel_size)


def _check(instances: Instances) -> None:
    axons, fibres, count = instances.axons, instances.fibres, instances.count
    if axons.ndim != 2 or axons.shape != fibres.shape or axons.size == 0:
        raise MaskError(
            "axon and fibre labels must have the same rows and columns",
            seen=f"{axons.shape} and {fibres.shape}",
        )
    if any(labels.dtype.kind not in "iu" or labels.min() < 0 for labels in (axons, fibres)):
        raise MaskError("labels must be whole numbers, 0 or more", seen=(axons.dtype, fibres.dtype))
    highest = int(max(axons.max(), fibres.max()))
    if highest > count:
        raise MaskError("a label is higher than the count", seen=f"{highest} of {count}")
    if np.any((axons > 0) & (axons != fibres)):
        raise MaskError("an axon has pixels outside the fibre of its id")
    missing = np.flatnonzero(np.bincount(axons.ravel(), minlength=count + 1)[1:] == 0) + 1
    if missing.size:
        raise MaskError("ids without an axon", seen=", ".join(map(str, missing[:10])))


@dataclass(frozen=True, eq=False)
class _Outline:
    """What is measured of axons and of fibres alike; each array has one value per object."""

    area: NDArray[np.float64]
    centroid: tuple[NDArray[np.float64], NDArray[np.float64]]
    box: tuple[Array, Array, Array, Array]
    perimeter: NDArray[np.float64]
    eccentricity: NDArray[np.float64]
    orientation: NDArray[np.float64]
    solidity: NDArray[np.float64]


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


def _outline(labels: NDArray[np.int32], count: int) -> _Outline:
    if count == 0:
        none, whole = np.zeros(0), np.zeros(0, dtype=np.int64)
        return _Outline(none, (none, none), (whole,) * 4, none, none, none, none)
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
    return _Outline(
        area=area,
        centroid=(box[0] + row, box[1] + col),
        box=box,
        perimeter=_perimeters(labels, count),
        eccentricity=np.where(directed, np.sqrt(2 * spread / (rr + cc + spread)), 0.0),
        orientation=np.where(directed, angle, np.nan),
        solidity=area / _hull_pixels(runs, count),
    )


def _runs(labels: NDArray[np.int32]) -> _Runs:
    starts_here = np.ones(labels.shape, dtype=bool)
    np.not_equal(labels[:, 1:], labels[:, :-1], out=starts_here[:, 1:])
    at = np.flatnonzero(starts_here)
    ids = labels.ravel()[at].astype(np.int64)
    length = np.diff(at, append=labels.size)
    kept = np.flatnonzero(ids)
    kept = kept[np.argsort(ids[kept], kind="stable")]
    row, start = np.divmod(at[kept], labels.shape[1])
    obj = ids[kept] - 1
    first = np.flatnonzero(np.diff(obj, prepend=-1))
    return _Runs(obj, row, start, start + length[kept], first)


def _moments(runs: _Runs, top: Array, left: Array) -> tuple[NDArray[np.float64], ...]:
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
    pixel = 1 / 12
    return (
        area,
        row,
        col,
        rr / area - row**2 + pixel,
        cc / area - col**2 + pixel,
        rc / area - row * col,
    )


def _perimeters(labels: NDArray[np.int32], count: int) -> NDArray[np.float64]:
    """Crofton's formula in four directions, for all labels at once."""
    padded = np.pad(labels, 1)
    total = np.zeros(count + 1)
    inner, less, more = slice(None), slice(None, -1), slice(1, None)
    diagonal = 1 / np.sqrt(2)
    for one, other, weight in (
        ((inner, less), (inner, more), 1.0),
        ((less, inner), (more, inner), 1.0),
        ((less, less), (more, more), diagonal),
        ((less, more), (more, less), diagonal),
    ):
        crossed = padded[one] != padded[other]
        for side in (one, other):
            total += weight * np.bincount(padded[side][crossed], minlength=count + 1)
    return total[1:] * np.pi / 8


def _hull_pixels(runs: _Runs, count: int) -> NDArray[np.float64]:
    """Pixels whose centres lie in each object's convex hull, by Pick's theorem.

    With A the hull's area and B the grid points on its outline, A + B / 2 + 1 grid points lie in
    or on it; an outline that has shrunk to a line is counted there and back, and a point is 1.
    """
    line = np.flatnonzero(np.diff(runs.obj, prepend=-1) | np.diff(runs.row, prepend=-1))
    last = np.append(line[1:], runs.obj.size) - 1
    obj, row, left, right = runs.obj[line], runs.row[line], runs.start[line], runs.end[last] - 1
    left_area, left_points = _hull_side(obj, row, left, count)
    right_area, right_points = _hull_side(obj, row, -right, count)
    first = np.flatnonzero(np.diff(obj, prepend=-1))
    final = np.append(first[1:], obj.size) - 1
    ends = (right - left)[first] + (right - left)[final]
    points: NDArray[np.float64] = (
        -(left_area + right_area) / 2 + (left_points + right_points + ends) / 2 + 1
    )
    return points


def _hull_side(
    obj: Array, row: Array, col: Array, count: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Twice the area between the column axis and each hull's low side, and its grid points.

    A point that is not strictly below the line through its two neighbours is no corner of the
    hull; all such points of all objects are dropped at once, until none is left.
    """
    area, points = np.zeros(count), np.zeros(count)
    while obj.size:
        same = obj[1:] == obj[:-1]
        dr, dc = np.diff(row), np.diff(col)
        drop = np.zeros(obj.size, dtype=bool)
        drop[1:-1] = same[1:] & same[:-1] & (dc[:-1] * dr[1:] >= dc[1:] * dr[:-1])
        unfinished = np.zeros(count, dtype=bool)
        unfinished[obj[drop]] = True
        done = same & ~unfinished[obj[1:]]
        at, dr, dc = obj[1:][done], dr[done], dc[done]
        both = col[1:][done] + col[:-1][done]
        area += np.bincount(at, weights=both * dr, minlength=count)
        points += np.bincount(at, weights=np.gcd(dr, dc), minlength=count)
        keep = unfinished[obj] & ~drop
        obj, row, col = obj[keep], row[keep], col[keep]
    return area, points
