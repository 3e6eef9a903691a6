"""How wide, in pixels, the axons are that a network is trained on."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ranvier.datasets.annotated import Annotated
from ranvier.micrograph import AXON

__all__ = ["trained_axon_px"]

MOST_IMAGES = 64
_SMALLEST_PX = 12


def trained_axon_px(images: Sequence[Annotated]) -> float | None:
    """Of each image, the diameter above and below which axons cover the same area; the geometric mean over images.

    Axons are 4-connected components of 12 pixels or more, their diameter that of the circle of equal area, at the
    images' own pixels.

    Parameters
    ----------
    images
        Of more than 64 annotated ones, 64 that are evenly spread are looked at.

    Returns
    -------
    float | None
        In pixels; None where there is no axon.
    """
    drawn = [image for image in images if image.masks]
    chosen = drawn[:: max(1, math.ceil(len(drawn) / MOST_IMAGES))]
    logs = [math.log(px) for a in chosen if (px := _axon_px(a.load()[1])) is not None]
    return math.exp(math.fsum(logs) / len(logs)) if logs else None


def _axon_px(classes: NDArray[np.uint8]) -> float | None:
    from scipy.ndimage import label

    areas = np.sort(np.bincount(label(classes == AXON)[0].ravel())[1:].astype(np.float64))
    areas = areas[areas >= _SMALLEST_PX]
    if not areas.size:
        return None
    covered = np.cumsum(areas)
    return 2 * math.sqrt(float(areas[np.searchsorted(covered, covered[-1] / 2)]) / math.pi)
