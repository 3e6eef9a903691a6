"""At which zoom a network that is being trained looks at whole images."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranvier.backends import Backend
from ranvier.inference import InferenceSettings
from ranvier.micrograph import Array
from ranvier.preprocess import resample, statistics
from ranvier.training.axon_size import axon_px
from ranvier.training.network import field_of
from ranvier.training.recipe import Recipe
from ranvier.zooming import Viewer, choose_zoom

__all__ = ["base_zoom", "shown_at", "suiting_zoom"]

_BASES = (1 / 16, 4.0)


def base_zoom(classes: NDArray[np.uint8], wanted_px: float) -> float:
    """Zoom at which an image's axons are so wide.

    Parameters
    ----------
    classes
        uint8 (rows, columns), true ones.
    wanted_px
        :attr:`ranvier.training.settings.AugmentationSettings.axon_px`; 0 for the image as it is.

    Returns
    -------
    float
        Between 1/16 and 4; 1 for an image without axons.
    """
    found = axon_px(classes) if wanted_px else None
    return 1.0 if found is None else float(np.clip(wanted_px / found, *_BASES))


def suiting_zoom(
    pixels: Array, backend: Backend, recipe: Recipe, settings: InferenceSettings
) -> float:
    """Zoom for an image of which nothing is known, as ``--zoom auto`` would choose it.

    A network that was trained on images as they are is shown images as they are.

    Parameters
    ----------
    pixels
        Shape (rows, columns).
    backend, recipe
        The network.
    settings
        Size of tiles.
    """
    wanted = recipe.augmentation.axon_px
    if not wanted:
        return 1.0
    return choose_zoom(
        pixels,
        backend,
        field=field_of(recipe.network),
        settings=settings,
        normalisation=recipe.input.scheme,
        axon_px=wanted,
    ).zoom


def shown_at(
    pixels: Array,
    shape: tuple[int, int],
    backend: Backend,
    recipe: Recipe,
    settings: InferenceSettings,
) -> NDArray[np.float32]:
    """Logits (classes, rows, columns) of an image at its own pixels, from where it is resampled to a shape.

    Parameters
    ----------
    pixels
        Shape (rows, columns), not flat.
    shape
        Rows and columns as the network is shown them.
    backend, recipe, settings
        As for :func:`suiting_zoom`, and how many views.
    """
    own = (int(pixels.shape[0]), int(pixels.shape[1]))
    seen = pixels if shape == own else resample(pixels, shape)
    viewer = Viewer(backend, field_of(recipe.network), recipe.input.scheme, settings)
    planes = viewer.logits(seen, statistics(seen))
    return planes if shape == own else np.stack([resample(plane, own) for plane in planes])
