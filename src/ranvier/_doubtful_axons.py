"""Axons that are not believed: hardly any myelin surrounds them, the network is not sure, or the sheath is faint.

The last is told from the image: sheaths in one image are of one stuff and differ from their axons by about as much.
The wall of a vessel, the rim of a nucleus or the ground between fibres differs from what it surrounds by less, or is
the brighter of the two where sheaths are the darker. Such a wall is no myelin, and goes with what it surrounds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import SettingsError
from ranvier.micrograph import AXON, BACKGROUND, MYELIN, Array

__all__ = [
    "FAINT",
    "MIN_CLOSURE",
    "MIN_CONFIDENCE",
    "MIN_CONTRAST",
    "AxonCounts",
    "AxonLimits",
    "LeftOut",
    "checked_limit",
    "contacts",
    "counted",
    "walls",
    "without_doubtful_axons",
]

Classes = NDArray[np.uint8]
Counts = NDArray[np.float64]
FAINT = 3
"""Class of axons with faint sheaths, until their walls are found; then they are background."""
MIN_CLOSURE = 0.3
MIN_CONFIDENCE = 0.6
MIN_CONTRAST = 0.1
"""For networks that are trained here; see docs/results/log.md for what each is worth on cross-validated images."""
_MOST_FAINT = 0.2
"""Where more than this share of the axons would go for their contrast, it tells nothing."""
_WIDEST = 0.55
"""Nor where contrasts spread (median absolute deviation) by more than this share of the median, as in a blurred image:
by 0.6 to 2.3 in one of 25, by 0.5 at most in the others."""


@dataclass(frozen=True, eq=False)
class AxonCounts:
    """What is counted of axons, one entry for each.

    Attributes
    ----------
    myelin, background
        From :func:`contacts`.
    area
        Pixels.
    sure
        Sum of the confidence (times 255) over them; None where no confidence is known.
    grey, sheath
        Sum of the grey levels of its pixels, and of the myelin pixels next to it, of each as often as it is next to
        one; None where the image is not known. Of integers exact.
    """

    myelin: Counts
    background: Counts
    area: Counts
    sure: Counts | None = None
    grey: Counts | None = None
    sheath: Counts | None = None


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
        return np.select([bare | unsure, faint], [BACKGROUND, FAINT], AXON).astype(
            np.uint8
        ), left_out

    def _faint(self, seen: AxonCounts, some: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which of some axons, all of which have myelin next to them, hardly differ from it."""
        none = np.zeros_like(some)
        if self.contrast <= 0 or seen.grey is None or seen.sheath is None or not some.any():
            return none
        contrast = np.zeros(some.shape)
        contrast[some] = seen.grey[some] / seen.area[some] - seen.sheath[some] / seen.myelin[some]
        weight = seen.area if seen.sure is None else seen.sure
        usual = _median(contrast[some], weight[some])
        if _median(np.abs(contrast[some] - usual), weight[some]) > _WIDEST * abs(usual):
            return none
        faint = some & (contrast * np.sign(usual) < self.contrast * abs(usual))
        return faint if faint.sum() <= _MOST_FAINT * some.sum() else none


def _median(values: Counts, weights: Counts) -> float:
    """The least value with half of the weight at or below it; the same in whatever order they come."""
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])  # of whole numbers: exact
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])


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
        notes = []
        if self.bare:
            what = "with hardly any myelin left out (--min-closure 0 keeps them)"
            notes.append(f"{self.bare} axon(s) {what}")
        if self.unsure:
            what = "that the model is not sure of left out (--min-confidence 0 keeps them)"
            notes.append(f"{self.unsure} axon(s) {what}")
        if self.faint:
            what = "that hardly differ in grey from their sheaths left out (--min-contrast 0 keeps them)"
            notes.append(f"{self.faint} axon(s) {what}")
        return tuple(notes)

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


def counted(
    classes: Classes,
    labels: NDArray[np.int32],
    count: int,
    confidence: Classes | None,
    pixels: Array | None,
    *,
    above: int = 0,
    below: int = 0,
) -> AxonCounts:
    """Count what tells whether axons are to be believed.

    Parameters
    ----------
    classes
        uint8, shape (rows, columns).
    labels
        Of axons, from 1; shape (rows - above - below, columns).
    count
        How many there are.
    confidence
        uint8, as ``labels``; None where it is not known.
    pixels
        Grey levels, as ``classes``; None where they are not known.
    above, below
        Rows of ``classes`` before and after those of ``labels``; 0 or 1.
    """
    at = np.flatnonzero(labels)
    ids = labels.ravel()[at] - 1

    def total(values: Array) -> Counts:
        weights = values.ravel()[at].astype(np.float64)
        return np.bincount(ids, weights, minlength=count).astype(np.float64)

    found, sheath = _around(
        classes, labels, count, (AXON, MYELIN, BACKGROUND), pixels=pixels, above=above, below=below
    )
    return AxonCounts(
        *found,
        np.bincount(ids, minlength=count).astype(np.float64),
        None if confidence is None else total(confidence),
        None if pixels is None else total(_inner(pixels, above, below)),
        None if pixels is None else sheath,
    )


def contacts(
    classes: Classes, labels: NDArray[np.int32], count: int, *, above: int = 0, below: int = 0
) -> tuple[Counts, Counts]:
    """How many pairs of 4-neighbours each axon has with myelin, and with background.

    Parameters
    ----------
    classes, labels, count, above, below
        As for :func:`counted`.
    """
    values = (AXON, MYELIN, BACKGROUND)
    myelin, background = _around(classes, labels, count, values, above=above, below=below)[0]
    return myelin, background


def walls(
    classes: Classes, labels: NDArray[np.int32], count: int, *, above: int = 0, below: int = 0
) -> tuple[Counts, Counts]:
    """How many pairs of 4-neighbours each piece of myelin has with axons that stay, and with FAINT ones.

    Parameters
    ----------
    classes, labels, count, above, below
        As for :func:`counted`, but the labels are of myelin.
    """
    values = (MYELIN, AXON, FAINT)
    kept, faint = _around(classes, labels, count, values, above=above, below=below)[0]
    return kept, faint


def _around(
    classes: Classes,
    labels: NDArray[np.int32],
    count: int,
    values: tuple[int, int, int],
    *,
    pixels: Array | None = None,
    above: int,
    below: int,
) -> tuple[tuple[Counts, Counts], Counts]:
    """Pairs of 4-neighbours, the first of one class and labelled, with each of two; grey levels of those of one.

    ``values`` are the class of the first, and the two; grey levels are summed over those of the first of these.
    """
    found, grey = (np.zeros(count), np.zeros(count)), np.zeros(count)
    own = _inner(classes, above, below) == values[0]
    levels = repeat(None) if pixels is None else _neighbours(pixels, above, below)
    for (here, there), level in zip(_neighbours(classes, above, below), levels, strict=False):
        inside, ids = own[here], labels[here].ravel()
        for index, value in enumerate(values[1:]):
            at = np.flatnonzero(inside & (there == value))
            who = ids[at] - 1
            found[index][:] += np.bincount(who, minlength=count)
            if index == 0 and level is not None:
                seen = level[1].ravel()[at].astype(np.float64)
                grey += np.bincount(who, seen, minlength=count)
    return found, grey


def _inner(plane: Array, above: int, below: int) -> Array:
    return plane[above : plane.shape[0] - below]


def _neighbours(
    plane: Array, above: int, below: int
) -> Iterator[tuple[tuple[slice, slice], Array]]:
    """Places in the inner rows, and the values of their neighbours on each side."""
    inner, everything = _inner(plane, above, below), slice(None)
    rows = inner.shape[0]
    yield (everything, slice(None, -1)), inner[:, 1:]
    yield (everything, slice(1, None)), inner[:, :-1]
    yield (slice(1 - above, None), everything), plane[: rows - 1 + above]
    yield (slice(None, rows - 1 + below), everything), plane[1 + above :]
