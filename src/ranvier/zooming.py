"""The zoom at which a network sees fibres as it was trained to, chosen by what it makes of an image.

The network is shown an image at zooms a factor of two apart: whole where that is cheap, else a few windows where there
is structure. At the right zoom axons are enclosed by myelin, the network is sure, and axons are as wide as in training;
each zoom is scored by that (:meth:`ranvier._zoom_looks.Look.score`). From the smallest zoom on, until the score falls
clearly; then half a step to both sides of the best. A few windows can mislead: before an image is shown at another zoom
than 1, zoom 1 and those near the best are looked at again, at more places, and these closer looks decide: the top of a
parabola through their scores, in steps of a quarter of an octave. Nobody tells the pixel size, and a wrong one does no
harm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ranvier._zoom_looks import AXON_PX, Look
from ranvier._zoom_search import CONVINCING, Search, plan_looks
from ranvier._zoom_view import Viewer
from ranvier._zoom_windows import HeldPixels, Pixels
from ranvier.backends import Backend
from ranvier.bundle import NORMALISATION, Field, Normalisation
from ranvier.errors import SettingsError
from ranvier.micrograph import Array
from ranvier.preprocess import GreyStatistics, statistics
from ranvier.tilewise import InferenceSettings

__all__ = [
    "ProbeSettings",
    "Viewer",
    "ZoomChoice",
    "choose_zoom",
    "choose_zoom_of",
    "trained_axon_px",
]

_SPECKS = 0.01
"""Axons on less of what was shown say nothing, however good they look: noise has one now and then."""


@dataclass(frozen=True)
class ProbeSettings:
    """How much of an image is looked at.

    Attributes
    ----------
    share
        Pixels that the network is shown, padding included, are at most this share of the image's own ...
    least_px, most_px
        ... but not fewer than the one, for small images, nor more than the other, however large the image is.
    closer_least_px, closer_most_px
        Closer looks, before an image's own resolution is left, show as many pixels in addition as the image has, but
        not fewer than the one nor more than the other.

    Raises
    ------
    SettingsError
        A number is not positive, or a least is above its most.
    """

    share: float = 0.25
    least_px: int = 1_000_000
    most_px: int = 2_000_000
    closer_least_px: int = 2_000_000
    closer_most_px: int = 6_000_000

    def __post_init__(self) -> None:
        good = math.isfinite(self.share) and self.share > 0 and 0 < self.least_px <= self.most_px
        if not (good and 0 < self.closer_least_px <= self.closer_most_px):
            raise SettingsError("a look at an image needs a positive number of pixels", seen=self)

    def budget(self, shape: tuple[int, int]) -> int:
        """How many pixels may be shown of an image of this shape."""
        return int(min(max(self.share * shape[0] * shape[1], self.least_px), self.most_px))

    def closer(self, shape: tuple[int, int]) -> int:
        """How many more closer looks may show."""
        return min(max(shape[0] * shape[1], self.closer_least_px), self.closer_most_px)


@dataclass(frozen=True)
class ZoomChoice:
    """A zoom, and why that one.

    Attributes
    ----------
    zoom
        What the image is to be resampled by.
    looks
        What was seen at each zoom that was tried, the smallest first.
    closer
        What was seen at those that were looked at more closely, of which the zoom was then chosen; where there is
        none, it was chosen of ``looks``.
    axon_px
        Diameter of axons, in pixels, that the model was trained on.
    """

    zoom: float
    looks: tuple[Look, ...] = ()
    closer: tuple[Look, ...] = ()
    axon_px: float = AXON_PX

    @property
    def shown_px(self) -> int:
        """Pixels that the network was shown in all."""
        taken = {id(look): look for look in (*self.looks, *self.closer)}  # some are in both
        return sum(look.shown_px for look in taken.values())

    @property
    def best_score(self) -> float | None:
        """The highest score of any zoom, low where the image is unlike those of the training; None: no axon seen."""
        return max((score for score, _ in self._scored()), default=None)

    @property
    def is_unlike(self) -> bool:
        """Whether the image is unlike those of the training: at no zoom did the network see what it knows.

        That is more than a few specks, with a convincing score.
        """
        return all(score < CONVINCING or look.covered < _SPECKS for score, look in self._scored())

    def _scored(self) -> list[tuple[float, Look]]:
        looks = self.closer or self.looks
        return [(s, look) for look in looks if (s := look.score(self.axon_px)) is not None]

    def as_dict(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "asked": "auto",
            "chosen": self.zoom,
            "best_score": _short(self.best_score),
            "unlike_training": self.is_unlike,
            "trained_axon_px": self.axon_px,
            "shown_px": self.shown_px,
            "candidates": [self._told(look) for look in self.looks],
            "closer": [self._told(look) for look in self.closer],
        }

    def _told(self, look: Look) -> dict[str, Any]:
        values = {name: _short(value) for name, value in asdict(look).items()}
        return values | {"score": _short(look.score(self.axon_px))}


def _short(value: Any) -> Any:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def trained_axon_px(about: Mapping[str, Any]) -> float:
    """Diameter of axons, in pixels, that a model.json says it was trained on; a common one where it says nothing."""
    value = about.get("trained_axon_px", AXON_PX)
    return float(value)


def choose_zoom(
    pixels: Array,
    backend: Backend,
    *,
    field: Field,
    settings: InferenceSettings,
    normalisation: Normalisation = NORMALISATION,
    axon_px: float = AXON_PX,
    probe: ProbeSettings | None = None,
) -> ZoomChoice:
    """Choose the zoom for an image in memory; as :func:`choose_zoom_of`.

    Parameters
    ----------
    pixels
        Shape (rows, columns), uint8, uint16 or float32.
    """
    return choose_zoom_of(
        HeldPixels(pixels),
        statistics(pixels),
        Viewer(backend, field, normalisation, settings),
        axon_px=axon_px,
        probe=probe,
    )


def choose_zoom_of(
    pixels: Pixels,
    grey: GreyStatistics,
    viewer: Viewer,
    *,
    axon_px: float = AXON_PX,
    probe: ProbeSettings | None = None,
) -> ZoomChoice:
    """Choose the zoom for an image that is read box by box.

    Parameters
    ----------
    pixels, grey
        The image and its statistics.
    viewer
        Who looks at it.
    axon_px
        Diameter of axons, in pixels, that the network was trained on.
    probe
        How much of the image is looked at.

    Returns
    -------
    ZoomChoice
        Zoom 1 for an image in which no axon is seen at any zoom.
    """
    if grey.is_flat:
        return ZoomChoice(1.0, axon_px=axon_px)
    probe = probe or ProbeSettings()
    shape = pixels.shape
    plan = plan_looks(shape, viewer, probe.budget(shape), probe.closer(shape))
    search = Search(pixels, grey, viewer, plan, axon_px)
    search.climb()
    search.refine()
    search.confirm()
    looks, closer = (
        tuple(found[zoom] for zoom in sorted(found)) for found in (search.looks, search.closer)
    )
    return ZoomChoice(search.chosen(), looks, closer, axon_px)
