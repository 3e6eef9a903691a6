"""Patches for training: drawn from whole images and randomised in geometry, polarity and look.

Every random number comes from the generator that is handed in, so that a step can be repeated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

from ranvier.micrograph import Array
from ranvier.preprocess import standardise, statistics
from ranvier.training.recipe import AugmentationSettings

_PROBE_PIXELS = 4096


@dataclass(frozen=True, eq=False)
class Canvas:
    """A training image, ready to cut patches from.

    Attributes
    ----------
    levels
        Standardised grey, float32 tensors (1, 1, rows, columns): full size and halved again and again, so that
        shrinking does not alias.
    classes
        float32 (1, 1, rows, columns) class of every pixel, at full size.
    foreground
        (n, 2) row and column of pixels of axon or myelin; may be empty.
    probe
        A sample of the grey levels, from which the look after randomisation is standardised again.
    """

    levels: tuple[Tensor, ...]
    classes: Tensor
    foreground: NDArray[np.int32]
    probe: Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (int(self.classes.shape[2]), int(self.classes.shape[3]))


def canvas(pixels: Array, classes: NDArray[np.uint8], rng: np.random.Generator) -> Canvas:
    """Prepare an image (rows, columns) and its classes."""
    grey = torch.from_numpy(standardise(pixels, statistics(pixels)))[None, None]
    levels = [grey]
    for _ in range(2):
        if min(levels[-1].shape[2:]) < 64:
            break
        levels.append(nnf.avg_pool2d(levels[-1], 2))
    rows, columns = np.nonzero(classes)
    keep = rng.permutation(rows.size)[:50_000]
    probe = grey.flatten()[torch.from_numpy(rng.integers(0, grey.numel(), _PROBE_PIXELS))]
    return Canvas(
        tuple(levels),
        torch.from_numpy(classes.astype(np.float32))[None, None],
        np.stack((rows[keep], columns[keep]), axis=1).astype(np.int32),
        probe,
    )


def cut(
    source: Canvas,
    *,
    patch: int,
    foreground: float,
    settings: AugmentationSettings,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Cut and randomise one patch.

    Returns
    -------
    grey, classes
        float32 (1, patch, patch) and int64 (patch, patch).
    """
    grey, classes = _warp(source, patch, foreground, settings, rng)
    return _relook(grey, source.probe, settings, rng)[0], classes[0, 0].round().long()


def _warp(
    source: Canvas,
    patch: int,
    foreground: float,
    settings: AugmentationSettings,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    zoom = _log_uniform(settings.zoom, rng)
    stretch = math.exp(rng.uniform(-1, 1) * math.log(settings.anisotropy))
    angle = rng.uniform(0, 2 * math.pi) if settings.rotate else 0.0
    mirror = -1.0 if settings.flip and rng.random() < 0.5 else 1.0
    rows, columns = source.shape
    if len(source.foreground) and rng.random() < foreground:
        row, column = source.foreground[rng.integers(len(source.foreground))]
    else:
        row, column = rng.integers(rows), rng.integers(columns)
    # Patch pixel (u, v) about its centre -> image pixel: rotate, mirror, then shrink by the zoom of each axis.
    per_u, per_v = 1 / (zoom * math.sqrt(stretch)), math.sqrt(stretch) / zoom
    cosine, sine = math.cos(angle), math.sin(angle)
    half = patch / 2
    theta = torch.tensor(
        [
            [
                mirror * cosine * per_v * half / (columns / 2),
                -sine * per_u * half / (columns / 2),
                _kept_inside(column, columns, patch / zoom) / (columns / 2) - 1,
            ],
            [
                mirror * sine * per_v * half / (rows / 2),
                cosine * per_u * half / (rows / 2),
                _kept_inside(row, rows, patch / zoom) / (rows / 2) - 1,
            ],
        ],
        dtype=torch.float32,
    )[None]
    grid = nnf.affine_grid(theta, [1, 1, patch, patch], align_corners=False)
    level = source.levels[min(len(source.levels) - 1, max(0, math.floor(-math.log2(zoom) + 0.3)))]
    grey = nnf.grid_sample(
        level, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    classes = nnf.grid_sample(
        source.classes, grid, mode="nearest", padding_mode="reflection", align_corners=False
    )
    return grey, classes


def _kept_inside(centre: float, length: int, extent: float) -> float:
    """Shift a centre so that the patch lies inside the image where it fits."""
    margin = min(extent / 2, length / 2)
    return float(min(max(centre, margin), length - margin))


def _relook(
    grey: Tensor, probe: Tensor, settings: AugmentationSettings, rng: np.random.Generator
) -> Tensor:
    """Randomise polarity, gamma, contrast, shading, blur and noise of a patch (1, 1, rows, columns)."""
    low, high = (float(v) for v in torch.quantile(probe, torch.tensor([0.002, 0.998])))
    span = max(high - low, 1e-3)
    unit, sample = ((t - low) / span for t in (grey, probe))
    if rng.random() < settings.invert:
        unit, sample = 1 - unit, 1 - sample
    gamma = _log_uniform(settings.gamma, rng)
    unit, sample = (t.clamp(0, 1) ** gamma for t in (unit, sample))
    out = (unit - sample.mean()) / sample.std().clamp_min(1e-3)
    size = (int(out.shape[2]), int(out.shape[3]))
    if settings.bias_field > 0:
        coarse = _normal((1, 1, 4, 4), rng) * (settings.bias_field * rng.random() / 2)
        out = out + nnf.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
    out = out * _log_uniform(settings.contrast, rng) + rng.uniform(-1, 1) * settings.brightness
    if rng.random() < settings.blur_share:
        out = _blurred(out, rng.uniform(*settings.blur))
    if rng.random() < settings.noise_share:
        out = out + _noise(size, rng) * rng.uniform(*settings.noise)
    return out


def _noise(size: tuple[int, int], rng: np.random.Generator) -> Tensor:
    """White noise, or noise with a grain of two pixels, as interpolation and compression leave it."""
    if rng.random() < 0.5:
        return _normal((1, 1, *size), rng)
    coarse = _normal((1, 1, -(-size[0] // 2), -(-size[1] // 2)), rng)
    return nnf.interpolate(coarse, size=size, mode="bilinear", align_corners=False)


def _blurred(image: Tensor, sigma: float) -> Tensor:
    if sigma < 0.2:
        return image
    radius = max(1, math.ceil(2.5 * sigma))
    offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
    kernel = torch.exp(-(offsets**2) / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    padded = nnf.pad(image, (radius,) * 4, mode="reflect")
    return nnf.conv2d(nnf.conv2d(padded, kernel[None, None, None]), kernel[None, None, :, None])


def _normal(shape: tuple[int, ...], rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal(shape, dtype=np.float32))


def _log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = limits
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))
