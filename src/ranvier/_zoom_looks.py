"""What a network's answer says of the scale at which it saw an image: closed sheaths, confidence, size of axons."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._axon_counts import contacts, weighted_median
from ranvier.micrograph import AXON

AXON_PX = 33.0
"""Diameter, in pixels, of axons as networks see them in training, where a model does not say its own."""
_SMALLEST_AXON_PX = 12
"""Components of axon of fewer pixels are specks."""
_MOST_OPEN = 0.7
"""An axon counts as enclosed in proportion to how much more than this of its boundary touches myelin."""
_PRIOR_BOUNDARY, _PRIOR_AXONS = 20.0, 2.0
"""Boundary pixels and axons that count as open before anything is seen, so that few say little."""
_CLOSURE, _ENCLOSED, _CONFIDENCE, _SIZE = 0.3, 0.2, 0.5, 0.1
"""Weights of the score; docs/results/zoom.md says on which images they were chosen."""
_WIDER = 4 / 3
"""Networks draw axons best that are so much wider than those of the training; docs/results/zoom.md says how that was
chosen."""
_FLOOR = 0.02
"""Shares below it are as bad as it."""


@dataclass(frozen=True)
class Look:
    """What was seen at one zoom.

    Attributes
    ----------
    zoom
        The image was resampled by this factor.
    axons
        Components (4-connected) of axon, specks left out.
    closure
        Share of their boundary that touches myelin. The edges of what was shown count neither way.
    enclosed
        Mean over axons of how nearly each is enclosed: 0 where at most 70 % of its boundary touches myelin, 1 where
        all does.
    confidence
        Mean over all pixels of the probability of the likeliest class.
    axon_px
        Diameter of axons in pixels as they were shown: half of the area of closed axons is in larger ones. None
        where there is none.
    shown_px
        Pixels that the network was shown for it, padding included.
    """

    zoom: float
    axons: int
    closure: float
    enclosed: float
    confidence: float
    axon_px: float | None
    shown_px: int

    @property
    def covered(self) -> float:
        """About which share of what was shown is axon."""
        return self.axons * math.pi / 4 * (self.axon_px or 0.0) ** 2 / max(self.shown_px, 1)

    def score(self, axon_px: float = AXON_PX) -> float | None:
        """How well the network sees fibres at this zoom; None where it sees no axon.

        ``0.3 ln closure + 0.2 ln enclosed + 0.5 ln (2 confidence - 1) - 0.1 log2(seen / (4/3 trained))^2``, where
        *seen* is the diameter of axons here and *trained* that in training.

        Parameters
        ----------
        axon_px
            Diameter of axons, in pixels, in training.
        """
        if self.axon_px is None:
            return None
        away = math.log2(self.axon_px / (_WIDER * axon_px))
        return (
            _CLOSURE * math.log(max(self.closure, _FLOOR))
            + _ENCLOSED * math.log(max(self.enclosed, _FLOOR))
            + _CONFIDENCE * math.log(max(2 * self.confidence - 1, _FLOOR))
            - _SIZE * away * away
        )


@dataclass(frozen=True, eq=False)
class _Axons:
    """Axons of one window: boundary towards myelin and towards background, and area, in pixels."""

    myelin: NDArray[np.float64]
    background: NDArray[np.float64]
    area: NDArray[np.float64]


def look_of(zoom: float, windows: Sequence[NDArray[np.float32]], *, shown_px: int) -> Look:
    """Measure what a network made of some windows.

    Parameters
    ----------
    zoom
        At which they were shown.
    windows
        Probabilities of the classes, each of shape (classes, rows, columns); at least one.
    shown_px
        Pixels that the network was shown.
    """
    parts = [_axons(window.argmax(axis=0).astype(np.uint8)) for window in windows]
    myelin, background, area = (
        np.concatenate([getattr(part, name) for part in parts])
        for name in ("myelin", "background", "area")
    )
    whole = area >= _SMALLEST_AXON_PX
    myelin, background, area = myelin[whole], background[whole], area[whole]
    closed = myelin / np.maximum(myelin + background, 1)
    enclosed = np.clip((closed - _MOST_OPEN) / (1 - _MOST_OPEN), 0, 1)
    weights = area * closed**2
    sure = math.fsum(float(window.max(axis=0).sum(dtype=np.float64)) for window in windows)
    pixels = sum(window[0].size for window in windows)
    return Look(
        zoom=zoom,
        axons=int(area.size),
        closure=float(myelin.sum() / (myelin.sum() + background.sum() + _PRIOR_BOUNDARY)),
        enclosed=float(enclosed.sum() / (area.size + _PRIOR_AXONS)),
        confidence=sure / pixels,
        axon_px=weighted_median(2 * np.sqrt(area / math.pi), weights)
        if weights.sum() > 0
        else None,
        shown_px=shown_px,
    )


def _axons(classes: NDArray[np.uint8]) -> _Axons:
    from scipy.ndimage import label

    labels, count = label(classes == AXON)
    area = np.bincount(labels.ravel(), minlength=count + 1).astype(np.float64)
    return _Axons(*contacts(classes, labels, count), area[1:])
