"""The edge of a pixel in micrometres, and where that number came from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ranvier.errors import PixelSizeError

Source = Literal[
    "option",
    "ome-xml",
    "ome-zarr",
    "slide",
    "imagej",
    "tiff-resolution",
    "pixel_size_in_micrometer.txt",
    "bids-sidecar",
    "dataset.json",
    "phantom",
]

SMALLEST_UM = 1e-4
"""0.1 nm: no micrograph of an axon is finer."""
LARGEST_UM = 10.0
"""Wider than most axons: nothing could be measured."""
ISOTROPY_TOLERANCE = 0.01
"""Width and height of a pixel may differ by 1 %."""


@dataclass(frozen=True)
class PixelSize:
    """Edge of a square pixel.

    Attributes
    ----------
    um
        Micrometres per pixel.
    source
        Where the number was found.
    """

    um: float
    source: Source

    def __str__(self) -> str:
        return f"{self.um:g} um per pixel ({self.source})"


def checked(
    x_um: float, y_um: float, source: Source, *, where: Path | str | None = None
) -> PixelSize:
    """Make a pixel size from a pixel's width and height, or refuse them.

    Parameters
    ----------
    x_um, y_um
        Width and height of a pixel in micrometres.
    source
        Where the numbers were found.
    where
        The file, for the error.

    Raises
    ------
    PixelSizeError
        Not finite, not positive, outside [SMALLEST_UM, LARGEST_UM], or the two differ by more
        than ISOTROPY_TOLERANCE. Both numbers are shown.
    """
    seen = f"{x_um:g} x {y_um:g} um, from {source}"
    fix = "Give the true pixel size with --pixel-size, in micrometres"
    if not all(math.isfinite(v) and SMALLEST_UM <= v <= LARGEST_UM for v in (x_um, y_um)):
        raise PixelSizeError(
            f"pixel size outside {SMALLEST_UM:g} to {LARGEST_UM:g} um",
            where=where,
            seen=seen,
            fix=fix,
        )
    if abs(x_um - y_um) > ISOTROPY_TOLERANCE * max(x_um, y_um):
        raise PixelSizeError(
            "pixels are not square; resample the image first",
            where=where,
            seen=seen,
            fix="If the metadata is wrong, " + fix[0].lower() + fix[1:],
        )
    return PixelSize(x_um if x_um == y_um else math.sqrt(x_um * y_um), source)
