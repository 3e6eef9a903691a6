"""How well a network does on whole images that it was not trained on."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ranvier.datasets.annotated import Annotated
from ranvier.evaluation import Confusion, confusion, scores
from ranvier.inference import InferenceSettings, classify
from ranvier.micrograph import Micrograph
from ranvier.training.looking import suiting_zoom
from ranvier.training.network import TorchBackend, field_of
from ranvier.training.recipe import Recipe

ONE_VIEW = InferenceSettings(zoom=1.0, views=1)
"""As users run models by default."""


Look = Callable[[Annotated, Micrograph, NDArray[np.uint8], NDArray[np.uint8]], None]
"""Called with each image, its pixels, the predicted classes and the true ones."""


def validate(
    network: nn.Module,
    images: tuple[Annotated, ...],
    recipe: Recipe,
    *,
    look: Look | None = None,
) -> dict[str, dict[str, float]]:
    """Dice and IoU by source: whole images, scored one by one and averaged.

    A network that was trained on images brought to one width of axons is shown each at the zoom that suits it, which
    is chosen by the rule that users have it chosen by; others are shown images as they are.

    An image without a class, in truth and prediction alike, has no score for it; a source of such images has none.

    Parameters
    ----------
    network
        In evaluation mode.
    images
        May be empty: then the result is.
    recipe
        Gives the network's geometry and the precision.
    look
        Shown each result.
    """
    backend = TorchBackend(network, precision=recipe.schedule.precision)
    found: dict[str, list[Confusion]] = {}
    for image in images:
        micrograph, truth = image.load()
        zoom = suiting_zoom(micrograph.pixels, backend, recipe, ONE_VIEW)
        predicted = classify(
            micrograph,
            backend,
            field=field_of(recipe.network),
            settings=replace(ONE_VIEW, zoom=zoom),
            normalisation=recipe.input.scheme,
        )
        found.setdefault(image.source, []).append(confusion(predicted, truth))
        if look is not None:
            look(image, micrograph, predicted, truth)
    result: dict[str, dict[str, float]] = {}
    for source, counts in found.items():
        each = [scores(c) for c in counts]
        known = {k: [e[k] for e in each if not math.isnan(e[k])] for k in each[0]}
        result[source] = {k: float(np.mean(v)) for k, v in known.items() if v}
    return result
