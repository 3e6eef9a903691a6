"""What is counted of axons and of pieces of myelin: neighbours, grey levels, how sure a network is of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import repeat

import numpy as np
from numpy.typing import NDArray

from ranvier.micrograph import AXON, BACKGROUND, MYELIN, Array

__all__ = ["FAINT", "AxonCounts", "Classes", "contacts", "counted", "walls", "weighted_median"]

Classes = NDArray[np.uint8]
Counts = NDArray[np.float64]
FAINT = 3
"""Class of axons with faint sheaths, until their walls are found; then they are background."""


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


def weighted_median(values: Counts, weights: Counts) -> float:
    """The least value with half of the weight at or below it.

    Parameters
    ----------
    values
        At least one.
    weights
        Not negative. Where they are whole numbers, the order of the values makes no difference, to the last bit.
    """
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(reached, reached[-1] / 2)])
