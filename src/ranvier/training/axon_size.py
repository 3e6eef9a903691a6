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
    """Diameter of the circle with the area of the axon above and below which axons cover the same area.

    Axons (4-connected components of 12 pixels or more) of all images are pooled, at the images' own pixels.

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
    areas = np.sort(np.concatenate([np.zeros(0), *(_areas(a.load()[1]) for a in chosen)]))
    if not areas.size:
        return None
    covered = np.cumsum(areas)
    middle = float(areas[np.searchsorted(covered, covered[-1] / 2)])
    return 2 * math.sqrt(middle / math.pi)


def _areas(classes: NDArray[np.uint8]) -> NDArray[np.float64]:
    from scipy.ndimage import label

    found = np.bincount(label(classes == AXON)[0].ravel())[1:].astype(np.float64)
    return found[found >= _SMALLEST_PX]
