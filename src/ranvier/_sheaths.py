"""Whose myelin is it? Myelin shared out among axons by the geometry of their sheaths.

A sheath is a band of nearly even thickness around its axon. Let d_i(p) be the distance of a pixel p
from axon i, and t_i the thickness of i's sheath, which is measured where its outer border is free. Then
d_i / t_i runs from 0 on the axon's membrane to 1 on the outer membrane, and p goes to the axon for which

    d_i(p) / t_i

is least: a multiplicatively weighted Voronoi diagram [1]_ of the axons. Where two outer membranes cross, both
quotients are 1, so that the border between two fibres passes through the crossings; where two sheaths are
pressed together, each gives way in proportion to its thickness. Between sheaths of equal thickness the border is
half way between the axons. Myelin beyond every outer membrane goes to the nearest of them (least d_i - t_i).

References
----------
.. [1] Aurenhammer F., Edelsbrunner H. (1984). An optimal algorithm for constructing the weighted Voronoi
   diagram in the plane. Pattern Recognition 17, 251-257.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranvier._nearest import FARTHEST, Holding, inside_of, nearest
from ranvier._runs import components, runs_of, spread, with_holes
from ranvier.micrograph import Array

_BAND = 512
_FEW_FREE = 8
_FREE_SHARE = 0.1
_QUANTILES = (0.25, 0.5)
"""Of the distances along a sheath's free border, in two rounds. At first some of a thin sheath's samples lie on the
border of a thick one beside it, and are too large."""
_THINNEST = 0.5
"""Thickness, in pixels, of the sheath of an axon that lies bare."""
_PAIRS = 1 << 17
_EIGHT = tuple((r, c) for r in (-1, 0, 1) for c in (-1, 0, 1) if (r, c) != (0, 0))
_HALF = ((0, 1), (1, 0))


def share(
    axons: NDArray[np.int32],
    myelin: NDArray[np.bool_],
    *,
    max_gap: float,
    largest_hole: float | None,
) -> NDArray[np.int32]:
    """Give each pixel of myelin to an axon.

    Parameters
    ----------
    axons
        Labels 1 to n, shape (rows, columns).
    myelin
        The same shape; False inside axons.
    max_gap
        Background this near to an axon (pixels) is no obstacle between it and its myelin.
    largest_hole
        Background that one fibre encloses is part of it, up to this many pixels; None for any
        size, 0 for none.

    Returns
    -------
    ndarray of int32
        Labels of fibres: every axon with its own myelin, connected to it. 0 elsewhere, and where
        myelin leads to no axon.
    """
    state = nearest(axons, myelin, max_gap)
    if largest_hole != 0:
        _fill_gaps(state, largest_hole)
    for number, quantile in enumerate(_QUANTILES):
        sheath = _thickness(state, quantile)
        # At first each pixel is held by the nearest axon: only one with a thicker sheath can take it over.
        _settle(state, sheath, only_thicker=number == 0)
    _attach(state, sheath)
    state.owner[~state.tissue] = 0
    if largest_hole == 0:
        return state.owner
    runs = runs_of(state.owner)
    filled = with_holes(runs, largest=largest_hole)
    new = np.flatnonzero(filled.value != runs.value)
    many = runs.length[new]
    state.owner.ravel()[spread(runs.start[new], many)] = np.repeat(filled.value[new], many)
    return state.owner


def _fill_gaps(state: Holding, largest: float | None) -> None:
    """Make background that one fibre alone encloses, such as a gap inside its sheath, part of the tissue."""
    owner = state.owner.ravel()
    passage = np.flatnonzero((state.owner > 0) & ~state.tissue)
    held = owner[passage]
    owner[passage] = 0
    runs = runs_of(state.owner)
    filled = with_holes(runs, largest=largest)
    owner[passage] = held
    new = np.flatnonzero(filled.value != runs.value)
    gap = spread(runs.start[new], runs.length[new])
    state.tissue.ravel()[gap] = True
    row, col = np.divmod(gap, state.shape[1])
    row += state.down.ravel()[gap]
    col += state.right.ravel()[gap]
    owner[gap] = state.axons[row, col]


def _thickness(state: Holding, quantile: float) -> NDArray[np.float64]:
    """Thickness of each axon's sheath: a quantile, along its free border, of the distance to the axon.

    Where too little of the border is free, borders with other fibres count as well. An axon that
    lies bare for most of its outline has next to no sheath.
    """
    free: list[NDArray[np.int64]] = []
    contact: list[NDArray[np.int64]] = []
    rows = state.shape[0]
    for top in range(0, rows, _BAND):
        low, high = max(0, top - 1), min(rows, top + _BAND + 1)
        inner = slice(top - low, min(rows, top + _BAND) - low)
        body, owner = state.tissue[low:high], state.owner[low:high]
        held = body & (owner > 0)
        at_border = held & ~inside_of(body)
        at_contact = held & ~at_border & _beside_another(owner, body)
        for mask, samples in ((at_border, free), (at_contact, contact)):
            mask[: inner.start] = False
            mask[inner.stop :] = False
            row, col = np.divmod(np.flatnonzero(mask), mask.shape[1])
            row += low
            down, right = (a[row, col].astype(np.int64) for a in (state.down, state.right))
            samples.append((state.owner[row, col].astype(np.int64) << 32) | (down**2 + right**2))
    alone, both = np.concatenate(free), np.concatenate(free + contact)
    count = int(state.axons.max())
    from_free, n_free = _quantiles(alone, count, quantile)
    from_both, n_both = _quantiles(both, count, quantile)
    enough = (n_free >= _FEW_FREE) & (n_free >= _FREE_SHARE * n_both)
    return np.maximum(np.sqrt(np.where(enough, from_free, from_both)), _THINNEST)


def _beside_another(owner: NDArray[np.int32], body: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Pixels with a 4-neighbour of tissue that another axon holds."""
    beside = np.zeros(owner.shape, dtype=bool)
    for one, other in (
        (np.s_[:-1], np.s_[1:]),
        (np.s_[:, :-1], np.s_[:, 1:]),
    ):
        differ = (owner[one] != owner[other]) & body[one] & body[other]
        differ &= (owner[one] > 0) & (owner[other] > 0)
        beside[one] |= differ
        beside[other] |= differ
    return beside


def _quantiles(
    keys: NDArray[np.int64], count: int, quantile: float
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """A quantile of the low 32 bits, and number, of the keys of each label (their high bits)."""
    keys = np.sort(keys)
    many = np.bincount(keys >> 32, minlength=count + 1)
    first = np.cumsum(many) - many
    middle = np.zeros(count + 1)
    some = many > 0
    nth = ((many - 1) * quantile).astype(np.int64)
    middle[some] = keys[(first + nth)[some]] & 0xFFFFFFFF
    return middle, many


def _settle(state: Holding, sheath: NDArray[np.float64], *, only_thicker: bool) -> None:
    """Let every axon take over the pixels for which its distance in sheaths is least, border by border."""
    taker, giver = _fronts(state)
    if only_thicker:
        owner = state.owner.ravel()
        thicker = sheath[owner[giver]] > sheath[owner[taker]]
        taker, giver = taker[thicker], giver[thicker]
    while taker.size:
        giver, taker = _neighbours(state, _take(state, taker, giver, sheath=sheath))
        other = (state.owner.ravel()[taker] > 0) & (state.axons.ravel()[taker] == 0)
        taker, giver = taker[other], giver[other]


def _fronts(state: Holding) -> tuple[Array, Array]:
    """Pairs of neighbouring pixels of two axons: first the one that may be taken, by the axon of the other."""
    takers, givers = [], []
    rows, width = state.shape
    owner, axons = state.owner, state.axons.ravel()
    for top in range(0, rows, _BAND):
        bottom = min(rows, top + _BAND)
        for down, right in _HALF:
            one = owner[top : min(bottom, rows - down), : width - right]
            other = owner[top + down : bottom + down, right:]
            differ = (one != other) & (one > 0) & (other > 0)
            row, col = np.divmod(np.flatnonzero(differ), differ.shape[1])
            here = (row + top) * width + col
            there = here + down * width + right
            for taker, giver in ((here, there), (there, here)):
                loose = np.flatnonzero(axons[taker] == 0)
                takers.append(taker[loose])
                givers.append(giver[loose])
    return np.concatenate(takers), np.concatenate(givers)


def _take(
    state: Holding, taker: Array, giver: Array, *, sheath: NDArray[np.float64]
) -> NDArray[np.int64]:
    """Give pixels to the axon of a neighbour where that lowers their distance in sheaths; which ones changed."""
    parts = [
        _gains(state, taker[i : i + _PAIRS], giver[i : i + _PAIRS], sheath)
        for i in range(0, taker.size, _PAIRS)
    ]
    taker, new, cost, to_row, to_col = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.lexsort((new, cost, taker))
    order = order[np.flatnonzero(np.diff(taker[order], prepend=-1))]
    pixel: NDArray[np.int64] = taker[order]
    state.owner.ravel()[pixel] = new[order]
    state.down.ravel()[pixel] = to_row[order]
    state.right.ravel()[pixel] = to_col[order]
    return pixel


def _gains(
    state: Holding, taker: Array, giver: Array, sheath: NDArray[np.float64]
) -> tuple[Array, ...]:
    """Pixels that would gain: their new owner, its distance in sheaths, and the way to its axon."""
    width = state.shape[1]
    owner, down, right = state.owner.ravel(), state.down.ravel(), state.right.ravel()
    (row, col), (from_row, from_col) = np.divmod(taker, width), np.divmod(giver, width)
    to_row, to_col = from_row - row + down[giver], from_col - col + right[giver]
    new, held = owner[giver], owner[taker]
    distance, cost = _cost(to_row, to_col, sheath[new])
    _, own = _cost(down[taker].astype(np.int64), right[taker].astype(np.int64), sheath[held])
    better = (held == 0) | (cost < own)
    better &= np.maximum(abs(to_row), abs(to_col)) <= FARTHEST
    better &= (distance <= state.max_gap) | state.tissue.ravel()[taker]
    return taker[better], new[better], cost[better], to_row[better], to_col[better]


def _cost(
    down: Array, right: Array, sheath: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Distance in pixels; and in sheaths up to the outer membrane, from there on in pixels."""
    distance = np.sqrt(down * down + right * right)
    return distance, np.where(distance <= sheath, distance / sheath, 1 + distance - sheath)


def _neighbours(state: Holding, pixel: Array) -> tuple[Array, Array]:
    """Pairs of a given pixel and one of its 8 neighbours."""
    rows, width = state.shape
    row, col = np.divmod(pixel, width)
    here, there = [], []
    for down, right in _EIGHT:
        to_row, to_col = row + down, col + right
        valid = (to_row >= 0) & (to_row < rows) & (to_col >= 0) & (to_col < width)
        here.append(pixel[valid])
        there.append(to_row[valid] * width + to_col[valid])
    return np.concatenate(here), np.concatenate(there)


def _attach(state: Holding, sheath: NDArray[np.float64]) -> None:
    """Take away pieces that are not connected to their own axon, and give them to axons that reach them."""
    owner = state.owner.ravel()
    loose = _loose(state)
    owner[loose] = 0
    loose = loose[state.tissue.ravel()[loose]]
    waiting = np.zeros(owner.size, dtype=bool)
    waiting[loose] = True
    taker, giver = _neighbours(state, loose)
    held = owner[giver] > 0
    while held.any():
        changed = _take(state, taker[held], giver[held], sheath=sheath)
        waiting[changed] = False
        giver, taker = _neighbours(state, changed)
        held = waiting[taker]


def _loose(state: Holding) -> NDArray[np.int64]:
    """Pixels that are held by an axon to which no path of its own pixels leads."""
    runs = runs_of(state.owner)
    held = runs.value > 0
    piece, count = components(runs, held, diagonal=True)
    attached = np.zeros(count + 1, dtype=bool)
    attached[piece[_runs_with_axon(state, runs.start, runs.length) & held]] = True
    loose = held & ~attached[piece]
    return spread(runs.start[loose], runs.length[loose])


def _runs_with_axon(state: Holding, start: Array, length: Array) -> NDArray[np.bool_]:
    """Which runs hold a pixel of an axon."""
    found = np.zeros(start.size, dtype=bool)
    width = state.shape[1]
    step = max(1, _BAND * width)
    flat = state.axons.ravel()
    for begin in range(0, flat.size, step):
        chunk = flat[begin : begin + step] > 0
        first, last = np.searchsorted(start, (begin, begin + chunk.size))
        if last > first:
            found[first:last] = np.logical_or.reduceat(chunk, start[first:last] - begin)
    return found
