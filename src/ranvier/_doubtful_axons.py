"""Axons that are not believed: hardly any myelin surrounds them, the network is not sure, or the sheath is faint.

The last is told from the image: sheaths in one image are of one stuff and differ from their axons by about as much.
The wall of a vessel, the rim of a nucleus or the ground between fibres differs from what it surrounds by less, or is
the brighter of the two where sheaths are the darker. Such a wall is no myelin, and goes with what it surrounds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._axon_counts import FAINT, AxonCounts, Classes, counted, walls, weighted_median
from ranvier.errors import SettingsError
from ranvier.micrograph import AXON, BACKGROUND, MYELIN, Array

__all__ = [
    "MIN_CLOSURE",
    "MIN_CONFIDENCE",
    "MIN_CONTRAST",
    "AxonLimits",
    "LeftOut",
    "checked_limit",
    "without_doubtful_axons",
]

MIN_CLOSURE = 0.3
MIN_CONFIDENCE = 0.6
MIN_CONTRAST = 0.1
"""For networks that are trained here; see docs/results/log.md for what each is worth on cross-validated images."""
_MOST_FAINT = 0.2
"""Where more than this share of the axons would go for their contrast, it tells nothing."""
_WIDEST = 0.55
"""Nor where contrasts spread (median absolute deviation) by more than this share of the median, as in a blurred image:
by 0.6 to 2.3 in one of 25, by 0.5 at most in the others."""


@dataclass(frozen=True)
class AxonLimits:
    """Which axons are believed.

    Attributes
    ----------
    closure
        Least share of myelin in the 4-neighbours outside it that an axon's pixels have, counted once for each pair;
        what lies beyond the image's edge does not count.
    confidence
        Least mean, over an axon's pixels, of the probability that they are axon.
    contrast
        Least difference of the grey of an axon and of the myelin next to it, in shares of the median of the image's
        other axons, each of which counts as much as the network is sure of its pixels in all.
    """

    closure: float
    confidence: float
    contrast: float = 0.0

    @property
    def keep_all(self) -> bool:
        """Whether no axon is ever left out."""
        return self.closure <= 0 and self.confidence <= 0 and self.contrast <= 0

    def judge(self, seen: AxonCounts) -> tuple[Classes, LeftOut]:
        """What axons are: AXON, BACKGROUND or FAINT; how many go for what. One that fills the image is not bare.

        Parameters
        ----------
        seen
            What was counted of them.
        """
        bare = seen.myelin < self.closure * (seen.myelin + seen.background)
        unsure = np.zeros_like(bare)
        if seen.sure is not None:
            unsure = ~bare & (seen.sure < self.confidence * 255 * seen.area)
        faint = self._faint(seen, ~bare & ~unsure & (seen.myelin > 0))
        left_out = LeftOut(self, int(bare.sum()), int(unsure.sum()), int(faint.sum()))
        become = np.select([bare | unsure, faint], [BACKGROUND, FAINT], AXON).astype(np.uint8)
        return become, left_out

    def _faint(self, seen: AxonCounts, some: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of some axons, all of which have myelin next to them, hardly differ from it."""
        none = np.zeros_like(some)
        if self.contrast <= 0 or seen.grey is None or seen.sheath is None or not some.any():
            return none
        contrast = np.zeros(some.shape)
        contrast[some] = seen.grey[some] / seen.area[some] - seen.sheath[some] / seen.myelin[some]
        weight = seen.area if seen.sure is None else seen.sure
        usual = weighted_median(contrast[some], weight[some])
        if weighted_median(np.abs(contrast[some] - usual), weight[some]) > _WIDEST * abs(usual):
            return none
        faint = some & (contrast * np.sign(usual) < self.contrast * abs(usual))
        return faint if faint.sum() <= _MOST_FAINT * some.sum() else none


@dataclass(frozen=True)
class LeftOut:
    """How many axons were taken for background.

    Attributes
    ----------
    limits
        Which ones were.
    bare
        For hardly any myelin around them.
    unsure
        Of the others, for low confidence.
    faint
        Of those left, for a sheath that hardly differs from them.
    """

    limits: AxonLimits
    bare: int = 0
    unsure: int = 0
    faint: int = 0

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user is told."""
        told = (
            (self.bare, "with hardly any myelin", "closure"),
            (self.unsure, "that the model is not sure of", "confidence"),
            (self.faint, "that hardly differ in grey from their sheaths", "contrast"),
        )
        return tuple(
            f"{count} axon(s) {what} left out (--min-{limit} 0 keeps them)"
            for count, what, limit in told
            if count
        )

    @property
    def record(self) -> dict[str, dict[str, float]]:
        """For run.json."""
        return {
            "bare_axons": {"min_closure": self.limits.closure, "left_out": self.bare},
            "unsure_axons": {"min_confidence": self.limits.confidence, "left_out": self.unsure},
            "faint_axons": {"min_contrast": self.limits.contrast, "left_out": self.faint},
        }


def checked_limit(value: float | None, option: str) -> None:
    """Make sure that a limit is a share, or None.

    Parameters
    ----------
    value
        The limit.
    option
        Its name on the command line.

    Raises
    ------
    SettingsError
        It is not.
    """
    if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
        raise SettingsError(
            f"the least {option.removeprefix('--min-')} must be from 0 to 1",
            where=option,
            seen=value,
            fix="0 keeps every axon",
        )


def without_doubtful_axons(
    classes: Classes,
    confidence: Classes | None,
    limits: AxonLimits,
    *,
    pixels: Array | None = None,
) -> tuple[Classes, LeftOut]:
    """Take axons for background: with hardly any myelin, or of which the network is not sure, or with faint sheaths.

    An axon is an 8-connected component of the class. What borders on an axon with a faint sheath, and on none that
    stays, is taken for background, too: 8-connected components of myelin, their 4-neighbours.

    Parameters
    ----------
    classes
        uint8, shape (rows, columns): 0 background, 1 myelin, 2 axon.
    confidence
        uint8, the same shape: probability of the class that was chosen, times 255; None where that is not known, and
        none is left out for it.
    limits
        Which axons go.
    pixels
        Grey levels, the same shape; None where they are not known, and none is left out for its contrast.

    Returns
    -------
    classes
        The same array where nothing goes, otherwise another.
    left_out
        How many axons went.
    """
    none = LeftOut(limits)
    if limits.keep_all:
        return classes, none
    # The model is loaded meanwhile: nothing of this is needed before.
    from ranvier._runs import components, runs_of

    runs = runs_of((classes == AXON).view(np.uint8))
    part, count = components(runs, runs.value == 1, diagonal=True)
    if not count:
        return classes, none
    labels = runs.with_values((part + 1).astype(np.int32)).painted()
    if limits.contrast <= 0:
        pixels = None
    become, left_out = limits.judge(counted(classes, labels, count, confidence, pixels))
    if (become == AXON).all():
        return classes, none
    out = np.where(labels > 0, np.append(np.uint8(BACKGROUND), become)[labels], classes)
    if left_out.faint:
        runs = runs_of((out == MYELIN).view(np.uint8))
        part, count = components(runs, runs.value == 1, diagonal=True)
        labels = runs.with_values((part + 1).astype(np.int32)).painted()
        kept, faint = walls(out, labels, count)
        out[np.append(False, (faint > 0) & (kept == 0))[labels]] = BACKGROUND
        out[out == FAINT] = BACKGROUND
    return out, left_out
