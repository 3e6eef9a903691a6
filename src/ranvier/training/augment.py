"""Patches for training: drawn from whole images and randomised in geometry, polarity and look.

Every random number comes from the generator that is handed in, so that a step can be repeated.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from ranvier.training.augment_nnunet import cut_as_nnunet
from ranvier.training.canvas import Canvas
from ranvier.training.settings import AugmentationSettings


def cut(
    source: Canvas,
    *,
    patch: tuple[int, int],
    foreground: float,
    settings: AugmentationSettings,
    rng: np.random.Generator,
    by_class: bool = False,
) -> tuple[Tensor, Tensor]:
    """Cut and randomise one patch.

    Parameters
    ----------
    source
        The image; standardised, unless the scheme is ``nnunet``.
    patch
        Rows and columns.
    foreground
        Probability that the patch is centred on a pixel of axon or myelin.
    settings
        How the patch is changed.
    rng
        Every random number comes from it.
    by_class
        Whether that pixel's class is drawn first; the canvas must have been made for it.

    Returns
    -------
    grey, targets
        float32 (1, rows, columns), and what to learn: int64 classes (rows, columns), or float32 probabilities (3,
        rows, columns) of a canvas with such; see :meth:`ranvier.training.canvas.Canvas.targets_at`.
    """
    if settings.scheme == "nnunet":
        return cut_as_nnunet(source, patch=patch, foreground=foreground, by_class=by_class, rng=rng)
    zoom = source.base * log_uniform(settings.zoom, rng)
    stretch = math.exp(rng.uniform(-1, 1) * math.log(settings.anisotropy))
    angle = rng.uniform(0, 2 * math.pi) if settings.rotate else 0.0
    mirror = -1.0 if settings.flip and rng.random() < 0.5 else 1.0
    place = source.foreground_place(foreground, rng, by_class=by_class)
    if place is None:
        place = (int(rng.integers(source.shape[0])), int(rng.integers(source.shape[1])))
    grey, targets = _warped(source, patch, place, zoom=zoom, stretch=stretch, turn=(angle, mirror))
    return _relook(grey, source.probe, settings, rng)[0], targets


def _warped(
    source: Canvas,
    patch: tuple[int, int],
    place: tuple[int, int],
    *,
    zoom: float,
    stretch: float,
    turn: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """Grey (1, 1, rows, columns) and targets about a place, by an angle and -1 for a mirror image."""
    (rows, columns), (high, wide) = source.shape, patch
    (row, column), (angle, mirror) = place, turn
    # Patch pixel (u, v) about its centre -> image pixel: rotate, mirror, then shrink by the zoom of each axis.
    per_u, per_v = 1 / (zoom * math.sqrt(stretch)), math.sqrt(stretch) / zoom
    cosine, sine = math.cos(angle), math.sin(angle)
    theta = torch.tensor(
        [
            [
                mirror * cosine * per_v * wide / columns,
                -sine * per_u * high / columns,
                _kept_inside(column, columns, wide / zoom) / (columns / 2) - 1,
            ],
            [
                mirror * sine * per_v * wide / rows,
                cosine * per_u * high / rows,
                _kept_inside(row, rows, high / zoom) / (rows / 2) - 1,
            ],
        ],
        dtype=torch.float32,
    )[None]
    grid = nnf.affine_grid(theta, [1, 1, high, wide], align_corners=False)
    level = source.levels[min(len(source.levels) - 1, max(0, math.floor(-math.log2(zoom) + 0.3)))]
    grey = nnf.grid_sample(
        level, grid, mode="bilinear", padding_mode="reflection", align_corners=False
    )
    return grey, source.targets_at(grid)


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
    gamma = log_uniform(settings.gamma, rng)
    unit, sample = (t.clamp(0, 1) ** gamma for t in (unit, sample))
    out = (unit - sample.mean()) / sample.std().clamp_min(1e-3)
    size = (int(out.shape[2]), int(out.shape[3]))
    if settings.bias_field > 0:
        coarse = _normal((1, 1, 4, 4), rng) * (settings.bias_field * rng.random() / 2)
        out = out + nnf.interpolate(coarse, size=size, mode="bicubic", align_corners=True)
    out = out * log_uniform(settings.contrast, rng) + rng.uniform(-1, 1) * settings.brightness
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


def log_uniform(limits: tuple[float, float], rng: np.random.Generator) -> float:
    """A number from a range, evenly in its logarithm."""
    low, high = limits
    return float(math.exp(rng.uniform(math.log(low), math.log(high))))
