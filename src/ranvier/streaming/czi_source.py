"""A plane of a Zeiss CZI, read subblock by subblock."""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import UnsupportedFormatError
from ranvier.micrograph import Array
from ranvier.streaming.czi_file import CziFile, Subblocks
from ranvier.streaming.czi_pixels import COMPRESSIONS, PIXEL_TYPES
from ranvier.streaming.slide_base import Slide
from ranvier.streaming.sources import (
    Cache,
    Pick,
    at_level,
    chosen_plane,
    no_such_level,
    stated_size,
)
from ranvier.tiling import Box

__all__ = ["CziSource"]

_UM_PER_M = 1e6
_CACHE = 128 << 20
_LARGEST_SUBBLOCK = 256 << 20
"""Bytes of the largest compressed subblock, decoded."""
_PAGE_AXES = "SBVIHRTZ"
"""Dimensions that make pages, the slowest first: scene, block, view, illumination, phase, rotation, time, z."""
_REDUCED = math.sqrt(2)
"""What is stored with more pixels of the image to a pixel than this is a level of the pyramid."""


class CziSource(Slide):
    """A plane of a CZI: the mosaic of its subblocks.

    Where subblocks overlap, the one with the higher mosaic index lies on top. What was not scanned is white in colour
    and 0 in grey. Pages are counted over scenes, times and z, the scene being the slowest. Scenes that lie apart are
    one image when no page is chosen.

    Parameters
    ----------
    path
        The file.
    pick
        Page, channel and level.

    Raises
    ------
    ReadError
        The file cannot be used.
    SettingsError
        There is no such page, channel or level.
    """

    def __init__(self, path: Path, pick: Pick = Pick()) -> None:  # noqa: B008  # frozen
        super().__init__(path)
        self._file = CziFile(path)
        self._open.callback(self._file.close)
        self._cache = Cache(_CACHE)
        try:
            self._begin(path, pick)
        except BaseException:
            self.close()
            raise

    def _begin(self, path: Path, pick: Pick) -> None:
        blocks, xml = self._file.directory(), _parsed(self._file.metadata())
        levels = _levels_of(blocks)
        pages = _pages_of(blocks.some(levels == 0))
        channels = np.unique(blocks.along("C"))
        names = _channel_names(xml, len(channels))
        is_colour = len(channels) == 1 and _samples_of(blocks) > 1
        asked = Pick(pick.page, None if is_colour else pick.channel)
        together = pick.page is None and _lie_apart(blocks.some(levels == 0), pages)
        page, channel = chosen_plane(1 if together else len(pages), names, asked, path)
        self._channel = pick.channel if is_colour else None
        keep = blocks.along("C") == channels[channel]
        for axis, letter in enumerate(_PAGE_AXES):
            if not (together and letter == "S"):
                keep &= blocks.along(letter) == pages[page, axis]
        plane, levels = blocks.some(keep), levels[keep]
        there = _levels_everywhere(plane, levels)
        if pick.level >= len(there):
            raise no_such_level(pick.level, len(there), path)
        full, chosen = plane.some(levels == 0), plane.some(levels == there[pick.level])
        factor = _factor(chosen)
        self._place(chosen, full.corner.min(axis=0), factor)
        self._check(path)
        size = stated_size(_um(xml), pick, path, source="slide")
        self._size = at_level(size, factor)
        notes = [f"CZI read, {len(chosen)} subblocks"]
        if together and len(pages) > 1:
            notes.append(f"{len(pages)} scenes in one image; --page reads one alone")
        elif pick.page is not None:
            notes.append(f"page {page} read")
        if len(names) > 1:
            notes.append(f"channel {channel} ({names[channel]}) read")
        if pick.level:
            notes.append(f"level {pick.level} read, {factor:g} times smaller")
        self._note_grey(*notes)

    def _place(self, blocks: Subblocks, origin: NDArray[np.int64], factor: float) -> None:
        """Put subblocks in the order in which they are painted, and find where each lies at its level."""
        order = np.lexsort((np.arange(len(blocks)), blocks.along("M")))
        self._blocks = blocks.some(order)
        self._low = np.rint((self._blocks.corner - origin) / factor).astype(np.int64)
        self._high = self._low + self._blocks.stored
        rows, columns = self._high.max(axis=0)
        self._shape = (int(rows), int(columns))

    def _check(self, path: Path) -> None:
        """Refuse what cannot be read, and what can only be decoded whole."""
        kinds = np.unique(self._blocks.pixel_type)
        if len(kinds) > 1 or int(kinds[0]) not in PIXEL_TYPES:
            raise UnsupportedFormatError(
                "pixels of this type, or of several, are no image here",
                where=path,
                seen=f"CZI pixel type {', '.join(map(str, kinds))}",
            )
        unknown = set(self._blocks.compression.tolist()) - set(COMPRESSIONS)
        if unknown:
            raise UnsupportedFormatError(
                "this CZI is compressed in a way that is not known",
                where=path,
                seen=f"compression {min(unknown)}",
                fix="Save it with ZEN, uncompressed or with JPEG XR or zstd",
            )
        self._dtype, self._samples_each = PIXEL_TYPES[int(kinds[0])]
        item = self._dtype.itemsize * self._samples_each
        largest = self._blocks.stored[self._blocks.compression != 0].prod(axis=1)
        if largest.size and int(largest.max()) * item > _LARGEST_SUBBLOCK:
            raise UnsupportedFormatError(
                "this CZI is compressed in pieces that are too large to be read in parts",
                where=path,
                seen=f"pieces of {int(largest.max()):,} pixels",
                fix="Save it with ZEN in tiles, or uncompressed",
            )

    def _samples(self, box: Box) -> Array:
        samples, dtype = min(self._samples_each, 3), self._dtype
        white: Any = 1 if dtype.kind == "f" else np.iinfo(dtype).max
        out: Array = np.full((*box.shape, samples), 0 if samples == 1 else white, dtype=dtype)
        (top, left), (bottom, right) = self._low.T, self._high.T
        met = (top < box.bottom) & (bottom > box.top) & (left < box.right) & (right > box.left)
        for index in np.flatnonzero(met):
            place = (*self._low[index].tolist(), *self._high[index].tolist())
            whole = Box(place[0], place[1], place[2], place[3])
            part = Box(
                max(box.top, whole.top),
                max(box.left, whole.left),
                min(box.bottom, whole.bottom),
                min(box.right, whole.right),
            )
            out[part.within(box)] = self._part(int(index), part, whole)
        return out if samples > 1 else out[..., 0]

    def _part(self, index: int, part: Box, whole: Box) -> Array:
        """Pixels of a part of a subblock."""
        if self._file.is_raw(self._blocks, index):
            down, right = whole.top, whole.left
            inside = Box(part.top - down, part.left - right, part.bottom - down, part.right - right)
            return self._file.part(self._blocks, index, inside)
        make = partial(self._file.whole, self._blocks, index)
        pixels: Array = self._cache.get(index, make)[part.within(whole)]
        return pixels


def _samples_of(blocks: Subblocks) -> int:
    return PIXEL_TYPES.get(int(blocks.pixel_type[0]), (None, 1))[1]


def _ratios(blocks: Subblocks) -> NDArray[np.float64]:
    """Pixels of full resolution to a pixel that is stored, along the longer side of each subblock."""
    longer = blocks.stored.argmax(axis=1)
    row = np.arange(len(blocks))
    found: NDArray[np.float64] = blocks.size[row, longer] / blocks.stored[row, longer]
    return found


def _levels_of(blocks: Subblocks) -> NDArray[np.int64]:
    """Level of the pyramid that each subblock belongs to: powers of one step, whatever rounding does to small ones."""
    ratio = _ratios(blocks)
    ratio = ratio / ratio.min()
    reduced = np.flatnonzero(ratio > _REDUCED)
    if not reduced.size:
        return np.zeros(len(blocks), dtype=np.int64)
    # The largest of the lowest level tells the step best.
    lowest = reduced[ratio[reduced] < ratio[reduced].min() * _REDUCED]
    step = max(2, round(float(ratio[lowest[blocks.stored[lowest].max(axis=1).argmax()]])))
    levels: NDArray[np.int64] = np.rint(np.log(ratio) / math.log(step)).astype(np.int64)
    return levels


def _factor(blocks: Subblocks) -> float:
    """How many times smaller a level is, as its largest subblock says."""
    ratio = float(_ratios(blocks)[blocks.stored.max(axis=1).argmax()])
    return float(round(ratio)) if abs(ratio - round(ratio)) < 0.02 * ratio else ratio


def _levels_everywhere(blocks: Subblocks, levels: NDArray[np.int64]) -> list[int]:
    """Levels that every scene has."""
    scene = blocks.along("S")
    each = [set(levels[scene == one].tolist()) for one in np.unique(scene)]
    return sorted(set.intersection(*each)) if each else []


def _pages_of(blocks: Subblocks) -> NDArray[np.int64]:
    """Where along the axes of pages there are pixels, in order; one row for each page."""
    keys = np.column_stack([blocks.along(letter) for letter in _PAGE_AXES])
    return np.unique(keys, axis=0)


def _lie_apart(blocks: Subblocks, pages: NDArray[np.int64]) -> bool:
    """Whether pages differ in their scene alone, and no two scenes overlap."""
    if len(np.unique(pages[:, 1:], axis=0)) > 1:
        return False
    scene = blocks.along("S")
    boxes = []
    for one in pages[:, 0]:
        corner, size = blocks.corner[scene == one], blocks.size[scene == one]
        boxes.append((*corner.min(axis=0), *(corner + size).max(axis=0)))
    top, left, bottom, right = np.array(boxes).T
    over = (top[:, None] < bottom) & (top < bottom[:, None])
    over &= (left[:, None] < right) & (left < right[:, None])
    return int(over.sum()) == len(boxes)


def _parsed(xml: str) -> ElementTree.Element | None:
    """The metadata; None where there are none, or where they would define entities."""
    if not xml.strip() or "<!ENTITY" in xml or "<!DOCTYPE" in xml:
        return None
    return ElementTree.fromstring(xml)


def _um(xml: ElementTree.Element | None) -> tuple[float, float] | None:
    """Micrometres along x and y (Metadata/Scaling/Items/Distance, in metres)."""
    found: dict[str | None, float] = {}
    for distance in () if xml is None else xml.findall("Metadata/Scaling/Items/Distance"):
        value = distance.findtext("Value")
        if value:
            found.setdefault(distance.get("Id"), float(value) * _UM_PER_M)
    um = found.get("X", 0.0), found.get("Y", 0.0)
    return um if min(um) > 0 else None


def _channel_names(xml: ElementTree.Element | None, count: int) -> list[str]:
    """Names of the channels as the metadata give them, or else their numbers."""
    path = "Metadata/Information/Image/Dimensions/Channels/Channel"
    listed = [] if xml is None else [c.get("Name") or "" for c in xml.findall(path)]
    plain = [f"channel {index}" for index in range(count)]
    if len(listed) != count:
        return plain
    return [name or other for name, other in zip(listed, plain, strict=True)]
