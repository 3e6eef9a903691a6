"""Along the membranes: how thick the sheath is all around, how far it covers the axon, where fibres touch."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ranvier._fits import fitted_diameters
from ranvier.contours import OUTSIDE, Outlines, trace
from ranvier.micrograph import Array, Instances

_SMOOTHING = 2
"""Neighbours on each side that a point of an outline is averaged with, to remove the staircase of pixels."""
_REACH = 3
"""A sheath that begins within this many pixels of the axon covers it; up to 2 may be a shrinkage gap."""
_EVERY = 64
"""Of outlines with this many edges or more, every second point is enough: they lie 0.7 pixels apart."""
_WORKERS = 2
_AT_A_TIME = 100_000
"""Points of inner membranes that are searched at once, about."""
Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Membranes:
    """One value per fibre; lengths in pixels, NaN where there is nothing to measure."""

    coverage: Floats
    contact: Floats
    thickness_mean: Floats
    thickness_sd: Floats
    thickness_min: Floats
    thickness_max: Floats
    axon_fitted: Floats
    fibre_fitted: Floats


def membranes_of(instances: Instances, *, ellipse: bool) -> Membranes:
    """Measure along the outlines of axons and fibres. Outlines on the image's edge are no membranes."""
    count = instances.count
    if count == 0:
        return Membranes(*(np.zeros(0),) * 8)
    axon, fibre = trace(instances.axons, count), trace(instances.fibres, count)
    return Membranes(
        _share(axon, _covered(axon, instances), count),
        _share(fibre, fibre.other > 0, count),
        *_thickness(axon, fibre, instances),
        *(fitted_diameters(outlines, count, ellipse=ellipse) for outlines in (axon, fibre)),
    )


def _share(outlines: Outlines, chosen: NDArray[np.bool_], count: int) -> Floats:
    """Share of each object's outline, without what lies on the image's edge, that is chosen; NaN if all does."""
    inside = outlines.other != OUTSIDE
    whole = np.bincount(outlines.owner[inside], minlength=count + 1)[1:]
    part = np.bincount(outlines.owner[inside & chosen], minlength=count + 1)[1:]
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)


def _inner_pixels(outlines: Outlines) -> tuple[Array, Array, Array, Array]:
    """Row and column of the object's pixel at each edge, and the step across the edge, outwards."""
    down = outlines.row[outlines.following] - outlines.row
    right = outlines.col[outlines.following] - outlines.col
    # The object lies on the right hand of the walk.
    row = outlines.row - ((right < 0) | (down < 0))
    col = outlines.col - ((down > 0) | (right < 0))
    return row, col, -right, down


def _covered(axon: Outlines, instances: Instances) -> NDArray[np.bool_]:
    """Edges of axons beyond which, within reach, lies the axon's own myelin."""
    row, col, down, right = _inner_pixels(axon)
    rows, cols = instances.fibres.shape
    covered = np.zeros(len(axon), dtype=bool)
    for _ in range(_REACH):
        row, col = row + down, col + right
        inside = np.flatnonzero((row >= 0) & (row < rows) & (col >= 0) & (col < cols) & ~covered)
        at = (row[inside], col[inside])
        own = (instances.fibres[at] == axon.owner[inside]) & (instances.axons[at] == 0)
        covered[inside] |= own
    return covered


def _thickness(
    axon: Outlines, fibre: Outlines, instances: Instances
) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean, SD, minimum and maximum of the shortest way from the outer membrane to the inner one."""
    count = instances.count
    inner = np.flatnonzero(axon.other != OUTSIDE)
    row, col, _, _ = _inner_pixels(fibre)
    outer = np.flatnonzero((fibre.other != OUTSIDE) & (instances.axons[row, col] == 0))
    del row, col
    has_inner = np.zeros(count + 1, dtype=bool)
    has_inner[axon.owner[inner]] = True
    many = np.bincount(fibre.owner, minlength=count + 1) >= _EVERY
    outer = outer[has_inner[fibre.owner[outer]] & ~(many[fibre.owner[outer]] & (outer % 2 == 1))]
    if not outer.size:
        return (np.full(count, np.nan),) * 4
    points = [np.column_stack(line.smoothed(_SMOOTHING)) for line in (axon, fibre)]
    distance = np.empty(outer.size)
    # A few hundred fibres at a time, so that the tree fits into the cache.
    ids = np.unique(axon.owner[inner[::_AT_A_TIME]])
    bounds = np.append(ids, count + 1)
    bounds[0] = 0
    for low, high in itertools.pairwise(bounds):
        part = slice(*np.searchsorted(fibre.owner[outer], (low, high)))
        among = inner[slice(*np.searchsorted(axon.owner[inner], (low, high)))]
        distance[part] = _nearest(
            (points[0][among], axon.owner[among]),
            (points[1][outer[part]], fibre.owner[outer[part]]),
            apart=2.0 * sum(instances.fibres.shape),
        )
    row32, col32 = points[1].T
    ahead, behind = fibre.following[outer], fibre.preceding[outer]
    weight = np.hypot(row32[ahead] - row32[behind], col32[ahead] - col32[behind])
    return _statistics(fibre.owner[outer], distance, weight, count=count)


def _nearest(among: tuple[Array, Array], of: tuple[Array, Array], *, apart: float) -> Floats:
    """Distance from each point to the nearest one of the same owner."""
    if not of[0].size:
        return np.zeros(0)
    # A third coordinate keeps the owners farther apart than any two points of the image are.
    tree = cKDTree(
        np.column_stack((among[0], among[1] * apart)),
        leafsize=20,
        balanced_tree=False,
        compact_nodes=False,
    )
    distance: Floats = tree.query(np.column_stack((of[0], of[1] * apart)), workers=_WORKERS)[0]
    return distance


def _statistics(
    owner: Array, value: Floats, weight: Array, *, count: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Weighted mean and SD, minimum and maximum for each owner; NaN where it has no value."""
    whole = np.bincount(owner, weights=weight, minlength=count + 1)
    some = whole > 0
    whole[~some] = np.nan
    mean = np.bincount(owner, weights=weight * value, minlength=count + 1) / whole
    off = np.bincount(owner, weights=weight * (value - mean[owner]) ** 2, minlength=count + 1)
    low, high = np.full(count + 1, np.nan), np.full(count + 1, np.nan)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    low[owner[first]] = np.minimum.reduceat(value, first)
    high[owner[first]] = np.maximum.reduceat(value, first)
    return mean[1:], np.sqrt(off / whole)[1:], low[1:], high[1:]
