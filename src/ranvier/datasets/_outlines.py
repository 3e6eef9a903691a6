"""Closed outlines of fibres in exact geometry, and how to pack them without overlap.

An outline is the image of a polar curve ``rho(u) = 1 + sum_k Re(c_k exp(i k u))``, k = 2, 3, ...,
under a stretch by the semi-axes, a turn and a shift. A stretch multiplies areas by its determinant,
so the area is ``pi * a * b * (1 + sum_k |c_k|^2 / 2)`` without any approximation (Parseval).
Coordinates are (row, column) in pixels; the centre of a pixel has integer coordinates.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Window = tuple[slice, slice]

HARMONICS = 6
_POINTS = 96
_GAP = 1.01
_TRIALS = 256
_SMALLEST_NORM = 1e-12


@dataclass(frozen=True, eq=False)
class Outline:
    """A closed curve, star-shaped about its centre.

    Attributes
    ----------
    row, col
        Centre in pixels.
    a, b
        Semi-axes in pixels, a along the direction ``angle``.
    angle
        Direction of the first semi-axis in radians, from the column axis towards the row axis.
    coefficients
        Complex, shape (HARMONICS,): those of the harmonics 2, 3, ...; zero for an ellipse.
    """

    row: float
    col: float
    a: float
    b: float
    angle: float
    coefficients: NDArray[np.complex128]

    @property
    def area(self) -> float:
        """Enclosed area in square pixels, in closed form."""
        return math.pi * self.a * self.b * swell(self.coefficients)

    @property
    def reach(self) -> float:
        """Radius in pixels of a circle about the centre that holds the outline."""
        return max(self.a, self.b) * (1.0 + float(np.abs(self.coefficients).sum()))

    def level(self, rows: Floats, cols: Floats) -> Floats:
        """Return how far out points lie: below 1 inside, 1 on the outline, above 1 outside."""
        turned = (cols - self.col) + 1j * (rows - self.row)
        turned = turned * np.exp(-1j * self.angle)
        flat = turned.real / self.a + 1j * (turned.imag / self.b)
        norm = np.abs(flat)
        return np.asarray(norm / _rho(flat / np.maximum(norm, _SMALLEST_NORM), self.coefficients))

    def points(self, count: int = _POINTS) -> tuple[Floats, Floats]:
        """Return rows and columns of ``count`` points on the outline."""
        unit = np.exp(2j * np.pi * np.arange(count) / count)
        flat = unit * _rho(unit, self.coefficients)
        turned = (flat.real * self.a + 1j * (flat.imag * self.b)) * np.exp(1j * self.angle)
        return turned.imag + self.row, turned.real + self.col

    def centroid(self) -> tuple[float, float]:
        """Return row and column of the centre of mass of the enclosed area.

        The integral of rho^3 exp(iu) / 3 is that of a trigonometric polynomial of low degree,
        which the trapezoidal rule over equal angles integrates exactly.
        """
        unit = np.exp(2j * np.pi * np.arange(_POINTS) / _POINTS)
        moment = 2 * np.pi * np.mean(_rho(unit, self.coefficients) ** 3 / 3 * unit)
        flat = moment / (np.pi * swell(self.coefficients))
        turned = (flat.real * self.a + 1j * (flat.imag * self.b)) * np.exp(1j * self.angle)
        return self.row + float(turned.imag), self.col + float(turned.real)

    def moved(self, row: float, col: float) -> Outline:
        """Return the same outline about another centre."""
        return replace(self, row=row, col=col)

    def window(self, shape: tuple[int, int], margin: float = 0.0) -> Window:
        """Return the part of an image of this shape in which the outline can lie."""
        radius = self.reach + margin
        low = [max(0, math.ceil(c - radius)) for c in (self.row, self.col)]
        high = [
            max(lo, min(n, math.floor(c + radius) + 1))
            for lo, n, c in zip(low, shape, (self.row, self.col), strict=True)
        ]
        return slice(low[0], high[0]), slice(low[1], high[1])


@dataclass(frozen=True, eq=False)
class Fibre:
    """The outline of an axon inside the outline of its myelin, about the same centre."""

    axon: Outline
    sheath: Outline

    def moved(self, row: float, col: float) -> Fibre:
        """Return the same fibre about another centre."""
        return Fibre(self.axon.moved(row, col), self.sheath.moved(row, col))


def _rho(unit: NDArray[np.complex128], coefficients: NDArray[np.complex128]) -> Floats:
    if not coefficients.any():
        return np.ones(unit.shape)
    total = np.zeros_like(unit)
    for c in coefficients[::-1]:
        total = total * unit + c
    return np.asarray(1.0 + (total * unit * unit).real)


def swell(coefficients: NDArray[np.complex128]) -> float:
    """Return by how much harmonics enlarge the area of the ellipse that they perturb."""
    return 1.0 + 0.5 * float((np.abs(coefficients) ** 2).sum())


def wobble(rng: np.random.Generator, irregularity: float) -> NDArray[np.complex128]:
    """Draw harmonics: 0 gives an ellipse, 1 a strongly dented outline that stays star-shaped."""
    order = np.arange(2, 2 + HARMONICS)
    amplitude = 0.5 * irregularity * rng.rayleigh(1.0, HARMONICS) / order**1.3
    phase = rng.uniform(0.0, 2 * np.pi, HARMONICS)
    amplitude *= min(1.0, 0.5 / max(float(amplitude.sum()), _SMALLEST_NORM))
    return np.asarray(amplitude * np.exp(1j * phase))


def ellipse(diameter: float, aspect: float, angle: float, c: NDArray[np.complex128]) -> Outline:
    """Return the outline about (0, 0) whose area is that of a circle of this diameter."""
    radius = 0.5 * diameter / math.sqrt(swell(c))
    return Outline(0.0, 0.0, radius * math.sqrt(aspect), radius / math.sqrt(aspect), angle, c)


def wrap(axon: Outline, g_ratio: float) -> Fibre:
    """Put an evenly thick sheath round an axon so that the g-ratio is exact.

    g is the diameter of the circle with the axon's area over that with the fibre's area. The
    sheath's semi-axes are those of the axon plus t, where t solves
    ``(a + t)(b + t) swell(outer) = a b swell(inner) / g^2``; its harmonics are damped, as real
    sheaths are smoother than their axons. Harmonics that would make the sheath thinner than half
    of t anywhere are damped in both outlines; the axon's area is kept.
    """
    target = axon.area
    for _ in range(12):
        outer = axon.coefficients * (0.7 * g_ratio)
        product = axon.area / (math.pi * g_ratio**2 * swell(outer))
        t = 0.5 * (math.sqrt((axon.a - axon.b) ** 2 + 4 * product) - axon.a - axon.b)
        sheath = replace(axon, a=axon.a + t, b=axon.b + t, coefficients=outer)
        if t > 0 and sheath.level(*axon.points()).max() <= 1 - 0.5 * t / (max(axon.a, axon.b) + t):
            return Fibre(axon, sheath)
        milder = axon.coefficients * 0.6
        if np.abs(milder).max() < 0.002:
            milder = np.zeros_like(milder)
        axon = ellipse(2 * math.sqrt(target / math.pi), axon.a / axon.b, axon.angle, milder)
    return Fibre(axon, sheath)


class Packing:
    """Outlines placed so far, none overlapping another.

    Parameters
    ----------
    shape
        Rows and columns of the image.
    margin
        How far outside the image centres may lie, in pixels.
    """

    def __init__(self, shape: tuple[int, int], margin: float) -> None:
        self.margin = float(margin)
        self.area = (shape[0] + 2 * self.margin) * (shape[1] + 2 * self.margin)
        self._low = -float(margin)
        self._high = (shape[0] - 1 + float(margin), shape[1] - 1 + float(margin))
        padded = (shape[0] + 4 * math.ceil(margin) + 4, shape[1] + 4 * math.ceil(margin) + 4)
        self._taken = np.zeros(padded, dtype=bool)
        self._offset = 2 * math.ceil(margin) + 2
        self._cell = max(8.0, 0.5 * float(margin))
        self._cells: dict[tuple[int, int], list[int]] = defaultdict(list)
        self._placed: list[Outline] = []
        self._reaches: list[float] = []

    def place(
        self, rng: np.random.Generator, outline: Outline, *, touching: bool
    ) -> tuple[float, float] | None:
        """Find room for an outline, take it, and return its centre; None when none was found.

        With ``touching`` the outline goes to the closest-fitting of the trial places and slides
        from there until it touches its neighbour (gap well under a pixel).
        """
        for row, col in self._candidates(rng, outline, touching):
            if self._fits(outline.moved(row, col)):
                if touching:
                    row, col = self._slide(outline, row, col)  # noqa: PLW2901
                self._take(outline.moved(row, col))
                return row, col
        return None

    def _candidates(
        self, rng: np.random.Generator, outline: Outline, touching: bool
    ) -> Sequence[tuple[float, float]]:
        """Trial centres whose outline points are free on the pixel grid, in order of trial."""
        centres = rng.uniform(self._low, self._high, (_TRIALS, 2))
        rows, cols = outline.points(_POINTS // 3)
        free = ~self._lookup(centres, rows, cols).any(axis=1)
        free &= ~self._lookup(centres, np.zeros(1), np.zeros(1))[:, 0]
        centres = centres[free]
        if touching and len(centres):
            near = self._lookup(centres, 1.12 * rows, 1.12 * cols).sum(axis=1)
            centres = centres[np.argsort(-near, kind="stable")]
        return [(float(r), float(c)) for r, c in centres[:12]]

    def _lookup(self, centres: Floats, rows: Floats, cols: Floats) -> NDArray[np.bool_]:
        at = [
            np.clip(np.rint(centres[:, i, None] + p).astype(int) + self._offset, 0, n - 1)
            for i, (p, n) in enumerate(zip((rows, cols), self._taken.shape, strict=True))
        ]
        return np.asarray(self._taken[at[0], at[1]])

    def _neighbours(self, outline: Outline, room: float = 1.0) -> list[Outline]:
        """Outlines whose circle comes within ``room`` pixels of this one's, in order of placing."""
        reach = outline.reach + room
        numbers = {n for key in self._keys(outline, reach) for n in self._cells.get(key, ())}
        return [
            self._placed[n]
            for n in sorted(numbers)
            if math.hypot(self._placed[n].row - outline.row, self._placed[n].col - outline.col)
            < self._reaches[n] + reach
        ]

    def _keys(self, outline: Outline, reach: float) -> Iterator[tuple[int, int]]:
        """Cells that the square about an outline's circle meets."""
        (i0, i1), (j0, j1) = (
            (math.floor((c - reach) / self._cell), math.floor((c + reach) / self._cell))
            for c in (outline.row, outline.col)
        )
        return ((i, j) for i in range(i0, i1 + 1) for j in range(j0, j1 + 1))

    def _fits(self, outline: Outline) -> bool:
        own = outline.points()
        for other in self._neighbours(outline):
            if other.level(*own).min() < _GAP or outline.level(*other.points()).min() < _GAP:
                return False
        return True

    def _slide(self, outline: Outline, row: float, col: float) -> tuple[float, float]:
        here = outline.moved(row, col)
        near = self._neighbours(here, 0.5 * here.reach)
        if not near:
            return row, col
        to = min(near, key=lambda o: math.hypot(o.row - row, o.col - col) - o.reach)
        low, high = 0.0, 1.0
        for _ in range(9):
            middle = 0.5 * (low + high)
            r, c = row + middle * (to.row - row), col + middle * (to.col - col)
            low, high = (middle, high) if self._fits(outline.moved(r, c)) else (low, middle)
        return row + low * (to.row - row), col + low * (to.col - col)

    def _take(self, outline: Outline) -> None:
        reach = outline.reach
        for key in self._keys(outline, reach):
            self._cells[key].append(len(self._placed))
        self._placed.append(outline)
        self._reaches.append(reach)
        shifted = outline.moved(outline.row + self._offset, outline.col + self._offset)
        shape = (self._taken.shape[0], self._taken.shape[1])
        window = shifted.window(shape)
        rows, cols = np.ogrid[window]
        self._taken[window] |= shifted.level(rows, cols) <= 1.0
