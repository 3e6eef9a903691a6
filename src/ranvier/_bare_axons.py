"""Axons that no myelin surrounds: what networks make of nuclei, vessels and fibres without myelin."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import SettingsError
from ranvier.micrograph import AXON, BACKGROUND, MYELIN

__all__ = ["MIN_CLOSURE", "checked_closure", "contacts", "is_bare", "without_bare_axons"]

Classes = NDArray[np.uint8]
Counts = NDArray[np.float64]
MIN_CLOSURE = 0.3
"""For networks that are trained here; see docs/results/log.md for what it is worth on cross-validated images."""


def checked_closure(value: float | None) -> None:
    """Make sure that a least closure is a share, or None.

    Raises
    ------
    SettingsError
        It is not.
    """
    if value is not None and not (math.isfinite(value) and 0 <= value <= 1):
        raise SettingsError(
            "the least closure must be from 0 to 1",
            where="--min-closure",
            seen=value,
            fix="0 keeps every axon",
        )


def without_bare_axons(classes: Classes, least: float) -> tuple[Classes, int]:
    """Take axons that are hardly bordered by myelin for background.

    An axon is an 8-connected component of the class. Its *closure* is the share of myelin in the 4-neighbours outside
    it that its pixels have, counted once for each pair; what lies beyond the image's edge does not count.

    Parameters
    ----------
    classes
        uint8, shape (rows, columns): 0 background, 1 myelin, 2 axon.
    least
        Closure below which an axon goes.

    Returns
    -------
    classes
        The same array where nothing goes, otherwise another.
    count
        How many axons went.
    """
    if least <= 0:
        return classes, 0
    # The model is loaded meanwhile: nothing of this is needed before.
    from ranvier._runs import components, runs_of

    runs = runs_of((classes == AXON).view(np.uint8))
    part, count = components(runs, runs.value == 1, diagonal=True)
    if not count:
        return classes, 0
    labels = runs.with_values((part + 1).astype(np.int32)).painted()
    bare = is_bare(*contacts(classes, labels, count), least)
    if not bare.any():
        return classes, 0
    out = classes.copy()
    out[np.append(False, bare)[labels]] = BACKGROUND
    return out, int(bare.sum())


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


def is_bare(myelin: Counts, background: Counts, least: float) -> NDArray[np.bool_]:
    """Whether each axon has so little myelin around it; one that fills the image has not."""
    bare: NDArray[np.bool_] = myelin < least * (myelin + background)
    return bare
