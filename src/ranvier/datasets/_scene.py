"""What a phantom's looks paint from: soft layers of its fibres and of what lies between them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.datasets._outlines import Fibre, Outline, Window

Layer = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Scene:
    """Layers of one shape (rows, columns), float32.

    Attributes
    ----------
    axon, fibre
        Cover in [0, 1]: soft by one pixel at the outlines.
    depth
        Inside a sheath, 0 at the axon and 1 at the outer outline.
    thickness
        Thickness of the sheath here, in pixels.
    bearing
        Direction from the fibre's centre, in radians.
    tone
        One standard normal number per fibre, at its pixels.
    organelles
        Cover of spots in the axons (mitochondria).
    bare, bare_rim
        Cover of unmyelinated axons, and of their membranes.
    body, body_rim
        Cover of nuclei and other cell bodies, and of their membranes.
    """

    axon: Layer
    fibre: Layer
    depth: Layer
    thickness: Layer
    bearing: Layer
    tone: Layer
    organelles: Layer
    bare: Layer
    bare_rim: Layer
    body: Layer
    body_rim: Layer

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (int(self.axon.shape[0]), int(self.axon.shape[1]))


def lay(
    rng: np.random.Generator,
    shape: tuple[int, int],
    *,
    fibres: Sequence[Fibre],
    bare: Sequence[Outline],
    bodies: Sequence[Outline],
) -> Scene:
    """Turn outlines into soft layers."""
    layers = {name: np.zeros(shape, np.float32) for name in Scene.__dataclass_fields__}
    for fibre in fibres:
        _lay_fibre(layers, fibre, float(rng.standard_normal()))
        _lay_organelles(rng, layers["organelles"], fibre.axon)
    for name, outlines in (("bare", bare), ("body", bodies)):
        for outline in outlines:
            window = outline.window(shape, 3.0)
            out = _outwards(outline, window)
            _most(layers[name], window, _cover(out))
            _most(layers[name + "_rim"], window, np.exp(-((out / 1.1) ** 2)))
    layers["organelles"] *= layers["axon"]
    return Scene(**layers)


def _lay_fibre(layers: dict[str, Layer], fibre: Fibre, tone: float) -> None:
    shape = (layers["axon"].shape[0], layers["axon"].shape[1])
    window = fibre.sheath.window(shape, 2.0)
    beyond_axon, beyond = _outwards(fibre.axon, window), _outwards(fibre.sheath, window)
    thickness = np.maximum(beyond_axon - beyond, 0.5)
    _most(layers["axon"], window, _cover(beyond_axon))
    _most(layers["fibre"], window, _cover(beyond))
    own = beyond < 1.0
    rows, cols = np.ogrid[window]
    bearing = np.arctan2(rows - fibre.sheath.row, cols - fibre.sheath.col)
    for name, values in (
        ("depth", np.clip(beyond_axon / thickness, 0.0, 1.0)),
        ("thickness", thickness),
        ("bearing", bearing),
        ("tone", np.full(own.shape, tone)),
    ):
        layers[name][window][own] = values[own]


def _lay_organelles(rng: np.random.Generator, layer: Layer, axon: Outline) -> None:
    radius = math.sqrt(axon.a * axon.b)
    for _ in range(int(rng.poisson(min(9.0, 0.8 + radius / 9.0)))):
        size = max(1.2, float(rng.uniform(0.06, 0.13)) * radius)
        out, turn = 0.75 * math.sqrt(float(rng.uniform())), float(rng.uniform(0, 2 * np.pi))
        spot = Outline(
            axon.row + out * axon.b * math.sin(turn),
            axon.col + out * axon.b * math.cos(turn),
            size * float(rng.uniform(1.0, 2.2)),
            size,
            float(rng.uniform(0, np.pi)),
            np.zeros(1, np.complex128),
        )
        window = spot.window((layer.shape[0], layer.shape[1]), 1.0)
        _most(layer, window, _cover(_outwards(spot, window)))


def _outwards(outline: Outline, window: Window) -> NDArray[np.float64]:
    """Distance in pixels beyond the outline along the ray from its centre; negative inside."""
    rows, cols = np.ogrid[window]
    level = outline.level(rows, cols)
    distance = np.hypot(rows - outline.row, cols - outline.col)
    beyond = distance - distance / np.maximum(level, 1e-9)
    return np.where(level < 1e-6, -min(outline.a, outline.b), beyond)


def _cover(beyond: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.clip(0.5 - beyond, 0.0, 1.0))


def _most(layer: Layer, window: Window, values: NDArray[np.float64]) -> None:
    np.maximum(layer[window], values.astype(np.float32), out=layer[window])
