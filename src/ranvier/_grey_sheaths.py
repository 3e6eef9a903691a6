"""Grey levels -> what may be myelin, and how wide sheaths are, measured in the image itself.

Here and in :mod:`ranvier._enclosures` myelin is dark: images with bright myelin are inverted first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._classical_settings import ClassicalSettings
from ranvier.calibration import PixelSize
from ranvier.micrograph import Array

CLIPPED = (0.5, 99.5)
"""Percentiles of the grey levels that become 0 and 1."""
_HALF_RANGE = 0.5
"""R of Sauvola and Pietikäinen (2000) for grey levels from 0 to 1."""
_FIRST_PX = 10.0
"""Where the search for the sheath's width begins without a pixel size."""
_FIRST_UM = 0.5
"""And with one, in micrometres."""
_PLAUSIBLE_UM = (0.1, 4.0)
"""Widths of sheaths, single or of two fibres that touch, in micrometres."""
_NARROWEST_PX = 2.0
_COARSE = 0.25
"""Standard deviation of a Gaussian that leaves sheaths and little that is finer, in widths of the sheath."""
_STEPS = 12
_CLOSE_ENOUGH = 0.03
_PER_MEAN_DEPTH = 3.0
"""In a band of parallel edges the mean distance to the nearer edge is a quarter of the width. What is found is wider
than single sheaths, for fibres touch, and so a quarter is taken off."""
Floats = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Levels:
    """Grey levels that become 0 and 1."""

    low: float
    high: float

    def stretched(self, pixels: Array, *, bright: bool) -> Floats:
        """Grey levels from 0 to 1, float32, in which myelin is dark."""
        grey = pixels.astype(np.float32)
        grey -= np.float32(self.low)
        grey *= np.float32(1.0 / (self.high - self.low))
        np.clip(grey, 0, 1, out=grey)
        return np.float32(1) - grey if bright else grey


def levels_of(pixels: Array) -> Levels | None:
    """The levels between which a micrograph's contrast lies; None where it is flat."""
    low, high = (float(v) for v in np.percentile(pixels, CLIPPED))
    if not low < high:
        low, high = float(pixels.min()), float(pixels.max())
    return Levels(low, high) if low < high else None


def smoothed(grey: Floats, sheath: float, settings: ClassicalSettings) -> Floats:
    """Remove noise that is finer than sheaths."""
    from scipy import ndimage

    found: Floats = ndimage.gaussian_filter(grey, settings.smoothing * sheath)
    return found


def dark_pixels(smooth: Floats, sheath: float, settings: ClassicalSettings) -> NDArray[np.bool_]:
    """Pixels darker than the local threshold of Sauvola and Pietikäinen (2000).

    Parameters
    ----------
    smooth
        Grey levels from 0 to 1, shape (rows, columns).
    sheath
        Typical width of the sheath in pixels.
    settings
        Window and sensitivity.
    """
    from scipy import ndimage

    window = round(settings.window * sheath) | 1
    mean = ndimage.uniform_filter(smooth, window, mode="mirror")
    square = ndimage.uniform_filter(smooth * smooth, window, mode="mirror")
    spread = np.sqrt(np.maximum(square - mean * mean, 0))
    dark: NDArray[np.bool_] = smooth < mean * (1 + settings.sauvola_k * (spread / _HALF_RANGE - 1))
    return dark


def sample(pixels: Array, most: int) -> list[Array]:
    """The whole image, or nine blocks of it on a regular grid where it has more than so many pixels."""
    if pixels.size <= most:
        return [pixels]
    share = np.sqrt(most / 9 / pixels.size)
    blocks = []
    for top, bottom in _thirds(pixels.shape[0], share):
        for left, right in _thirds(pixels.shape[1], share):
            blocks.append(pixels[top:bottom, left:right])
    return blocks


def _thirds(length: int, share: float) -> list[tuple[int, int]]:
    """Three stretches of that share of a length, in the middles of its thirds."""
    size = max(1, round(length * share))
    middles = ((2 * i + 1) * length // 6 for i in range(3))
    return [(max(0, m - size // 2), min(length, m - size // 2 + size)) for m in middles]


def sheath_width(
    blocks: list[Floats], settings: ClassicalSettings, *, pixel_size: PixelSize | None = None
) -> float:
    """Typical width of the sheath in pixels.

    The width w for which dark pixels, found with smoothing and window in proportion to w, have the mean width w: the
    fixed point of a few steps from a usual width. The mean width of the dark pixels is that of a band, from their
    mean distance to the nearest bright one.

    Parameters
    ----------
    blocks
        Parts of the image, grey levels from 0 to 1 in which myelin is dark.
    settings
        Smoothing and threshold; ``sheath_px`` is the answer where it is given.
    pixel_size
        Where it is known, the search begins at 0.5 um and is kept between 0.1 and 4 um.
    """
    if settings.sheath_px is not None:
        return settings.sheath_px
    low, high = _NARROWEST_PX, max(_NARROWEST_PX, min(blocks[0].shape) / 4)
    width: float = _FIRST_PX
    if pixel_size is not None:
        width = _FIRST_UM / pixel_size.um
        narrow, wide = (um / pixel_size.um for um in _PLAUSIBLE_UM)
        low, high = min(max(low, narrow), high), max(low, min(high, wide))
    width = min(max(width, low), high)
    for _ in range(_STEPS):
        found: float = min(max(_mean_width(blocks, width, settings), low), high)
        if abs(found - width) < _CLOSE_ENOUGH * width:
            return found
        width = found
    return width


def _mean_width(blocks: list[Floats], width: float, settings: ClassicalSettings) -> float:
    """Mean width of the dark pixels that are found at a width; that width where there are none."""
    from scipy import ndimage

    total, count = 0.0, 0
    for block in blocks:
        dark = dark_pixels(smoothed(block, width, settings), width, settings)
        inside = int(np.count_nonzero(dark))
        if 0 < inside < dark.size:
            total += float(ndimage.distance_transform_edt(dark).sum())
            count += inside
    return _PER_MEAN_DEPTH * total / count if count else width


def structure(blocks: list[Floats], sheath: float) -> float:
    """Share of the variance of grey levels that is left when all is removed that is finer than sheaths.

    It is close to 0 in white noise, and above a half in micrographs that show sheaths.
    """
    from scipy import ndimage

    left = sum(float(ndimage.gaussian_filter(b, _COARSE * sheath).var()) * b.size for b in blocks)
    whole = sum(float(b.var(dtype=np.float64)) * b.size for b in blocks)
    return left / whole if whole > 0 else 0.0
