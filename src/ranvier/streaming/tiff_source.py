"""TIFF, BigTIFF, OME-TIFF and the slide formats that are TIFF, box by box."""

from __future__ import annotations

import math
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from ranvier._pixel_size import find_pixel_size
from ranvier._raster import Limits, Raster, to_grey
from ranvier._tiff import (
    _channel_names,
    _hints,
    _picked_channel,
    _Stack,
    _stack_of_page,
    _stacks,
)
from ranvier._tiff_samples import read_samples, sample_layout
from ranvier._tiff_structure import (
    check_directories,
    check_segments,
    collected_messages,
    parsed_ome,
)
from ranvier.calibration import PixelSize
from ranvier.errors import (
    CorruptImageError,
    RanvierError,
    UnsupportedFormatError,
)
from ranvier.micrograph import Array
from ranvier.reading import _opened
from ranvier.streaming.sources import Cache, Pick, at_level, no_such_level
from ranvier.tiling import Box

__all__ = ["TiffSource"]

_LARGEST_SEGMENT = 256 << 20
"""Bytes of the largest strip or tile that is decoded as one piece."""
_CACHE = 128 << 20
_ANY_SIZE = Limits(max_pixels=2**62, max_bytes=2**62)
_REDUCED = 1
_JPEG = frozenset((6, 7, 33007, 34892))


class TiffSource:
    """One picture of a TIFF.

    Parameters
    ----------
    path
        The file.
    pick
        Page, channel and level.

    Raises
    ------
    ReadError
        The file cannot be used, or its strips are too large to be read in parts.
    SettingsError
        There is no such page, channel or level.
    """

    def __init__(self, path: Path, pick: Pick = Pick()) -> None:  # noqa: B008  # frozen
        self._where, self._open = str(path), ExitStack()
        try:
            file, size = self._open.enter_context(_opened(path, _ANY_SIZE))
            check_directories(file, size, self._where)
            file.seek(0)
            self._begin(file, size, path, pick)
        except RanvierError:
            self._open.close()
            raise
        except Exception as error:
            self._open.close()
            raise CorruptImageError(
                "the TIFF cannot be decoded",
                where=path,
                seen=" ".join(f"{type(error).__name__}: {error}".split())[:200],
            ) from error

    def _begin(self, file: Any, size: int, path: Path, pick: Pick) -> None:
        from tifffile import TiffFile

        with collected_messages() as messages:
            tiff = self._open.enter_context(TiffFile(file, name=path.name))
            xml = tiff.ome_metadata if tiff.is_ome else None
            ome = None if xml is None else parsed_ome(xml, size, self._where)
            stacks, notes = _stacks(tiff, self._where)
            stack, page = _stack_of_page(stacks, pick.page, pick.channel, self._where)
        names = _channel_names(stack, ome)
        several = len(names) > 1
        picked = _picked_channel(pick.channel, names, self._where) if several else None
        plane = stack.plane_index(page, picked or 0 if "C" in stack.axes else 0)
        self._page = _at_level(tiff, stack, plane, pick.level, self._where)
        self._key = self._page.keyframe
        self._layout = sample_layout(self._key, self._where)
        self._sample = None if "C" in stack.axes else picked
        self._channel = None if picked is not None else pick.channel
        if self._channel is not None and not self._layout.is_colour and pick.channel == names[0]:
            self._channel = None
        check_segments(self._page, size, self._where)
        self._handle, self._cache = tiff.filehandle, Cache(_CACHE)
        self._check_parts()
        found, more = find_pixel_size(path, _hints(tiff, stack, xml), pick.pixel_size)
        self._factor = stack.keyframe.imagewidth / self._key.imagewidth
        self._size = at_level(found, self._factor)
        _, grey = self._grey(Box(0, 0, 1, 1))
        said = [f"tifffile: {' '.join(m.split())[:200]}" for m in messages[:3]]
        if picked is not None:
            said.append(f"channel {picked} ({names[picked]}) read")
        if pick.page is not None:
            said.append(f"page {pick.page} read")
        if pick.level:
            said.append(f"level {pick.level} read, {self._factor:g} times smaller")
        self._notes = (*self._layout.notes, *notes, *said, *grey, *more)

    def _check_parts(self) -> None:
        """Refuse what can only be decoded whole."""
        if self._plain:
            return
        segment = math.prod(self._key.chunks) * self._key.dtype.itemsize
        if segment > _LARGEST_SEGMENT:
            raise UnsupportedFormatError(
                "this TIFF is compressed in pieces that are too large to be read in parts",
                where=self._where,
                seen=f"pieces of {self._key.chunks}",
                fix="Save it tiled, for example with tiles of 512 x 512 pixels",
            )

    @property
    def _plain(self) -> bool:
        """Whether rows lie in the file as they are."""
        key = self._key
        return bool(
            key.is_contiguous
            and key.compression == 1
            and key.predictor == 1
            and key.bitspersample in (8, 16, 32, 64)
            and not key.is_subsampled
            and (key.planarconfig == 1 or key.samplesperpixel == 1)
            and key.fillorder == 1
        )

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (int(self._key.imagelength), int(self._key.imagewidth))

    @property
    def pixel_size(self) -> PixelSize | None:
        """Edge of a pixel of this level."""
        return self._size

    @property
    def notes(self) -> tuple[str, ...]:
        """What reading decided."""
        return tuple(dict.fromkeys(self._notes))

    def read(self, box: Box) -> Array:
        """Grey levels of a box."""
        return self._grey(box)[0]

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def _grey(self, box: Box) -> tuple[Array, tuple[str, ...]]:
        key = self._key
        stored = self._rows(box) if self._plain else self._segments(box)
        samples = stored[..., 0] if key.samplesperpixel == 1 else stored
        # What the rules for whole pages look at, with the shape of the box.
        page = SimpleNamespace(
            shape=samples.shape,
            axes="YX" if samples.ndim == 2 else "YXS",
            tags=key.tags,
            photometric=key.photometric,
            compression=key.compression,
            samplesperpixel=key.samplesperpixel,
            extrasamples=key.extrasamples,
            bitspersample=key.bitspersample,
            colormap=key.colormap,
        )
        page.keyframe = page
        samples = read_samples(page, self._where, decoded=samples)
        if self._sample is not None:
            samples = samples[..., self._sample]
        raster = Raster(samples, self._layout.has_alpha)
        return to_grey(raster, self._channel, self._where)

    def _rows(self, box: Box) -> Array:
        """Rows of an uncompressed page, without anything else of it."""
        key = self._key
        width, samples, item = key.imagewidth, key.samplesperpixel, key.dtype.itemsize
        out = np.empty((*box.shape, samples), dtype=key.dtype)
        stored = np.dtype(self._handle_order() + key.dtype.char)
        for row in range(box.top, box.bottom):
            self._handle.seek(self._page.dataoffsets[0] + (row * width + box.left) * samples * item)
            data = self._handle.read(box.shape[1] * samples * item)
            out[row - box.top] = np.frombuffer(data, stored).reshape(-1, samples)
        return out

    def _handle_order(self) -> str:
        return str(self._key.parent.byteorder)

    def _segments(self, box: Box) -> Array:
        """Pixels of a box from the strips or tiles that it meets, shape (rows, columns, samples)."""
        key = self._key
        height, width = (
            (key.tilelength, key.tilewidth) if key.is_tiled else (key.rowsperstrip, key.imagewidth)
        )
        height = min(height, key.imagelength)
        down, across = -(-key.imagelength // height), -(-key.imagewidth // width)
        separate = key.planarconfig == 2 and key.samplesperpixel > 1
        out = np.empty((*box.shape, key.samplesperpixel), dtype=key.dtype)
        for sample in range(key.samplesperpixel if separate else 1):
            for row in range(box.top // height, -(-box.bottom // height)):
                for col in range(box.left // width, -(-box.right // width)):
                    index = (sample * down + row) * across + col
                    whole = Box(row * height, col * width, (row + 1) * height, (col + 1) * width)
                    part = Box(
                        max(box.top, whole.top),
                        max(box.left, whole.left),
                        min(box.bottom, whole.bottom),
                        min(box.right, whole.right),
                    )
                    decoded = self._cache.get(index, partial(self._decoded, index))
                    found = decoded[part.within(whole)]
                    if separate:
                        out[(*part.within(box), sample)] = found[..., 0]
                    else:
                        out[part.within(box)] = found
        return out

    def _decoded(self, index: int) -> Array:
        """One strip or tile, shape (rows, columns, samples)."""
        key, page = self._key, self._page
        arguments = {}
        if key.compression in _JPEG:
            arguments = {"jpegtables": page.jpegtables, "jpegheader": key.jpegheader}
        with collected_messages() as complaints:
            try:
                self._handle.seek(page.dataoffsets[index])
                data = self._handle.read(page.databytecounts[index])
                segment = key.decode(data, index, **arguments)[0]
            except Exception as error:
                complaints.append(f"{type(error).__name__}: {error}")
                segment = None
        if complaints or segment is None:
            seen = complaints[0] if complaints else "an empty piece"
            raise CorruptImageError(
                "the TIFF's pixels cannot be decoded",
                where=self._where,
                seen=f"piece {index}: {' '.join(seen.split())[:200]}",
            )
        decoded: Array = segment[0]
        return decoded


def _at_level(tiff: Any, stack: _Stack, plane: int, level: int, where: str) -> Any:
    """The page of a plane at a level of its pyramid."""
    levels = list(getattr(stack.pages, "levels", ())) or [stack.pages]
    if level < len(levels):
        page = levels[level][plane]
        if page is None:
            raise CorruptImageError("the plane is kept in another file", where=where)
        return page
    full = stack.keyframe
    ratio = full.imagelength / full.imagewidth
    smaller = [
        page
        for page in (*(full.pages or ()), *tiff.pages)
        if page.keyframe.subfiletype & _REDUCED
        and page.keyframe.imagewidth < full.imagewidth
        and abs(page.keyframe.imagelength - ratio * page.keyframe.imagewidth) <= 2
        and page.keyframe.samplesperpixel == full.samplesperpixel
    ]
    smaller.sort(key=lambda page: -int(page.keyframe.imagewidth))
    if len(levels) == 1 and 0 < level <= len(smaller):
        return smaller[level - 1]
    count = max(len(levels), len(smaller) + 1)
    raise no_such_level(level, count, Path(where))
