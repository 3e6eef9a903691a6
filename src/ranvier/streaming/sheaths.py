"""Myelin of a plane on disk, shared out among axons exactly as :mod:`ranvier._sheaths` shares that of an array.

Taking over pixels goes in rounds, and in a round a pixel depends on its eight neighbours alone. So after n rounds in a
window, every pixel that is n or more away from where the window is cut is what it would be in the whole plane. Windows
therefore overlap by as many pixels as they make rounds; then all of them are written, and where the last round still
changed something, the next rounds are made from there. Nothing is assumed about how large a fibre is, or how far
a sheath reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranvier._nearest import Holding, inside_of
from ranvier._runs import Runs, components, runs_of, spread
from ranvier._sheaths import (
    _FEW_FREE,
    _FREE_SHARE,
    _QUANTILES,
    _THINNEST,
    _beside_another,
    _fronts,
    _neighbours,
    _quantiles,
    _take,
)
from ranvier.errors import SettingsError
from ranvier.micrograph import Array
from ranvier.streaming.holding import HoldingPlanes
from ranvier.streaming.pieces import find_pieces
from ranvier.streaming.planes import cores, grown, strips
from ranvier.tiling import Box

__all__ = ["Rounds", "share_out"]

_BUCKET = 1 << 14
"""Labels whose samples are sorted together."""
Pairs = tuple[Array, Array]
"""Pixels that may be taken, and the neighbour that would take each."""


@dataclass(frozen=True)
class Rounds:
    """How taking over goes.

    Attributes
    ----------
    window
        Edge of what a window writes, in pixels.
    many
        Rounds until the windows are written; as many pixels are read around each.

    Raises
    ------
    SettingsError
        One is less than 1.
    """

    window: int = 1024
    many: int = 64

    def __post_init__(self) -> None:
        for name in ("window", "many"):
            if getattr(self, name) < 1:
                raise SettingsError("must be at least 1", where=name, seen=getattr(self, name))


def share_out(planes: HoldingPlanes, count: int, *, folder: Path, rounds: Rounds) -> None:
    """From the nearest axon of each pixel to the one whose sheath it is; in place.

    Parameters
    ----------
    planes
        From :func:`ranvier.streaming.holding.hold_nearest`, gaps filled.
    count
        Number of axons.
    folder
        For samples.
    rounds
        Of no influence on the result.
    """
    sheath = np.zeros(0)
    for number, quantile in enumerate(_QUANTILES):
        sheath = _thickness(planes, quantile, count, folder=folder, window=rounds.window)
        _settle(planes, sheath, rounds=rounds, only_thicker=number == 0)
    _let_go(planes)
    _attach(planes, sheath, rounds)


class _Samples:
    """Samples of labels, in files by ranges of labels, so that one range fits into memory."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder, self._name = folder, name
        self._buckets: set[int] = set()

    def add(self, keys: NDArray[np.int64]) -> None:
        """Take in keys: label in the high 32 bits, sample in the low ones."""
        keys = np.sort(keys)
        bucket = (keys >> 32) // _BUCKET
        for part in np.split(keys, np.flatnonzero(np.diff(bucket)) + 1):
            if part.size:
                which = int((part[0] >> 32) // _BUCKET)
                self._buckets.add(which)
                with self._path(which).open("ab") as file:
                    file.write(part.tobytes())

    def of(self, bucket: int) -> NDArray[np.int64]:
        """All keys of a range of labels, these from 0; the file is deleted."""
        if bucket not in self._buckets:
            return np.zeros(0, dtype=np.int64)
        keys = np.frombuffer(self._path(bucket).read_bytes(), dtype=np.int64)
        self._path(bucket).unlink()
        return keys - (np.int64(bucket * _BUCKET) << 32)

    def _path(self, bucket: int) -> Path:
        return self._folder / f"{self._name}{bucket}.samples"


def _thickness(
    planes: HoldingPlanes, quantile: float, count: int, *, folder: Path, window: int
) -> NDArray[np.float64]:
    """Thickness of each axon's sheath; as in :mod:`ranvier._sheaths`."""
    free, contact = _Samples(folder, "free"), _Samples(folder, "contact")
    for core in cores(planes.shape, window):
        if not planes.owner.any_stored(core):
            continue
        box = grown(core, 1, planes.shape)
        state = planes.window(box)
        held = state.tissue & (state.owner > 0)
        at_border = held & ~inside_of(state.tissue)
        at_contact = held & ~at_border & _beside_another(state.owner, state.tissue)
        inner = core.within(box)
        for mask, samples in ((at_border, free), (at_contact, contact)):
            at = mask[inner]
            down, right = (p[inner][at].astype(np.int64) for p in (state.down, state.right))
            owner = state.owner[inner][at].astype(np.int64)
            samples.add((owner << 32) | (down**2 + right**2))
    found = np.full(count + 1, _THINNEST)
    for bucket in range(count // _BUCKET + 1):
        alone, beside = free.of(bucket), contact.of(bucket)
        many = min(_BUCKET, count + 1 - bucket * _BUCKET)
        from_free, n_free = _quantiles(alone, many - 1, quantile)
        from_both, n_both = _quantiles(np.concatenate((alone, beside)), many - 1, quantile)
        enough = (n_free >= _FEW_FREE) & (n_free >= _FREE_SHARE * n_both)
        thickness = np.sqrt(np.where(enough, from_free, from_both))
        found[bucket * _BUCKET :][:many] = np.maximum(thickness, _THINNEST)
    return found


@dataclass(frozen=True, eq=False)
class _Window:
    """A box of the planes in memory, and which pixels wait to be held."""

    state: Holding
    waiting: NDArray[np.bool_]


Begin = Callable[[_Window], Pairs]
Again = Callable[[_Window, Array], Pairs]


def _settle(
    planes: HoldingPlanes, sheath: NDArray[np.float64], *, rounds: Rounds, only_thicker: bool
) -> None:
    """Let every axon take over the pixels for which its distance in sheaths is least, border by border."""

    def begin(window: _Window) -> Pairs:
        taker, giver = _fronts(window.state)
        if only_thicker:
            owner = window.state.owner.ravel()
            thicker = sheath[owner[giver]] > sheath[owner[taker]]
            taker, giver = taker[thicker], giver[thicker]
        return taker, giver

    def again(window: _Window, changed: Array) -> Pairs:
        giver, taker = _neighbours(window.state, changed)
        other = (window.state.owner.ravel()[taker] > 0) & (window.state.axons.ravel()[taker] == 0)
        return taker[other], giver[other]

    _take_over(planes, sheath, rounds, begin=begin, again=again)


def _attach(planes: HoldingPlanes, sheath: NDArray[np.float64], rounds: Rounds) -> None:
    """Give pieces that nobody holds to axons that reach them."""

    def begin(window: _Window) -> Pairs:
        taker, giver = _neighbours(window.state, np.flatnonzero(window.waiting))
        held = window.state.owner.ravel()[giver] > 0
        return taker[held], giver[held]

    def again(window: _Window, changed: Array) -> Pairs:
        giver, taker = _neighbours(window.state, changed)
        held = window.waiting.ravel()[taker]
        return taker[held], giver[held]

    _take_over(planes, sheath, rounds, begin=begin, again=again)


def _take_over(
    planes: HoldingPlanes,
    sheath: NDArray[np.float64],
    rounds: Rounds,
    *,
    begin: Begin,
    again: Again,
) -> None:
    """Make rounds until none changes anything."""
    first = True
    while True:
        busy = False
        for core in cores(planes.shape, rounds.window):
            box = grown(core, rounds.many, planes.shape)
            if not (planes.owner if first else planes.changed).any_stored(box):
                continue
            window = _Window(planes.window(box), planes.waiting.read(box).view(bool))
            changed = None if first else np.flatnonzero(planes.changed.read(box))
            if changed is None:
                pairs = begin(window)
            elif changed.size:
                pairs = again(window, changed)
            else:
                continue
            last, any_taken = _rounds(window, pairs, sheath, many=rounds.many, again=again)
            busy |= _write(planes, window, core, box, last=last, any_taken=any_taken)
        planes.commit()
        if not busy:
            return
        first = False


def _rounds(
    window: _Window, pairs: Pairs, sheath: NDArray[np.float64], *, many: int, again: Again
) -> tuple[Array, bool]:
    """Make so many rounds in a window, or until none changes anything; what the last one changed, and if any did."""
    taker, giver = pairs
    changed = np.zeros(0, dtype=np.int64)
    any_taken = False
    for _ in range(many):
        if not taker.size:
            return np.zeros(0, dtype=np.int64), any_taken
        changed = _take(window.state, taker, giver, sheath=sheath)
        window.waiting.ravel()[changed] = False
        any_taken |= bool(changed.size)
        taker, giver = again(window, changed)
    return changed, any_taken


def _write(
    planes: HoldingPlanes, window: _Window, core: Box, box: Box, *, last: Array, any_taken: bool
) -> bool:
    """Write a window's core; whether its last round changed anything there."""
    inner = core.within(box)
    if any_taken:
        planes.owner.write(core, window.state.owner[inner])
        planes.down.write(core, window.state.down[inner])
        planes.right.write(core, window.state.right[inner])
        if planes.waiting.any_stored(core):
            planes.waiting.write(core, window.waiting[inner].view(np.uint8))
    changed = np.zeros(window.state.shape, dtype=np.uint8)
    changed.ravel()[last] = 1
    here = changed[inner]
    if here.any() or planes.changed.any_stored(core):
        planes.changed.write(core, here)
    return bool(here.any())


def _let_go(planes: HoldingPlanes) -> None:
    """Take away pieces that are not connected to their own axon; those of tissue wait for another."""
    parts = strips(planes.shape, planes.owner.tile)
    with_axon: list[NDArray[np.bool_]] = []

    def read(index: int) -> Runs:
        return runs_of(planes.owner.read(parts[index]))

    def look(runs: Runs, part: NDArray[np.int32], count: int) -> None:
        axon = planes.axons.read(parts[len(with_axon)]).ravel() > 0
        has = np.logical_or.reduceat(axon, runs.start) & (part >= 0)
        found = np.zeros(count, dtype=bool)
        found[part[has]] = True
        with_axon.append(found)

    pieces = find_pieces(parts, read, diagonal=True, look=look)
    attached = np.zeros(pieces.count, dtype=bool)
    np.logical_or.at(attached, pieces.piece, np.concatenate([np.zeros(0, bool), *with_axon]))
    for index, strip in enumerate(parts):
        runs = read(index)
        part, _ = components(runs, runs.value != 0, diagonal=True)
        piece = pieces.of(index, part)
        loose = (piece >= 0) & ~attached[piece]
        if not loose.any():
            continue
        at = spread(runs.start[loose], runs.length[loose])
        owner, waiting = planes.owner.read(strip), np.zeros(strip.shape, dtype=np.uint8)
        owner.ravel()[at] = 0
        waiting.ravel()[at] = planes.tissue.read(strip).ravel()[at]
        planes.owner.write(strip, owner)
        planes.waiting.write(strip, waiting)
    planes.commit()
