"""nnU-Net's default augmentation of 2D patches, for the paper's recipe.

In this order (Isensee et al. 2021; values of nnU-Net 2's ``nnUNetTrainer.get_training_transforms``): rotation,
with probability 0.2, by up to 15 degrees where the patch is more than 1.5 times as long as wide, otherwise by any
angle; scaling 0.2, both axes by 0.7 to 1.4; Gaussian noise 0.1; Gaussian blur 0.2 * 0.5, sigma 0.5 to 1 drawn for each
axis; brightness 0.15, times 0.75 to 1.25; contrast 0.15, 0.75 to 1.25 about the mean, clipped to the range before;
low resolution 0.25 * 0.5, nearest pixel at 0.5 to 1 of the size and back bilinearly; gamma 0.7 to 1.5 of the inverted
image 0.1 and of the image 0.3, mean and standard deviation kept; mirroring of either axis 0.5. The second factors
are nnU-Net's probability per channel, of which there is one here. Factors about 1 are below it as often as above.

A larger window than the patch is cut first, large enough for the rotation and for shrinking to 0.85, and may reach
over the image's edge; what lies outside the image or, under rotation and scaling, outside that window is 0 in grey and
background in class.

What is kept of nnU-Net's code though its names say otherwise: the noise's "variance" of 0 to 0.1 is its standard
deviation, and a window about a pixel of axon or myelin is moved inside at the top and left edges, not at the others.

What differs: random numbers come from one NumPy generator; the pixels to centre on are drawn from up to 50 000 of
each class, not from 10 000 or one per cent; grey is interpolated linearly, as in nnU-Net from 2.5 on (before: cubic
splines); scales are drawn evenly from their range, as there (before: as often below 1 as above); the class of a warped
pixel is the likeliest by linear interpolation in float32 and not float16, background winning ties.
"""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as nnf
from torch import Tensor

from ranvier.micrograph import CLASS_NAMES
from ranvier.training.canvas import Canvas

_LONG_PATCH = 1.5
_SMALLEST_SCALE = 0.85  # of the window; smaller than the augmentation's own range, as in nnU-Net
_SCALES = (0.7, 1.4)
_FACTORS = (0.75, 1.25)
_GAMMAS = (0.7, 1.5)


def cut_as_nnunet(
    source: Canvas,
    *,
    patch: tuple[int, int],
    foreground: float,
    by_class: bool,
    rng: np.random.Generator,
) -> tuple[Tensor, Tensor]:
    """Cut one patch and augment it as nnU-Net does.

    Parameters
    ----------
    source
        The image.
    patch
        Rows and columns.
    foreground, by_class
        As for :meth:`ranvier.training.canvas.Canvas.foreground_place`.
    rng
        Every random number comes from it.

    Returns
    -------
    grey, classes
        float32 (1, rows, columns) and int64 (rows, columns).
    """
    window = window_shape(patch)
    place = source.foreground_place(foreground, rng, by_class=by_class)
    top, left = (
        _start(length, size, inner, None if place is None else place[axis], rng)
        for axis, (length, size, inner) in enumerate(zip(source.shape, window, patch, strict=True))
    )
    grey = _zero_padded(source.levels[0], (top, left), window)
    classes = _zero_padded(source.classes, (top, left), window)
    grey, classes = _warped(grey, classes, patch, rng)
    grey = _relooked(grey, rng)
    axes = [axis for axis in (2, 3) if rng.random() < 0.5]
    return grey.flip(axes)[0].contiguous(), classes.flip(axes)[0, 0].round().long()


def largest_angle(patch: tuple[int, int]) -> float:
    """Largest rotation, in radians."""
    return math.radians(15 if max(patch) / min(patch) > _LONG_PATCH else 180)


def window_shape(patch: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that are cut out before a patch is rotated and scaled."""
    angle = min(math.pi / 2, largest_angle(patch))
    cosine, sine = math.cos(angle), math.sin(angle)
    rows, columns = patch
    turned = (abs(rows * cosine + columns * sine), abs(columns * cosine - rows * sine))
    high, wide = (
        int(max(a, b) / _SMALLEST_SCALE + 1e-6) for a, b in zip(patch, turned, strict=True)
    )
    return (high, wide)


def _start(
    length: int, window: int, patch: int, place: int | None, rng: np.random.Generator
) -> int:
    """Where the window begins along one axis of an image of that length; may be negative."""
    pad = max(window - patch, window - length)
    lowest, highest = -pad // 2, length + pad // 2 + pad % 2 - window
    if place is None:
        return int(rng.integers(lowest, highest + 1))
    return max(lowest, place - window // 2)


def _zero_padded(plane: Tensor, start: tuple[int, int], shape: tuple[int, int]) -> Tensor:
    out = torch.zeros((1, 1, *shape))
    (top, left), (rows, columns) = start, (int(n) for n in plane.shape[2:])
    bottom, right = min(top + shape[0], rows), min(left + shape[1], columns)
    first, begin = max(top, 0), max(left, 0)
    out[..., first - top : bottom - top, begin - left : right - left] = plane[
        ..., first:bottom, begin:right
    ]
    return out


def _warped(
    grey: Tensor, classes: Tensor, patch: tuple[int, int], rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """The middle of a window, sometimes rotated, sometimes scaled."""
    limit = largest_angle(patch)
    rotates, scales = rng.random() < 0.2, rng.random() < 0.2
    angle = rng.uniform(-limit, limit) if rotates else 0.0
    scale = rng.uniform(*_SCALES) if scales else 1.0  # above 1: everything smaller
    shape = (int(grey.shape[2]), int(grey.shape[3]))
    if not (rotates or scales):
        top, left = (w // 2 - p // 2 for w, p in zip(shape, patch, strict=True))
        middle = (..., slice(top, top + patch[0]), slice(left, left + patch[1]))
        return grey[middle].clone(), classes[middle].clone()
    cosine, sine = scale * math.cos(angle), scale * math.sin(angle)
    (rows, columns), (high, wide) = patch, shape
    theta = torch.tensor(
        [
            [cosine * columns / wide, -sine * rows / wide, 0],
            [sine * columns / high, cosine * rows / high, 0],
        ],
        dtype=torch.float32,
    )[None]
    grid = nnf.affine_grid(theta, [1, 1, rows, columns], align_corners=False)
    each = torch.cat([(classes == value).float() for value in range(len(CLASS_NAMES))], dim=1)
    both = nnf.grid_sample(
        torch.cat((grey, each), dim=1),
        grid,
        mode="bilinear",
        padding_mode="zeros",
        align_corners=False,
    )
    return both[:, :1], both[:, 1:].argmax(dim=1, keepdim=True).float()


def _relooked(grey: Tensor, rng: np.random.Generator) -> Tensor:
    """Noise, blur, brightness, contrast, resolution and gamma of a patch (1, 1, rows, columns)."""
    if rng.random() < 0.1:
        noise = rng.standard_normal(tuple(grey.shape), dtype=np.float32)
        grey = grey + torch.from_numpy(noise) * rng.uniform(0, 0.1)
    if rng.random() < 0.2 * 0.5:
        grey = _blurred(grey, rng.uniform(0.5, 1), rng.uniform(0.5, 1))
    if rng.random() < 0.15:
        grey = grey * _about_one(_FACTORS, rng)
    if rng.random() < 0.15:
        grey = contrasted(grey, _about_one(_FACTORS, rng))
    if rng.random() < 0.25 * 0.5:
        grey = _coarse(grey, rng.uniform(0.5, 1))
    if rng.random() < 0.1:
        grey = -gamma_kept(-grey, _about_one(_GAMMAS, rng))
    if rng.random() < 0.3:
        grey = gamma_kept(grey, _about_one(_GAMMAS, rng))
    return grey


def _about_one(limits: tuple[float, float], rng: np.random.Generator) -> float:
    low, high = limits
    return float(rng.uniform(low, 1) if rng.random() < 0.5 else rng.uniform(1, high))


def _blurred(grey: Tensor, down: float, across: float) -> Tensor:
    for axis, sigma in ((0, down), (1, across)):
        radius = math.floor(3 * sigma + 0.25)
        offsets = torch.arange(-radius, radius + 1, dtype=torch.float32)
        kernel = torch.exp(-0.5 * (offsets / sigma) ** 2)
        kernel = (kernel / kernel.sum())[None, None]
        pad = (0, 0, radius, radius) if axis == 0 else (radius, radius, 0, 0)
        padded = nnf.pad(grey, pad, mode="reflect")
        grey = nnf.conv2d(padded, kernel[..., None] if axis == 0 else kernel[:, :, None])
    return grey


def contrasted(grey: Tensor, factor: float) -> Tensor:
    """Stretch about the mean, clipped to the range before."""
    mean = grey.mean()
    return ((grey - mean) * factor + mean).clamp(grey.min(), grey.max())


def _coarse(grey: Tensor, share: float) -> Tensor:
    size = [int(n) for n in grey.shape[2:]]
    small = nnf.interpolate(grey, [max(1, round(n * share)) for n in size], mode="nearest-exact")
    return nnf.interpolate(small, size, mode="bilinear")


def gamma_kept(grey: Tensor, gamma: float) -> Tensor:
    """Gamma within the patch's own range; its mean and standard deviation stay."""
    low, span = grey.min(), grey.max() - grey.min()
    bent = ((grey - low) / span.clamp_min(1e-7)) ** gamma * span + low
    kept = (bent - bent.mean()) * (grey.std() / bent.std().clamp_min(1e-7))
    return kept + grey.mean()
