"""Grey levels -> what the network sees: on one scale over the whole image, never resampled unasked."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._resampling import Stretch, resample_part
from ranvier.bundle import NORMALISATION, Normalisation
from ranvier.errors import SettingsError
from ranvier.micrograph import Array

ZOOM_RANGE = (0.05, 20.0)
_ROWS_AT_A_TIME = 256


@dataclass(frozen=True)
class GreyStatistics:
    """Mean, standard deviation, least and greatest of an image's grey levels, in its own units."""

    mean: float
    std: float
    low: float
    high: float

    @property
    def is_flat(self) -> bool:
        """Whether the image shows nothing: every pixel has the same grey level."""
        return not self.std > 0


def statistics(pixels: Array) -> GreyStatistics:
    """Measure the grey levels of a whole image, in bounded memory and reproducibly.

    Parameters
    ----------
    pixels
        Shape (rows, columns), uint8, uint16 or float32.
    """
    if pixels.dtype in (np.uint8, np.uint16):
        counts = np.zeros(int(np.iinfo(pixels.dtype).max) + 1, dtype=np.int64)
        for rows in _row_blocks(pixels):
            counts += np.bincount(rows.ravel(), minlength=counts.size)
        levels = np.arange(counts.size, dtype=np.float64)
        mean = float(counts @ levels) / pixels.size
        variance = float(counts @ (levels - mean) ** 2) / pixels.size
    else:
        mean = math.fsum(float(b.sum(dtype=np.float64)) for b in _row_blocks(pixels)) / pixels.size
        squares = (float(((b.astype(np.float64) - mean) ** 2).sum()) for b in _row_blocks(pixels))
        variance = math.fsum(squares) / pixels.size
    low, high = (float(pixels.min()), float(pixels.max())) if pixels.size else (math.nan, math.nan)
    return GreyStatistics(mean, 0.0 if low == high else math.sqrt(variance), low, high)


def _row_blocks(pixels: Array) -> list[Array]:
    rows = max(1, _ROWS_AT_A_TIME * 4096 // max(1, pixels.shape[1]))
    return [pixels[top : top + rows] for top in range(0, pixels.shape[0], rows)]


def standardise(pixels: Array, grey: GreyStatistics) -> NDArray[np.float32]:
    """Subtract the image's mean and divide by its standard deviation.

    The result does not depend on whether the grey levels were first scaled to [0, 1]. A flat image gives zeros.
    """
    if grey.is_flat:
        return np.zeros(pixels.shape, dtype=np.float32)
    out = pixels.astype(np.float32)
    out -= np.float32(grey.mean)
    out *= np.float32(1.0 / grey.std)
    return out


def rescale(pixels: Array, grey: GreyStatistics) -> NDArray[np.float32]:
    """Bring the image's least grey level to 0 and its greatest to 1; a flat image gives zeros.

    As nnU-Net's ``RescaleTo01Normalization`` (Isensee et al. 2021).
    """
    if grey.is_flat:
        return np.zeros(pixels.shape, dtype=np.float32)
    out = pixels.astype(np.float32)
    out -= np.float32(grey.low)
    out *= np.float32(1.0 / (grey.high - grey.low))
    return out


def normalise(
    pixels: Array, grey: GreyStatistics, scheme: Normalisation = NORMALISATION
) -> NDArray[np.float32]:
    """Bring grey levels to the scale that a network was trained on.

    Parameters
    ----------
    pixels
        The image, or a part of it: any shape, uint8, uint16 or float32.
    grey
        Statistics of the whole image.
    scheme
        ``image-standardisation``: :func:`standardise`; ``rescale-0-1``: :func:`rescale`.
    """
    return rescale(pixels, grey) if scheme == "rescale-0-1" else standardise(pixels, grey)


def zoomed_shape(shape: tuple[int, int], zoom: float) -> tuple[int, int]:
    """Rows and columns after a zoom; never below one pixel.

    Raises
    ------
    SettingsError
        The zoom is outside ZOOM_RANGE.
    """
    low, high = ZOOM_RANGE
    if not (math.isfinite(zoom) and low <= zoom <= high):
        raise SettingsError(
            "zoom out of range", where="--zoom", seen=zoom, fix=f"Choose {low:g} to {high:g}"
        )
    return (max(1, round(shape[0] * zoom)), max(1, round(shape[1] * zoom)))


def resample(plane: Array, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resample one plane (rows, columns) to another shape, without aliasing.

    Bilinear with the filter widened when shrinking; edges map on edges, so that going there and back keeps
    every structure in its place. A part of the result is the same to the last bit where it is computed on its own, with
    :func:`ranvier._resampling.resample_part`.

    Parameters
    ----------
    plane
        Grey levels, logits or shares; computed as float32. Given back as it is where it has the shape.
    shape
        Rows and columns of the result.
    """
    if plane.shape == shape:
        return plane
    rows, columns = (Stretch.whole(*n) for n in zip(plane.shape, shape, strict=True))
    return resample_part(plane, rows, columns)
