"""Four looks of one scene: TEM, SEM, bright field (toluidine blue) and CARS.

Grey levels were chosen by eye after published micrographs; nothing was copied from any.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ranvier.datasets._scene import Layer, Scene

Look = Literal["TEM", "SEM", "BF", "CARS"]

LUMA = (299, 587, 114)
"""Thousandths of red, green and blue in grey (ITU-R BT.601-7, section 2.5.1)."""
TRACE = 0.01
"""Noise and blur below this are none: no grey level would change."""
_CREAM = (232.0, 226.0, 212.0)
_TOLUIDINE = (0.92, 0.84, 0.40)
_AZURE = (1.0, 0.62, 0.2)


@dataclass(frozen=True)
class Optics:
    """How an image degrades: noise in grey levels at mid-grey, blur in pixels, debris 0 to 1."""

    noise: float
    blur: float
    debris: float


class Brush:
    """Random textures of one shape."""

    def __init__(self, rng: np.random.Generator, shape: tuple[int, int]) -> None:
        self.rng = rng
        self.shape = shape

    def cloud(self, scale: float) -> Layer:
        """Smooth noise of mean 0 and standard deviation 1, with features of ``scale`` pixels."""
        step = max(1, int(scale / 2.5))
        coarse = tuple(n // step + 4 for n in self.shape)
        noise = self.rng.standard_normal(coarse, dtype=np.float32)
        if scale > 0.4:
            noise = ndimage.gaussian_filter(noise, scale / step, mode="reflect")
        noise = noise / max(float(noise.std()), 1e-6)
        if step > 1:
            noise = ndimage.zoom(noise, step, order=1, grid_mode=True, mode="nearest")
        return np.asarray(noise[: self.shape[0], : self.shape[1]], dtype=np.float32)

    def threads(self, scale: float, width: float) -> Layer:
        """Thin curved lines of this width in pixels, about ``scale`` pixels apart, in [0, 1]."""
        noise = ndimage.gaussian_filter(self.cloud(scale), 1.0)
        slope = np.hypot(*np.gradient(noise)) + 1e-4
        return np.asarray(np.exp(-((noise / (slope * width)) ** 2)), dtype=np.float32)

    def patches(self, scale: float, above: float, softness: float = 0.15) -> Layer:
        """Blobs where smooth noise exceeds ``above`` standard deviations, in [0, 1]."""
        exponent = np.clip((above - self.cloud(scale)) / softness, -30, 30)
        return np.asarray(1.0 / (1.0 + np.exp(exponent)), dtype=np.float32)

    def field(self, depth: float) -> Layer:
        """Uneven brightness: a tilted bowl around 1, deviating by about ``depth``."""
        y, x = (np.linspace(-1, 1, n, dtype=np.float32) for n in self.shape)
        p = self.rng.uniform(-1, 1, 4)
        tilt = p[0] * y[:, None] + p[1] * x[None, :]
        bowl = -0.8 * ((y[:, None] - 0.4 * p[2]) ** 2 + (x[None, :] - 0.4 * p[3]) ** 2) + 0.5
        return np.asarray(1.0 + depth * (0.5 * tilt + bowl), dtype=np.float32)


def render(
    rng: np.random.Generator, scene: Scene, *, look: Look, optics: Optics
) -> tuple[NDArray[np.uint8], NDArray[np.uint8] | None]:
    """Paint a scene.

    Returns
    -------
    grey
        uint8, shape (rows, columns).
    colour
        uint8, shape (rows, columns, 3) for the look BF, else None.
    """
    brush = Brush(rng, scene.shape)
    if look == "BF":
        colour = _bright_field(brush, scene, optics)
        grey = (colour.astype(np.uint32) @ np.asarray(LUMA, dtype=np.uint32) + 500) // 1000
        return grey.astype(np.uint8), colour
    painters: dict[str, Callable[[Brush, Scene, Optics], Layer]] = {
        "TEM": _tem,
        "SEM": _sem,
        "CARS": _cars,
    }
    return levels(painters[look](brush, scene, optics)), None


def _tem(brush: Brush, scene: Scene, optics: Optics) -> Layer:
    matrix = 140 + 14 * brush.cloud(30) + 9 * brush.cloud(4) + 7 * brush.cloud(1.2)
    matrix -= 34 * brush.threads(7, 0.8) * brush.patches(18, -0.8)
    matrix -= 22 * brush.threads(4, 0.7) * brush.patches(24, 0.2)
    collagen = brush.patches(22, 0.75)
    matrix = mixed(matrix, 200 + 16 * brush.cloud(1.1), 0.85 * collagen)
    cell = 112 + 20 * brush.cloud(5) + 16 * brush.cloud(1.5) - 14 * brush.patches(6, 0.8)
    image = mixed(mixed(matrix, cell, scene.body), 62, 0.8 * scene.body_rim)
    image = mixed(image, 156 + 10 * brush.cloud(2) + 8 * brush.cloud(9), scene.bare)
    image = mixed(image, 88, 0.75 * scene.bare_rim)
    image = image - 45 * fibre_rim(scene)
    axoplasm = 166 + 11 * scene.tone + 9 * brush.cloud(3) + 9 * brush.cloud(0.9)
    axoplasm += 14 * brush.cloud(14)
    axoplasm = mixed(axoplasm, 92 + 14 * brush.cloud(1.2), 0.9 * scene.organelles)
    lamellae = np.sin(2 * np.pi * scene.depth * np.maximum(1, np.round(scene.thickness / 3.0)))
    myelin = 50 + 6 * scene.tone + 11 * lamellae + 6 * brush.cloud(1.5) + 8 * brush.cloud(10)
    image = with_fibres(image, myelin + 55 * split_sheaths(brush, scene), axoplasm, scene)
    image = blurred(image, optics) * brush.field(0.10)
    stain = brush.patches(5, 3.6 - 1.2 * optics.debris, 0.05) if optics.debris else 0.0
    return noisy(brush, mixed(image, 12, stain), optics)


def _sem(brush: Brush, scene: Scene, optics: Optics) -> Layer:
    matrix = 112 + 12 * brush.cloud(24) + 14 * brush.cloud(5) + 9 * brush.cloud(1.6)
    matrix += 44 * brush.threads(5, 0.9) * brush.patches(9, -0.2)
    matrix = mixed(matrix, 42, 0.9 * brush.patches(5, 1.55) * brush.patches(20, -0.2))
    cell = 104 + 7 * brush.cloud(6) + 5 * brush.cloud(2)
    image = mixed(mixed(matrix, cell, scene.body), 84, 0.4 * scene.body_rim)
    image = mixed(image, 98 + 8 * brush.cloud(3), scene.bare)
    image = mixed(image, 138, 0.6 * scene.bare_rim)
    axoplasm = 72 + 11 * scene.tone + 7 * brush.cloud(3) + 5 * brush.cloud(1)
    axoplasm = mixed(axoplasm, 118 + 10 * brush.cloud(1.5), 0.55 * scene.organelles)
    myelin = 190 + 5 * scene.tone + 11 * brush.cloud(1.6) + 8 * brush.cloud(12)
    myelin -= 34 * split_sheaths(brush, scene)
    image = with_fibres(image, myelin, axoplasm, scene)
    image = blurred(image, optics) * brush.field(0.07)
    dirt = brush.patches(3, 4.2 - 1.2 * optics.debris, 0.05) if optics.debris else 0.0
    return noisy(brush, mixed(image, 235, dirt), optics)


def _bright_field(brush: Brush, scene: Scene, optics: Optics) -> NDArray[np.uint8]:
    """Optical densities of two dyes, blurred as light, under uneven illumination."""
    ground = np.clip(0.14 + 0.025 * brush.cloud(24) + 0.025 * brush.cloud(4), 0.02, None)
    ground += 0.10 * brush.threads(6, 1.2) * brush.patches(16, -0.2)
    nuclei = 0.2 * (1 + 0.25 * brush.cloud(3)) * scene.body
    ground = mixed(ground, 0.16, 0.8 * scene.body)
    ground = mixed(ground, 0.05, 0.6 * scene.bare) + 0.10 * scene.bare_rim
    axoplasm = np.clip(0.035 + 0.012 * scene.tone + 0.01 * brush.cloud(6), 0.0, None)
    axoplasm += 0.07 * scene.organelles
    myelin = 0.40 + 0.02 * scene.tone + 0.025 * brush.cloud(4) - 0.10 * split_sheaths(brush, scene)
    sheath = scene.fibre * (1 - scene.axon)
    blue = np.clip(with_fibres(ground, 0.0 * myelin, axoplasm, scene), 0, None)
    violet = np.clip(myelin, 0, None) * sheath + np.clip(nuclei, 0, None) * (1 - scene.fibre)
    if optics.debris:
        violet = violet + 0.6 * brush.patches(3, 3.9 - 1.0 * optics.debris, 0.1)
    field = brush.field(0.07)
    planes = []
    for light, azure, toluidine in zip(_CREAM, _AZURE, _TOLUIDINE, strict=True):
        plane = light * 10.0 ** -(azure * blue + toluidine * violet)
        plane = blurred(plane.astype(np.float32), optics) * field
        planes.append(levels(noisy(brush, plane, optics)))
    return np.stack(planes, axis=-1)


def _cars(brush: Brush, scene: Scene, optics: Optics) -> Layer:
    """Signal of lipids; brightness follows the angle of the sheath to the light's polarisation."""
    matrix = np.clip(34 + 7 * brush.cloud(18) + 5 * brush.cloud(3), 4, None)
    matrix += 22 * brush.threads(14, 1.2) * brush.patches(20, 0.6)
    image = mixed(matrix, 52 + 5 * brush.cloud(4), 0.7 * scene.body)
    image = mixed(image, 27, 0.5 * scene.bare) + 10 * scene.bare_rim
    axoplasm = np.clip(24 + 3 * scene.tone + 3 * brush.cloud(4), 3, None)
    polarised = 1.0 + 0.16 * np.cos(2 * (scene.bearing - float(brush.rng.uniform(0, np.pi))))
    myelin = (176 + 13 * scene.tone + 9 * brush.cloud(5)) * polarised
    image = with_fibres(image, myelin, axoplasm, scene)
    if optics.debris:
        image = mixed(image, 225, brush.patches(2.2, 4.4 - 1.2 * optics.debris, 0.1))
    image = blurred(image, optics) * brush.field(0.14)
    if optics.noise < TRACE:
        return image
    photons = 128.0 / optics.noise**2
    counts = brush.rng.poisson(np.clip(image, 0, None) * photons)
    return np.asarray(counts / photons, dtype=np.float32)


def fibre_rim(scene: Scene) -> Layer:
    """What borders on fibres from outside, falling off within a few pixels, in [0, 1]."""
    return np.asarray(ndimage.gaussian_filter(scene.fibre, 1.6) * (1 - scene.fibre))


def with_fibres(ground: Layer, myelin: Layer, axoplasm: Layer, scene: Scene) -> Layer:
    return mixed(mixed(ground, myelin, scene.fibre), axoplasm, scene.axon)


def split_sheaths(brush: Brush, scene: Scene) -> Layer:
    """Clefts along some sheaths (loosened lamellae), in [0, 1]."""
    along = np.exp(-(((scene.depth - 0.45) * scene.thickness / 0.9) ** 2))
    return np.asarray(along * brush.patches(9, 0.9) * (scene.thickness > 4), dtype=np.float32)


def mixed(under: Layer | float, over: Layer | float, cover: Layer | float) -> Layer:
    return np.asarray(under + (over - under) * cover, dtype=np.float32)


def blurred(image: Layer, optics: Optics) -> Layer:
    return (
        np.asarray(ndimage.gaussian_filter(image, optics.blur)) if optics.blur >= TRACE else image
    )


def noisy(brush: Brush, image: Layer, optics: Optics) -> Layer:
    """Noise of a detector: variance partly constant, partly in proportion to the signal."""
    spread = optics.noise * np.sqrt(0.5 + 0.5 * np.clip(image, 0, 255) / 128.0)
    grain = brush.rng.standard_normal(image.shape, dtype=np.float32)
    return np.asarray(image + spread * grain, dtype=np.float32)


def levels(image: Layer) -> NDArray[np.uint8]:
    return np.clip(np.rint(image), 0, 255).astype(np.uint8)
