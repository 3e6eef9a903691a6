"""Axons that are not believed: no myelin surrounds them (nuclei, vessels), or the network is not sure of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import SettingsError
from ranvier.micrograph import AXON, BACKGROUND, MYELIN

__all__ = [
    "MIN_CLOSURE",
    "MIN_CONFIDENCE",
    "AxonLimits",
    "LeftOut",
    "checked_limit",
    "contacts",
    "sureness",
    "without_doubtful_axons",
]

Classes = NDArray[np.uint8]
Counts = NDArray[np.float64]
MIN_CLOSURE = 0.3
MIN_CONFIDENCE = 0.55
"""For networks that are trained here; see docs/results/log.md for what each is worth on cross-validated images."""


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
    """

    closure: float
    confidence: float

    @property
    def keep_all(self) -> bool:
        """Whether no axon is ever left out."""
        return self.closure <= 0 and self.confidence <= 0

    def judge(
        self, myelin: Counts, background: Counts, sure: tuple[Counts, Counts] | None
    ) -> tuple[NDArray[np.bool_], LeftOut]:
        """Which axons go, and how many for what. One that fills the image is not bare.

        Parameters
        ----------
        myelin, background
            Of each axon, from :func:`contacts`.
        sure
            Of each axon, from :func:`sureness`; None where no confidence is known.
        """
        bare = myelin < self.closure * (myelin + background)
        unsure = np.zeros_like(bare)
        if sure is not None:
            total, area = sure
            unsure = total < self.confidence * 255 * area
        return bare | unsure, LeftOut(self, int(bare.sum()), int((unsure & ~bare).sum()))


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
    """

    limits: AxonLimits
    bare: int = 0
    unsure: int = 0

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
        return tuple(notes)

    @property
    def record(self) -> dict[str, dict[str, float]]:
        """For run.json."""
        return {
            "bare_axons": {"min_closure": self.limits.closure, "left_out": self.bare},
            "unsure_axons": {"min_confidence": self.limits.confidence, "left_out": self.unsure},
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
    classes: Classes, confidence: Classes | None, limits: AxonLimits
) -> tuple[Classes, LeftOut]:
    """Take axons for background that are hardly bordered by myelin, or that the network is not sure of.

    An axon is an 8-connected component of the class.

    Parameters
    ----------
    classes
        uint8, shape (rows, columns): 0 background, 1 myelin, 2 axon.
    confidence
        uint8, the same shape: probability of the class that was chosen, times 255; None where that is not known, and
        none is left out for it.
    limits
        Which axons go.

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
    sure = None if confidence is None else sureness(confidence, labels, count)
    gone, left_out = limits.judge(*contacts(classes, labels, count), sure)
    if not gone.any():
        return classes, none
    out = classes.copy()
    out[np.append(False, gone)[labels]] = BACKGROUND
    return out, left_out


def sureness(confidence: Classes, labels: NDArray[np.int32], count: int) -> tuple[Counts, Counts]:
    """Sum of the confidence (times 255) of each axon's pixels, and how many there are.

    Parameters
    ----------
    confidence
        uint8, shape (rows, columns).
    labels
        Of axons, from 1; the same shape.
    count
        How many there are.
    """
    at = np.flatnonzero(labels)
    ids = labels.ravel()[at] - 1
    area = np.bincount(ids, minlength=count).astype(np.float64)
    sure = np.bincount(ids, confidence.ravel()[at].astype(np.float64), minlength=count)
    return sure.astype(np.float64), area


def contacts(
    classes: Classes, labels: NDArray[np.int32], count: int, *, above: int = 0, below: int = 0
) -> tuple[Counts, Counts]:
    """How many pairs of 4-neighbours each axon has with myelin, and with background.

    Parameters
    ----------
    classes
        uint8, shape (rows, columns).
    labels
        Of axons, from 1; shape (rows - above - below, columns).
    count
        How many there are.
    above, below
        Rows of ``classes`` before and after those of ``labels``; 0 or 1.
    """
    found = {MYELIN: np.zeros(count), BACKGROUND: np.zeros(count)}
    inner = classes[above : classes.shape[0] - below]
    axon = inner == AXON
    for here, there in _neighbours(classes, inner, above=above, below=below):
        inside, ids = axon[here], labels[here]
        for value in found:
            at = np.flatnonzero(inside & (there == value))
            found[value] += np.bincount(ids.ravel()[at] - 1, minlength=count)
    return found[MYELIN], found[BACKGROUND]


def _neighbours(
    classes: Classes, inner: Classes, *, above: int, below: int
) -> Iterator[tuple[tuple[slice, slice], Classes]]:
    """Places in the inner rows, and the classes of their neighbours on each side."""
    rows, everything = inner.shape[0], slice(None)
    yield (everything, slice(None, -1)), inner[:, 1:]
    yield (everything, slice(1, None)), inner[:, :-1]
    yield (slice(1 - above, None), everything), classes[: rows - 1 + above]
    yield (slice(None, rows - 1 + below), everything), classes[1 + above :]
