"""Bright regions that myelin encloses: nested candidates for axons, how good each is, and the best of them.

A candidate is a union of basins of a watershed (:mod:`ranvier._basins`), from single ones to whole connected regions.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._basins import Basins, Labels, basins_of
from ranvier._classical_settings import ClassicalSettings
from ranvier._grey_sheaths import Floats, dark_pixels, smoothed
from ranvier._shapes import shapes_of
from ranvier.micrograph import Array

_RING = 0.5
"""How far from a candidate its ring reaches, in widths of the sheath."""
_LEAST_SPREAD = 0.01
"""Least standard deviation of grey levels, so that drawn images without noise have one."""
_USUAL = {"enclosed": 0.9, "solidity": 0.85, "smallest": 0.6, "largest": 10.0, "on_edge": 0.1}
"""Candidates that tell what contrast is usual."""
_USUAL_QUANTILE = 0.75
Vector = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Scene:
    """One image at the working scale, in which myelin is dark.

    Attributes
    ----------
    grey, smooth
        From 0 to 1, shape (rows, columns); smooth is grey without fine noise.
    dark
        Pixels below the local threshold.
    sheath
        Typical width of the sheath in pixels.
    """

    grey: Floats
    smooth: Floats
    dark: NDArray[np.bool_]
    sheath: float

    @classmethod
    def of(cls, grey: Floats, sheath: float, settings: ClassicalSettings) -> Scene:
        """Smooth an image and find what is dark in it."""
        smooth = smoothed(grey, sheath, settings)
        return cls(grey, smooth, dark_pixels(smooth, sheath, settings), sheath)


@dataclass(frozen=True, eq=False)
class Axons:
    """Axons that were found; the other fields have one value for each, from id 1.

    Attributes
    ----------
    labels
        int32, shape (rows, columns): 0, or the id.
    area
        In pixels.
    inside, ring
        Mean grey level of the axon, and of the dark pixels around it.
    quality
        From 0 to 1.
    """

    labels: Labels
    area: Vector
    inside: Vector
    ring: Vector
    quality: Vector


@dataclass(frozen=True, eq=False)
class _Sums:
    """What can be added up over basins; index 0 stands for no basin."""

    area: Vector
    grey: Vector
    grey_squared: Vector
    ring: Vector
    ring_grey: Vector
    ring_squared: Vector
    outline: Vector
    on_myelin: Vector
    on_edge: Vector


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Candidates of one width of neck; index 0 stands for none."""

    of_basin: Labels
    area: Vector
    inside: Vector
    ring: Vector
    separation: Vector
    enclosed: Vector
    on_edge: Vector
    solidity: Vector
    circularity: Vector
    diameter: Vector

    @property
    def contrast(self) -> Vector:
        return self.inside - self.ring


def find_axons(scene: Scene, settings: ClassicalSettings) -> Axons:
    """Find the bright regions that are enclosed best."""
    basins = basins_of(~scene.dark, settings.necks)
    if basins.count == 0:
        none = np.zeros(0)
        return Axons(np.zeros(scene.dark.shape, np.int32), none, none, none, none)
    sums = _sums(scene, basins)
    levels = [_measured(basins, sums, of_basin, scene.sheath) for of_basin in basins.unions]
    usual = _usual_contrast(levels)
    qualities = [_quality(level, usual, settings) for level in levels]
    chosen = _chosen(levels, qualities, settings.least_quality)
    return _assembled(basins.labels, levels, qualities, chosen)


def _sums(scene: Scene, basins: Basins) -> _Sums:
    """Add up grey levels in each basin and in its ring, and the parts of its outline."""
    from scipy import ndimage

    labels, size = basins.labels, basins.count + 1
    grey, flat = scene.grey.ravel(), labels.ravel()
    away, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    in_ring = np.flatnonzero(scene.dark.ravel() & (away.ravel() <= _RING * scene.sheath))
    owner = labels[nearest[0].ravel()[in_ring], nearest[1].ravel()[in_ring]]
    around = grey[in_ring]
    outline, on_myelin = np.zeros(size), np.zeros(size)
    for here, there in ((np.s_[:, 1:], np.s_[:, :-1]), (np.s_[1:], np.s_[:-1])):
        a, b = labels[here].ravel(), labels[there].ravel()
        at = np.flatnonzero(a != b)
        for side, beyond in ((a[at], b[at]), (b[at], a[at])):
            outline += _added(side, None, size)
            on_myelin += _added(side, beyond == 0, size)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return _Sums(
        area=_added(flat, None, size),
        grey=_added(flat, grey, size),
        grey_squared=_added(flat, grey * grey, size),
        ring=_added(owner, None, size),
        ring_grey=_added(owner, around, size),
        ring_squared=_added(owner, around * around, size),
        outline=outline,
        on_myelin=on_myelin,
        on_edge=_added(edge, None, size),
    )


def _added(ids: Array, values: Array | None, size: int) -> Vector:
    """Sums of values, or of ones, over ids from 0 to ``size`` - 1."""
    total: Vector = np.bincount(ids, values, size).astype(np.float64, copy=False)
    return total


def _measured(basins: Basins, sums: _Sums, of_basin: Labels, sheath: float) -> _Candidates:
    """Measure the candidates of one width of neck."""
    size = int(of_basin.max()) + 1

    def added(values: Vector) -> Vector:
        total = _added(of_basin, values, size)
        total[0] = 0
        return total

    inner = of_basin[basins.one] == of_basin[basins.other]
    within = _added(of_basin[basins.one[inner]], basins.border[inner], size)
    area, outline, on_edge = added(sums.area), added(sums.outline), added(sums.on_edge)
    outline = outline - 2 * within
    inside, deviation = _mean_and_deviation(area, added(sums.grey), added(sums.grey_squared))
    ring, ring_deviation = _mean_and_deviation(
        added(sums.ring), added(sums.ring_grey), added(sums.ring_squared)
    )
    spread = np.maximum(deviation + ring_deviation, 2 * _LEAST_SPREAD)
    shapes = shapes_of(of_basin[basins.labels], size - 1)
    return _Candidates(
        of_basin=of_basin,
        area=area,
        inside=inside,
        ring=ring,
        separation=(inside - ring) / spread,
        enclosed=added(sums.on_myelin) / np.maximum(outline, 1),
        on_edge=on_edge / np.maximum(outline + on_edge, 1),
        solidity=np.append(0.0, shapes.solidity),
        circularity=np.append(0.0, shapes.circularity),
        diameter=2 * np.sqrt(area / np.pi) / sheath,
    )


def _mean_and_deviation(count: Vector, total: Vector, squares: Vector) -> tuple[Vector, Vector]:
    count = np.maximum(count, 1)
    mean = total / count
    return mean, np.sqrt(np.maximum(squares / count - mean * mean, 0))


def _usual_contrast(levels: list[_Candidates]) -> float:
    """The upper quartile of the contrasts of well-shaped candidates, weighted by diameter; 1 where there are none."""
    contrasts, weights = [], []
    for level in levels:
        good = (level.enclosed > _USUAL["enclosed"]) & (level.solidity > _USUAL["solidity"])
        good &= (level.diameter > _USUAL["smallest"]) & (level.diameter < _USUAL["largest"])
        good &= level.on_edge < _USUAL["on_edge"]
        contrasts.append(level.contrast[good])
        weights.append(np.sqrt(level.area[good]))
    contrast, weight = np.concatenate(contrasts), np.concatenate(weights)
    if contrast.size == 0:
        return 1.0
    order = np.argsort(contrast, kind="stable")
    heap = np.cumsum(weight[order])
    return float(contrast[order][np.searchsorted(heap, _USUAL_QUANTILE * heap[-1])])


def _quality(level: _Candidates, usual: float, settings: ClassicalSettings) -> Vector:
    """Quality of each candidate, from 0 to 1; the formula stands in the settings."""
    smallest, largest = settings.diameter_range
    possible = (level.diameter >= smallest) & (level.diameter <= largest)
    possible &= level.on_edge <= settings.most_on_edge
    clear = np.clip(level.separation / settings.clear_separation, 0, 1)
    strong = np.sqrt(np.clip(level.contrast / max(usual, 1e-6), 0, 1))
    enclosed = level.enclosed**settings.enclosure_power
    shape = level.solidity * level.circularity**0.25
    return np.where(possible, enclosed * shape * clear * strong, 0.0)


def _chosen(
    levels: list[_Candidates], qualities: list[Vector], least: float
) -> list[NDArray[np.bool_]]:
    """Which candidates are axons: those that are better than the best choice among their parts.

    Quality is weighted by area. The levels are given from parts to wholes; a candidate that is the same at two levels
    is taken as the whole.
    """
    better: list[NDArray[np.bool_]] = []
    best: Vector = np.zeros(0)
    for i, (level, quality) in enumerate(zip(levels, qualities, strict=True)):
        value = np.where(quality >= least, quality * level.area, 0.0)
        if i > 0:
            whole = np.zeros(best.size, dtype=np.int64)
            whole[levels[i - 1].of_basin] = level.of_basin
            parts = _added(whole, best, value.size)
        else:
            parts = np.zeros(value.size)
        # Sums of parts may differ in the last rounding from a whole of which they are all.
        wins = (value > 0) & (value >= parts * (1 - 1e-9))
        best = np.where(wins, value, parts)
        better.append(wins)
    chosen: list[NDArray[np.bool_]] = []
    taken = np.zeros(levels[0].of_basin.size, dtype=bool)
    for level, wins in zip(reversed(levels), reversed(better), strict=True):
        within = np.zeros(wins.size, dtype=bool)
        within[level.of_basin[taken]] = True
        chosen.insert(0, wins & ~within)
        taken |= chosen[0][level.of_basin]
    return chosen


def _assembled(
    labels: Labels,
    levels: list[_Candidates],
    qualities: list[Vector],
    chosen: list[NDArray[np.bool_]],
) -> Axons:
    """Number the axons of all levels."""
    of_basin = np.zeros(levels[0].of_basin.size, dtype=np.int32)
    count = 0
    columns: list[list[Vector]] = [[], [], [], []]
    for level, quality, wins in zip(levels, qualities, chosen, strict=True):
        ids = np.flatnonzero(wins)
        number = np.zeros(wins.size, dtype=np.int32)
        number[ids] = np.arange(count + 1, count + 1 + ids.size, dtype=np.int32)
        count += ids.size
        mine = number[level.of_basin]
        of_basin[mine > 0] = mine[mine > 0]
        for column, values in zip(
            columns, (level.area, level.inside, level.ring, quality), strict=True
        ):
            column.append(values[ids])
    area, inside, ring, quality = (np.concatenate(column) for column in columns)
    return Axons(of_basin[labels], area, inside, ring, quality)
