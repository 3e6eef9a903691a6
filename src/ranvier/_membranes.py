"""Along the membranes: how thick the sheath is all around, how far it covers the axon, where fibres touch."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ranvier._fits import fitted_diameters
from ranvier.contours import OUTSIDE, Outlines, trace
from ranvier.micrograph import Array, Instances

_SMOOTHING = 2
"""Neighbours on each side that a point of an outline is averaged with, to remove the staircase of pixels."""
_COVERING = ((1, 0), (2, 0), (2, -1), (2, 1), (3, 0), (2, -2), (2, 2), (3, -1), (3, 1))
"""Where a sheath begins that covers an edge of the axon: pixels outwards and sideways, within 3 pixels of the edge's
middle; up to 2 may be a shrinkage gap."""
_FACING = 0.5
"""Least cosine between an outer membrane's outward direction and the way straight off the axon. Inner faces of a
detached sheath look towards the axon, and the ends of an open one sideways."""
_THIN = 1.5
"""In a sheath this thin (pixels) any cosine above 0 will do: directions are rounded too much."""
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
    with ThreadPoolExecutor(2) as pool:
        axon, fibre = pool.map(trace, (instances.axons, instances.fibres), (count, count))
    outer = _outer(axon, fibre, instances)
    inside = np.flatnonzero(axon.other != OUTSIDE)
    return Membranes(
        _share(axon, _covered(axon, instances), count),
        _share(fibre, fibre.other > 0, count),
        *_statistics(fibre, outer, count=count),
        fitted_diameters(axon, inside, count, ellipse=ellipse),
        fitted_diameters(fibre, outer.edge, count, ellipse=ellipse),
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
    for outwards, sideways in _COVERING:
        # Sideways is along the columns where outwards is along the rows, and the other way round.
        open_yet = np.flatnonzero(~covered)
        away, along = down[open_yet], right[open_yet]
        to_row = row[open_yet] + outwards * away + sideways * abs(along)
        to_col = col[open_yet] + outwards * along + sideways * abs(away)
        inside = (to_row >= 0) & (to_row < rows) & (to_col >= 0) & (to_col < cols)
        open_yet, at = open_yet[inside], (to_row[inside], to_col[inside])
        own = (instances.fibres[at] == axon.owner[open_yet]) & (instances.axons[at] == 0)
        covered[open_yet] = own
    return covered


@dataclass(frozen=True, eq=False)
class _Outer:
    """Points of outer membranes: indices of their edges, and how far it is to the axon's membrane."""

    edge: NDArray[np.int64]
    distance: Floats
    weight: Floats


def _outer(axon: Outlines, fibre: Outlines, instances: Instances) -> _Outer:
    """Find the outer membranes, and the shortest way from each of their points to the inner one."""
    count = instances.count
    inner = np.flatnonzero(axon.other != OUTSIDE)
    row, col, _, _ = _inner_pixels(fibre)
    edge = np.flatnonzero((fibre.other != OUTSIDE) & (instances.axons[row, col] == 0))
    del row, col
    has_inner = np.zeros(count + 1, dtype=bool)
    has_inner[axon.owner[inner]] = True
    many = np.bincount(fibre.owner, minlength=count + 1) >= _EVERY
    edge = edge[has_inner[fibre.owner[edge]] & ~(many[fibre.owner[edge]] & (edge % 2 == 1))]
    if not edge.size:
        return _Outer(edge, np.zeros(0), np.zeros(0))
    points = [np.column_stack(line.smoothed(_SMOOTHING)) for line in (axon, fibre)]
    way = np.empty((edge.size, 2), dtype=np.float32)
    # A few hundred fibres at a time, so that the tree fits into the cache.
    bounds = np.append(np.unique(axon.owner[inner[::_AT_A_TIME]]), count + 1)
    bounds[0] = 0
    for low, high in itertools.pairwise(bounds):
        part = slice(*np.searchsorted(fibre.owner[edge], (low, high)))
        among = inner[slice(*np.searchsorted(axon.owner[inner], (low, high)))]
        start, end = points[1][edge[part]], points[0][among]
        found = _nearest(
            (end, axon.owner[among]),
            (start, fibre.owner[edge[part]]),
            apart=2.0 * sum(instances.fibres.shape),
        )
        way[part] = end[found] - start
    along = points[1][fibre.following[edge]] - points[1][fibre.preceding[edge]]
    distance, weight = np.hypot(*way.T.astype(np.float64)), np.hypot(*along.T.astype(np.float64))
    # The object lies on the right hand of the walk, so that outwards is a quarter turn to the left.
    off_axon = along[:, 1] * way[:, 0] - along[:, 0] * way[:, 1]
    least = np.where(distance <= _THIN, 0.0, _FACING)
    faces = off_axon > least * distance * weight
    return _Outer(edge[faces], distance[faces], weight[faces])


def _nearest(
    among: tuple[Array, Array], of: tuple[Array, Array], *, apart: float
) -> NDArray[np.intp]:
    """Index of the point nearest to each, of those of the same owner."""
    if not of[0].size:
        return np.zeros(0, dtype=np.intp)
    # A third coordinate keeps the owners farther apart than any two points of the image are.
    tree = cKDTree(
        np.column_stack((among[0], among[1] * apart)),
        leafsize=20,
        balanced_tree=False,
        compact_nodes=False,
    )
    queries = np.column_stack((of[0], of[1] * apart))
    found: NDArray[np.intp] = tree.query(queries, workers=_WORKERS)[1]
    return found


def _statistics(
    fibre: Outlines, outer: _Outer, *, count: int
) -> tuple[Floats, Floats, Floats, Floats]:
    """Mean and SD, weighted by length, minimum and maximum thickness; NaN where there is none."""
    owner, value, weight = fibre.owner[outer.edge], outer.distance, outer.weight
    if not owner.size:
        none = np.full(count, np.nan)
        return none, none, none, none
    whole = np.bincount(owner, weights=weight, minlength=count + 1)
    whole[whole <= 0] = np.nan
    mean = np.bincount(owner, weights=weight * value, minlength=count + 1) / whole
    off = np.bincount(owner, weights=weight * (value - mean[owner]) ** 2, minlength=count + 1)
    low, high = np.full(count + 1, np.nan), np.full(count + 1, np.nan)
    first = np.flatnonzero(np.diff(owner, prepend=-1))
    low[owner[first]] = np.minimum.reduceat(value, first)
    high[owner[first]] = np.maximum.reduceat(value, first)
    return mean[1:], np.sqrt(off / whole)[1:], low[1:], high[1:]
