"""Probabilities that mean what they say: one temperature for all logits, fitted where networks had not learned.

Logits are divided by a temperature before the softmax, chosen to make the mean negative log-likelihood of true classes
least (Guo et al. 2017, On calibration of modern neural networks). Classes stay what they are. How far probabilities
still are from the truth is the expected calibration error: pixels are put into bins by the probability of their
likeliest class, and the differences between its mean and the share of right ones are averaged over pixels.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ranvier.datasets.annotated import Annotated
from ranvier.errors import SettingsError
from ranvier.micrograph import Array
from ranvier.preprocess import statistics, zoomed_shape
from ranvier.training.ensemble import Fold
from ranvier.training.export import load_network
from ranvier.training.looking import shown_at, suiting_zoom
from ranvier.training.network import CompactUNet, TorchBackend
from ranvier.training.plain_unet import PlainUNet
from ranvier.training.recipe import Recipe, recipe_from
from ranvier.training.validation import ONE_VIEW

__all__ = [
    "Calibration",
    "Judged",
    "Reliability",
    "calibrate",
    "fitted",
    "judge",
    "looked",
    "reliability",
    "tempered",
]

LIMITS = (0.25, 8.0)
"""No temperature outside of them is looked for."""
_PIXELS = 20_000
"""Of each image, at most about so many pixels are looked at, evenly spread."""
_BINS = 20


@dataclass(frozen=True, eq=False)
class Judged:
    """What a network said of pixels of one image that it had not learned, and what they are.

    Attributes
    ----------
    source, name
        The image.
    logits
        float32 (n, classes).
    truth
        uint8 (n).
    """

    source: str
    name: str
    logits: NDArray[np.float32]
    truth: NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Reliability:
    """Probabilities against what came true, by bins of equal width from 1/3 to 1.

    Attributes
    ----------
    said
        Mean probability of the likeliest class in each bin; NaN where it is empty.
    true
        Share of its pixels whose likeliest class is the true one; NaN where it is empty.
    share
        Share of all pixels.
    """

    said: NDArray[np.float64]
    true: NDArray[np.float64]
    share: NDArray[np.float64]

    @property
    def error(self) -> float:
        """Expected calibration error, 0 to 1."""
        return float(np.nansum(self.share * np.abs(self.said - self.true)))


@dataclass(frozen=True)
class Calibration:
    """A temperature, and what it is worth.

    Attributes
    ----------
    temperature
        Logits are to be divided by it.
    error_before, error_after
        Expected calibration error without and with it. It was fitted on the same pixels: one number on many.
    images
        How many images it was fitted on.
    """

    temperature: float
    error_before: float
    error_after: float
    images: int

    def as_dict(self) -> dict[str, Any]:
        """For model.json."""
        return {
            "temperature": round(self.temperature, 4),
            "expected_calibration_error_before": round(self.error_before, 4),
            "expected_calibration_error_after": round(self.error_after, 4),
            "images": self.images,
        }


def judge(folds: Sequence[Fold]) -> tuple[Judged, ...]:
    """What each fold's network says of the images that the fold held out, at the zoom that suits each.

    Images of a single grey level are left out: no network is shown them.

    Parameters
    ----------
    folds
        Finished trainings.

    Raises
    ------
    DatasetError, SettingsError
        A checkpoint cannot be used.
    """
    found = []
    for fold in folds:
        network, trained = load_network(fold.checkpoint)
        recipe = recipe_from(trained.about["recipe"], where=fold.checkpoint)
        found += [_judged(image, network, recipe) for image in fold.split.validation]
    return tuple(one for one in found if one is not None)


def _judged(image: Annotated, network: nn.Module, recipe: Recipe) -> Judged | None:
    micrograph, truth = image.load()
    if statistics(micrograph.pixels).is_flat:
        return None
    logits, _ = looked(micrograph.pixels, network, recipe)
    return Judged(image.source, image.name, logits, _some(truth[None])[:, 0])


def looked(
    pixels: Array, network: nn.Module, recipe: Recipe, zoom: float | None = None
) -> tuple[NDArray[np.float32], float]:
    """What a network says of pixels of an image, evenly spread, and the zoom at which it looked.

    Parameters
    ----------
    pixels
        Shape (rows, columns), not of a single grey level.
    network, recipe
        In evaluation mode, and its geometry, input and precision.
    zoom
        At which it looks; None: at the one that suits.

    Returns
    -------
    logits, zoom
        float32 (n, classes), and the zoom.
    """
    backend = TorchBackend(network, precision=recipe.schedule.precision)
    if zoom is None:
        zoom = suiting_zoom(pixels, backend, recipe, ONE_VIEW)
    shape = zoomed_shape((int(pixels.shape[0]), int(pixels.shape[1])), zoom)
    return _some(shown_at(pixels, shape, backend, recipe, ONE_VIEW)), zoom


def _some(planes: NDArray[Any]) -> NDArray[Any]:
    """Pixels of planes (n, rows, columns), evenly spread: (pixels, n)."""
    step = max(1, math.floor(math.sqrt(planes[0].size / _PIXELS)))
    start = step // 2
    return np.ascontiguousarray(planes[:, start::step, start::step].reshape(len(planes), -1).T)


def calibrate(judged: Sequence[Judged]) -> Calibration:
    """The temperature at which the truth is likeliest; each source counts alike, and within it each image.

    Parameters
    ----------
    judged
        From :func:`judge`; at least one image.

    Raises
    ------
    SettingsError
        There is none.
    """
    if not judged:
        raise SettingsError("no held-out image to fit a temperature on")
    truth = np.concatenate([j.truth for j in judged])
    temperature = fitted(judged, np.eye(judged[0].logits.shape[1])[truth])
    return Calibration(
        temperature,
        reliability(judged).error,
        reliability(judged, temperature).error,
        len(judged),
    )


def fitted(judged: Sequence[Judged], likely: NDArray[np.float64]) -> float:
    """The temperature at which the cross-entropy with probabilities is least; weighted as in :func:`calibrate`.

    Parameters
    ----------
    judged
        At least one image.
    likely
        float64 (pixels of all images, classes).
    """
    from scipy.optimize import minimize_scalar

    logits = np.concatenate([j.logits for j in judged]).astype(np.float64)
    weights = _weights(judged)
    logits -= logits.max(axis=1, keepdims=True)
    right = (logits * likely).sum(axis=1)

    def loss(log_t: float) -> float:
        """Mean cross-entropy."""
        t = math.exp(log_t)
        each = np.log(np.exp(logits / t).sum(axis=1)) - right / t
        return float(weights @ each)

    low, high = (math.log(t) for t in LIMITS)
    best = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-4})
    return math.exp(best.x)


def _weights(judged: Sequence[Judged]) -> NDArray[np.float64]:
    """Of each pixel; they sum to 1."""
    sources = [j.source for j in judged]
    return np.concatenate(
        [
            np.full(len(j.truth), 1 / (len(set(sources)) * sources.count(j.source) * len(j.truth)))
            for j in judged
        ]
    )


def reliability(judged: Sequence[Judged], temperature: float = 1.0) -> Reliability:
    """How often what was said with a probability came true; weighted as in :func:`calibrate`.

    Parameters
    ----------
    judged
        From :func:`judge`.
    temperature
        That the logits are divided by.
    """
    said, right = [], []
    for j in judged:
        likely = np.exp((j.logits - j.logits.max(axis=1, keepdims=True)) / temperature)
        said.append(1 / likely.sum(axis=1, dtype=np.float64))
        right.append(j.logits.argmax(axis=1) == j.truth)
    confidence, hit, weights = np.concatenate(said), np.concatenate(right), _weights(judged)
    classes = judged[0].logits.shape[1]
    bins = np.clip(
        ((confidence - 1 / classes) / (1 - 1 / classes) * _BINS).astype(np.intp), 0, _BINS - 1
    )
    share = np.bincount(bins, weights, _BINS).astype(np.float64)
    with np.errstate(invalid="ignore"):
        return Reliability(
            np.bincount(bins, weights * confidence, _BINS) / share,
            np.bincount(bins, weights * hit, _BINS) / share,
            share,
        )


def tempered(network: nn.Module, temperature: float) -> nn.Module:
    """A copy of a network whose logits are divided by a temperature, by its last convolution: it costs no time.

    Parameters
    ----------
    network
        From :func:`ranvier.training.network.make_network`.
    temperature
        Positive.

    Raises
    ------
    SettingsError
        A temperature that is not positive, or a network that does not end in a convolution.
    """
    if not (math.isfinite(temperature) and temperature > 0):
        raise SettingsError("must be positive", where="temperature", seen=temperature)
    made = copy.deepcopy(network)
    if isinstance(made, CompactUNet):
        last: nn.Module = made.head
    elif isinstance(made, PlainUNet):
        last = made.heads
    else:
        raise SettingsError(
            "this network takes no temperature", where="temperature", seen=type(network).__name__
        )
    with torch.no_grad():
        for weights in last.parameters():
            weights.div_(temperature)
    return made
