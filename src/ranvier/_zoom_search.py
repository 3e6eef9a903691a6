"""The search for the zoom at which a network sees fibres best: which zooms are looked at, and how closely."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._zoom_looks import Look
from ranvier._zoom_view import Viewer
from ranvier._zoom_windows import SIZES, Pixels, Place, places, windows
from ranvier.preprocess import ZOOM_RANGE, GreyStatistics
from ranvier.tiling import Box

_ZOOMS = tuple(2.0**k for k in range(-4, 3))
_LEAST_EDGE_PX = 64
"""The image's longer edge at the smallest zoom that is tried."""
_FALL = 0.5
"""Larger zooms are not tried once the score is so much below the best."""
_IN_FAVOUR_OF_1 = {"smaller": 0.02, "larger": 0.05}
"""By how much a smaller or larger zoom must score better than zoom 1; the larger take longer."""
_HOPELESS = -1.5
"""Where no score is better, none says anything, and the image stays as it is."""
_SPARSE = 0.04
"""Where a score does not convince either, axons on less of what was shown (of noise, 1 to 3 %) say nothing: the image
stays as it is."""
_AWAY = 0.04
"""An image is likely to be near the resolution that suits it: what each squared octave away from it counts."""
_STEPS_PER_OCTAVE = 4
_IN_DOUBT = 1.25
"""So much of the budget closer looks may show where an image would stay as it is, and few axons say otherwise."""
_NEAR = 0.75
"""Octaves."""
_FEW_AXONS = 50
"""So few at the best zoom say little."""
_MOST_WINDOWS = 80
_OF_WHOLE = 0.15
"""Of the budget: the whole image is looked at where that takes no more."""
_SPECKS = 0.1
"""The share that axons cover is the same at every zoom that shows them: so much less of it is specks."""
CONVINCING = -0.75
"""Scores from here on are of a network that sees what it knows: of 25 cross-validated images, the lowest was -0.58."""


@dataclass(frozen=True)
class Plan:
    """Which zooms are tried, which of them on the whole image, and edge and number of windows at the others.

    Of ``budget`` pixels that may be shown, and ``closer`` more, at most, before an image's own resolution is left.
    """

    zooms: tuple[float, ...]
    whole: frozenset[float]
    edge: int
    count: int
    budget: int
    closer: int


def plan_looks(shape: tuple[int, int], viewer: Viewer, budget: int, closer: int) -> Plan:
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
    return Plan(zooms, whole, edge, count, budget, closer)


@dataclass(eq=False)
class Search:
    """Looks as they are taken."""

    pixels: Pixels
    grey: GreyStatistics
    viewer: Viewer
    plan: Plan
    axon_px: float

    def __post_init__(self) -> None:
        self.looks: dict[float, Look] = {}
        self.closer: dict[float, Look] = {}
        self._places: list[Place] = []
        self._seen: NDArray[np.float32] | None = None

    def climb(self) -> None:
        """From the smallest zoom on, until the score is well below the best, or nothing more may be shown."""
        self._seen = self._look_at_whole()
        self._places = places(self.pixels, self.plan.count, self._seen)
        best = -math.inf
        for zoom in self.plan.zooms:
            if zoom not in self.looks and not self._look(zoom):
                break
            score = self._score(zoom)
            if score is not None:
                best = max(best, score)
                if best > CONVINCING and best - score > _FALL:
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
        """Log2 of each zoom at which there are axons, and its score, by the closer looks where there are.

        Zooms at which axons cover hardly anything of what they cover at the zoom with the best score are left out.
        """
        scores, covered = {}, {}
        for zoom, look in sorted((self.closer or self.looks).items()):
            score = look.score(self.axon_px)
            if score is not None:
                scores[math.log2(zoom)], covered[math.log2(zoom)] = score, look.covered
        if not scores:
            return {}
        least = _SPECKS * covered[max(scores, key=lambda octave: scores[octave])]
        return {octave: score for octave, score in scores.items() if covered[octave] >= least}

    def _covered(self, octave: float) -> float:
        """Share of what was shown that is axon at the zoom of an octave."""
        looks = (self.closer or self.looks).values()
        return min(looks, key=lambda look: abs(math.log2(look.zoom) - octave)).covered

    def refine(self) -> None:
        """Half a step to both sides of the best zoom."""
        scores = self._scored()
        if not scores:
            return
        best = _likeliest(scores)
        area = self.pixels.shape[0] * self.pixels.shape[1]
        for octave in (best - 0.5, best + 0.5):
            zoom = 2.0**octave
            if ZOOM_RANGE[0] <= zoom and area * zoom**2 <= self.viewer.settings.max_zoomed_px:
                self._look(zoom)

    def confirm(self) -> None:
        """Look closer, at more places, before the image's own resolution is left; a few windows can mislead.

        Also before it is kept, where few axons say that another zoom is better, if not by as much as that takes.
        """
        scores = self._scored()
        if not scores:
            return
        stays = self.chosen() == 1
        if stays and not self._in_doubt(scores):
            return
        best = _likeliest(scores)
        zooms = sorted({1.0} | {z for z in self.looks if abs(math.log2(z) - best) <= _NEAR})
        closer = self.plan.closer
        if stays:
            closer = min(closer, int(self.plan.budget * _IN_DOUBT))
        share = closer // len(zooms)
        self.closer = {zoom: self._closer(zoom, share) for zoom in zooms}

    def _in_doubt(self, scores: Mapping[float, float]) -> bool:
        """Whether few axons say that another zoom is better by half of what it takes to leave the image's own."""
        best = _likeliest(scores)
        seen = max((k.axons for z, k in self.looks.items() if math.log2(z) == best), default=0)
        better = scores[best] - scores.get(0.0, -math.inf)
        return best != 0 and seen < _FEW_AXONS and better >= _margin(best) / 2

    def _closer(self, zoom: float, share: int) -> Look:
        """The whole image, or as many windows as may be shown; what was seen before, where that was the whole."""
        if zoom in self.plan.whole and zoom in self.looks:
            return self.looks[zoom]
        boxes: tuple[Box, ...] = (Box(0, 0, *self.pixels.shape),)
        if self.viewer.cost(boxes[0], zoom) > share:
            each = self.viewer.cost(Box(0, 0, self.plan.edge, self.plan.edge), 1.0)
            count = min(_MOST_WINDOWS, max(self.plan.count, share // each))
            more = places(self.pixels, count, self._seen)
            boxes = windows(self.pixels.shape, more, zoom, self.plan.edge)
        return self.viewer.look(self.pixels, self.grey, boxes, zoom)[0]

    def chosen(self) -> float:
        """The zoom at the top of a parabola through the best score and its neighbours; 1 where that is as good."""
        scores = self._scored()
        if not scores:
            return 1.0
        best = _likeliest(scores)
        least = CONVINCING if self._covered(best) < _SPARSE else _HOPELESS
        if scores[best] < least:
            return 1.0
        if scores.get(0.0, -math.inf) > scores[best] - _margin(best):
            return 1.0
        steps = round(_top(scores, best) * _STEPS_PER_OCTAVE)
        return 1.0 if abs(steps) <= 1 else 2.0 ** (steps / _STEPS_PER_OCTAVE)


def _margin(octave: float) -> float:
    """By how much a zoom must score better than zoom 1 to be taken."""
    return _IN_FAVOUR_OF_1["larger" if octave > 0 else "smaller"] + _AWAY * octave**2


def _likeliest(scores: Mapping[float, float]) -> float:
    """The octave with the best score, less what its distance from the image's own resolution counts."""
    return max(scores, key=lambda octave: scores[octave] - _AWAY * octave**2)


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
