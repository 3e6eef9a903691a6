"""The zoom at which a network sees fibres as it was trained to, chosen by what it makes of an image.

The network is shown an image at zooms a factor of two apart: whole where that is cheap, else a few windows where there
is structure. At the right zoom axons are enclosed by myelin, the network is sure, and axons are as wide as in training;
each zoom is scored by that (:meth:`ranvier._zoom_looks.Look.score`). From the smallest zoom on, until the score falls
clearly; then half a step to both sides of the best, and the top of a parabola through the scores, in steps of a quarter
of an octave. Nobody tells the pixel size, and a wrong one does no harm.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._zoom_looks import AXON_PX, Look
from ranvier._zoom_view import Viewer
from ranvier._zoom_windows import SIZES, HeldPixels, Pixels, Place, places, windows
from ranvier.backends import Backend
from ranvier.bundle import NORMALISATION, Field, Normalisation
from ranvier.errors import SettingsError
from ranvier.micrograph import Array
from ranvier.preprocess import ZOOM_RANGE, GreyStatistics, statistics
from ranvier.tilewise import InferenceSettings
from ranvier.tiling import Box

__all__ = [
    "ProbeSettings",
    "Viewer",
    "ZoomChoice",
    "choose_zoom",
    "choose_zoom_of",
    "trained_axon_px",
]

_ZOOMS = tuple(2.0**k for k in range(-4, 3))
_LEAST_EDGE_PX = 64
"""The image's longer edge at the smallest zoom that is tried."""
_FALL = 0.5
"""Larger zooms are not tried once the score is so much below the best."""
_IN_FAVOUR_OF_1 = {"smaller": 0.02, "larger": 0.1}
"""By how much a smaller or larger zoom must score better than zoom 1; the larger take longer."""
_HOPELESS = -1.5
"""Where no score is better, none says anything, and the image stays as it is."""
_STEPS_PER_OCTAVE = 4
_OF_WHOLE = 0.15
"""Of the budget: the whole image is looked at where that takes no more."""
_CONVINCING = -0.75
"""Scores from here on are of a network that sees what it knows: of 25 cross-validated images, the lowest was -0.57."""


@dataclass(frozen=True)
class ProbeSettings:
    """How much of an image is looked at.

    Attributes
    ----------
    share
        Pixels that the network is shown, padding included, are at most this share of the image's own ...
    least_px, most_px
        ... but not fewer than the one, for small images, nor more than the other, however large the image is.

    Raises
    ------
    SettingsError
        A number is not positive, or ``least_px`` is above ``most_px``.
    """

    share: float = 0.6
    least_px: int = 400_000
    most_px: int = 2_000_000

    def __post_init__(self) -> None:
        good = math.isfinite(self.share) and self.share > 0 and 0 < self.least_px <= self.most_px
        if not good:
            raise SettingsError("a look at an image needs a positive number of pixels", seen=self)

    def budget(self, shape: tuple[int, int]) -> int:
        """How many pixels may be shown of an image of this shape."""
        return int(min(max(self.share * shape[0] * shape[1], self.least_px), self.most_px))


@dataclass(frozen=True)
class ZoomChoice:
    """A zoom, and why that one.

    Attributes
    ----------
    zoom
        What the image is to be resampled by.
    looks
        What was seen at each zoom that was tried, the smallest first.
    axon_px
        Diameter of axons, in pixels, that the model was trained on.
    """

    zoom: float
    looks: tuple[Look, ...] = ()
    axon_px: float = AXON_PX

    @property
    def shown_px(self) -> int:
        """Pixels that the network was shown in all."""
        return sum(look.shown_px for look in self.looks)

    @property
    def best_score(self) -> float | None:
        """The highest score of any zoom, low where the image is unlike those of the training; None: no axon seen."""
        scores = [s for look in self.looks if (s := look.score(self.axon_px)) is not None]
        return max(scores, default=None)

    @property
    def is_unlike(self) -> bool:
        """Whether the image is unlike those of the training: at no zoom did the network see what it knows."""
        best = self.best_score
        return best is None or best < _CONVINCING

    def as_dict(self) -> dict[str, Any]:
        """For run.json."""
        return {
            "asked": "auto",
            "chosen": self.zoom,
            "best_score": _short(self.best_score),
            "unlike_training": self.is_unlike,
            "trained_axon_px": self.axon_px,
            "shown_px": self.shown_px,
            "candidates": [
                {name: _short(value) for name, value in asdict(look).items()}
                | {"score": _short(look.score(self.axon_px))}
                for look in self.looks
            ],
        }


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
    plan = _plan(pixels.shape, viewer, (probe or ProbeSettings()).budget(pixels.shape))
    search = _Search(pixels, grey, viewer, plan, axon_px)
    search.climb()
    search.refine()
    looks = tuple(search.looks[zoom] for zoom in sorted(search.looks))
    return ZoomChoice(search.chosen(), looks, axon_px)


@dataclass(frozen=True)
class _Plan:
    """Which zooms are tried, which of them on the whole image, and edge and number of windows at the others."""

    zooms: tuple[float, ...]
    whole: frozenset[float]
    edge: int
    count: int
    budget: int


def _plan(shape: tuple[int, int], viewer: Viewer, budget: int) -> _Plan:
    """The best windows that the budget allows at every zoom and half a step to both sides of one."""
    area = shape[0] * shape[1]
    most = viewer.settings.max_zoomed_px
    zooms = tuple(
        z for z in _ZOOMS if z == 1 or (max(shape) * z >= _LEAST_EDGE_PX and area * z * z <= most)
    )
    box = Box(0, 0, *shape)
    for edge, count in SIZES:
        limit = max(1.1 * edge * edge * count, budget * _OF_WHOLE)
        whole = frozenset(z for z in zooms if area * z * z <= limit)
        window = viewer.cost(Box(0, 0, edge, edge), 1.0) * count
        cost = sum(viewer.cost(box, z) if z in whole else window for z in zooms) + 2 * window
        if cost <= budget:
            break
    return _Plan(zooms, whole, edge, count, budget)


@dataclass(eq=False)
class _Search:
    """Looks as they are taken."""

    pixels: Pixels
    grey: GreyStatistics
    viewer: Viewer
    plan: _Plan
    axon_px: float

    def __post_init__(self) -> None:
        self.looks: dict[float, Look] = {}
        self._places: list[Place] = []

    def climb(self) -> None:
        """From the smallest zoom on, until the score is well below the best, or nothing more may be shown."""
        seen = self._look_at_whole()
        self._places = places(self.pixels, self.plan.count, seen)
        best = -math.inf
        for zoom in self.plan.zooms:
            if zoom not in self.looks and not self._look(zoom):
                break
            score = self._score(zoom)
            if score is not None:
                best = max(best, score)
                if best > _CONVINCING and best - score > _FALL:
                    break

    def _look_at_whole(self) -> NDArray[np.float32] | None:
        """Look where the whole image is cheap; where fibres are, by the best of these looks."""
        seen, best = None, -math.inf
        whole = (Box(0, 0, *self.pixels.shape),)
        for zoom in self.plan.zooms:
            if zoom not in self.plan.whole or not self._may(whole, zoom):
                continue
            look, fibre = self.viewer.look(self.pixels, self.grey, whole, zoom)
            self.looks[zoom] = look
            worth = look.closure + look.enclosed + look.confidence
            if look.axons and worth > best:
                seen, best = (fibre > 0.5).astype(np.float32), worth
        return seen

    def _may(self, boxes: Sequence[Box], zoom: float) -> bool:
        shown = sum(look.shown_px for look in self.looks.values())
        return shown + sum(self.viewer.cost(box, zoom) for box in boxes) <= self.plan.budget

    def _look(self, zoom: float) -> bool:
        """Look at the windows of a zoom, unless that is more than may be shown."""
        boxes = windows(self.pixels.shape, self._places, zoom, self.plan.edge)
        if not self._may(boxes, zoom):
            return False
        self.looks[zoom], _ = self.viewer.look(self.pixels, self.grey, boxes, zoom)
        return True

    def _score(self, zoom: float) -> float | None:
        return self.looks[zoom].score(self.axon_px)

    def _scored(self) -> dict[float, float]:
        """Log2 of each zoom at which there are axons, and its score."""
        found = {math.log2(z): s for z in sorted(self.looks) if (s := self._score(z)) is not None}
        return found

    def refine(self) -> None:
        """Half a step to both sides of the best zoom."""
        scores = self._scored()
        if not scores:
            return
        best = max(scores, key=lambda octave: scores[octave])
        area = self.pixels.shape[0] * self.pixels.shape[1]
        for octave in (best - 0.5, best + 0.5):
            zoom = 2.0**octave
            if ZOOM_RANGE[0] <= zoom and area * zoom**2 <= self.viewer.settings.max_zoomed_px:
                self._look(zoom)

    def chosen(self) -> float:
        """The zoom at the top of a parabola through the best score and its neighbours; 1 where that is as good."""
        scores = self._scored()
        if not scores:
            return 1.0
        best = max(scores, key=lambda octave: scores[octave])
        if scores[best] < _HOPELESS:
            return 1.0
        margin = _IN_FAVOUR_OF_1["larger" if best > 0 else "smaller"]
        if 0.0 in scores and scores[0.0] > scores[best] - margin:
            return 1.0
        steps = round(_top(scores, best) * _STEPS_PER_OCTAVE)
        return 1.0 if abs(steps) <= 1 else 2.0 ** (steps / _STEPS_PER_OCTAVE)


def _top(scores: Mapping[float, float], best: float) -> float:
    """Where a parabola through the scores within an octave of the best is highest, at most half an octave away."""
    near = [octave for octave in scores if abs(octave - best) <= 1]
    if len(near) < 3:
        return best
    bend, slope, _ = np.polyfit([o - best for o in near], [scores[o] for o in near], 2)
    if bend > -1e-3:
        return best
    low, high = max(-0.5, min(near) - best), min(0.5, max(near) - best)
    return best + float(np.clip(-slope / (2 * bend), low, high))
