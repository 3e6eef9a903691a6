"""TIFF, BigTIFF and OME-TIFF: which picture of the file is meant, and its samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from io import BufferedReader
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ranvier._raster import Limits, Raster, TiffHints
from ranvier._tiff_samples import read_samples, sample_layout
from ranvier._tiff_structure import (
    check_directories,
    check_segments,
    collected_messages,
    parsed_ome,
)
from ranvier.errors import (
    AmbiguousImageError,
    CorruptImageError,
    RanvierError,
    SettingsError,
    UnsupportedFormatError,
)

_SLIDES = frozenset(("svs", "ndpi", "scn", "bif", "philips", "qpi", "avs"))
_WITH_SERIES = _SLIDES | frozenset(
    ("ome", "imagej", "shaped", "lsm", "stk", "sis", "fluoview", "mmstack", "scanimage")
)
_REDUCED, _MASK = 1, 4
_LISTED = 8


@dataclass(frozen=True, eq=False)
class _Stack:
    """Planes of one shape: their dimensions before rows and columns, and where they are kept."""

    pages: Any
    keyframe: Any
    axes: str = ""
    sizes: tuple[int, ...] = ()
    image_index: int = 0
    where: str = ""

    @property
    def page_count(self) -> int:
        pairs = zip(self.axes, self.sizes, strict=True)
        return math.prod(size for axis, size in pairs if axis != "C")

    @property
    def channel_count(self) -> int:
        if "C" in self.axes:
            return self.sizes[self.axes.index("C")]
        return sample_layout(self.keyframe, self.where).channels

    @property
    def label(self) -> str:
        rows, columns = self.keyframe.imagelength, self.keyframe.imagewidth
        count = int(self.keyframe.samplesperpixel)
        samples = f" with {count} samples" if count > 1 else ""
        lead = "".join(f"{a}={n} " for a, n in zip(self.axes, self.sizes, strict=True))
        return f"{lead}{rows} x {columns} {self.keyframe.dtype}{samples}"

    def plane_index(self, page: int, channel: int) -> int:
        """Index in ``pages`` of one page's channel."""
        others = [n for a, n in zip(self.axes, self.sizes, strict=True) if a != "C"]
        position = list(np.unravel_index(page, others)) if others else []
        if "C" in self.axes:
            position.insert(self.axes.index("C"), np.intp(channel))
        return int(np.ravel_multi_index(position, self.sizes)) if position else 0


def decode_tiff(
    file: BufferedReader,
    size: int,
    where: str,
    *,
    page: int | None,
    channel: int | str | None,
    limits: Limits,
) -> Raster:
    """Decode one picture of a TIFF.

    Parameters
    ----------
    file
        Open, seekable; without a file number, so that no companion file is opened.
    size
        Its bytes.
    where
        Its path, for errors.
    page, channel
        Which picture; None when the file holds only one.
    limits
        Checked against the tags before anything is decoded.

    Raises
    ------
    ReadError
        Any of its kinds.
    SettingsError
        There is no such page or channel.
    """
    from tifffile import TiffFile

    directories = check_directories(file, size, where)
    file.seek(0)
    try:
        with (
            collected_messages() as messages,
            TiffFile(file, name=where.replace("\\", "/").rpartition("/")[2]) as tiff,
        ):
            raster = _decode(tiff, size, where, page=page, channel=channel, limits=limits)
            if len(tiff.pages) != directories and not tiff.is_ndpi and not tiff.is_lsm:
                messages.append(f"{len(tiff.pages)} of {directories} directories were read")
            notes = tuple(f"tifffile: {_short(text)}" for text in messages[:3])
    except (RanvierError, MemoryError):
        raise
    except Exception as error:
        raise CorruptImageError(
            "the TIFF cannot be decoded",
            where=where,
            seen=f"{type(error).__name__}: {_short(str(error))}",
        ) from error
    return replace(raster, notes=raster.notes + notes)


def _decode(
    tiff: Any,
    size: int,
    where: str,
    *,
    page: int | None,
    channel: int | str | None,
    limits: Limits,
) -> Raster:
    """Find the picture, check it, decode it."""
    ome_xml = tiff.ome_metadata if tiff.is_ome else None
    ome = None if ome_xml is None else parsed_ome(ome_xml, size, where)
    stacks, notes = _stacks(tiff, where)
    stack, page_index = _stack_of_page(stacks, page, channel, where)
    key = stack.keyframe
    limits.check_pixels(key.imagelength, key.imagewidth, where)
    layout = sample_layout(key, where)
    names = _channel_names(stack, ome)
    if "C" in stack.axes and layout.channels > 1:
        raise UnsupportedFormatError(
            "channels are stored both as planes and as samples", where=where, seen=stack.label
        )
    picked = _picked_channel(channel, names, where) if len(names) > 1 else None
    plane = stack.plane_index(page_index, picked or 0 if "C" in stack.axes else 0)
    samples = _plane_samples(tiff, stack, plane, size, where)
    if picked is not None and "C" not in stack.axes:
        samples = samples[..., picked]
    if picked is not None:
        notes += (f"channel {picked} ({names[picked]}) read",)
    if page is not None:
        notes += (f"page {page} read",)
    hints = _hints(tiff, stack, ome_xml)
    taken = picked is not None or (not layout.is_colour and channel == names[0])
    return Raster(samples, layout.has_alpha, layout.notes + notes, hints, taken)


def _stacks(tiff: Any, where: str) -> tuple[list[_Stack], tuple[str, ...]]:
    """Every picture that could be meant, without thumbnails, masks and smaller pyramid levels."""
    notes: tuple[str, ...] = ()
    flags = {name for name in _WITH_SERIES if getattr(tiff, "is_" + name, False)}
    series = tiff.series if flags else []
    if not series or series[0].kind in ("generic", "uniform"):
        pages = list(tiff.pages)
        full = [p for p in pages if not p.keyframe.subfiletype & (_REDUCED | _MASK)] or pages[:1]
        if len(full) < len(pages):
            notes = (f"{len(pages) - len(full)} thumbnails, masks or pyramid levels left out",)
        return [_Stack([p], p.keyframe, where=where) for p in full], notes
    if series[0].kind in _SLIDES and len(series) > 1:
        notes = (f"{len(series) - 1} associated pictures of the slide left out",)
        series = series[:1]
    return [_stack_of_series(one, index, where) for index, one in enumerate(series)], notes


def _stack_of_series(series: Any, index: int, where: str) -> _Stack:
    """List the planes of one tifffile series at full resolution."""
    key = series.keyframe
    lead = len(series.shape) - len(key.shape)
    sizes, axes = tuple(int(n) for n in series.shape[:lead]), series.axes[:lead]
    if lead < 0 or tuple(series.shape[lead:]) != tuple(key.shape) or "Z" in key.axes:
        raise UnsupportedFormatError(
            "planes of this TIFF are not stored one by one",
            where=where,
            seen=f"{series.kind}, axes {series.axes}, shape {series.shape}",
            fix="Save the plane as a single-page TIFF or PNG",
        )
    return _Stack(series, key, axes, sizes, index, where)


def _stack_of_page(
    stacks: Sequence[_Stack], page: int | None, channel: int | str | None, where: str
) -> tuple[_Stack, int]:
    """Find the stack that holds a page, and the page's index there; refuse to guess."""
    total = sum(stack.page_count for stack in stacks)
    labels = [stack.label for stack in stacks]
    listed = "; ".join(labels[:_LISTED]) + ("; ..." if len(labels) > _LISTED else "")
    if page is None and total > 1:
        channels = max(stack.channel_count for stack in stacks)
        raise AmbiguousImageError(
            f"the file holds {total} pages and none was chosen",
            where=where,
            seen=listed + (f"; {channels} channels each" if channels > 1 else ""),
            fix=f"Choose one with --page 0 to {total - 1}"
            + (" and a channel with --channel" if channels > 1 and channel is None else ""),
        )
    left = page or 0
    for stack in stacks:
        if 0 <= left < stack.page_count:
            return stack, left
        left -= stack.page_count
    raise SettingsError(
        "there is no such page",
        where=where,
        seen=f"page {page} of {total}: {listed}",
        fix=f"Choose one from 0 to {total - 1}",
    )


def _channel_names(stack: _Stack, ome: ElementTree.Element | None) -> tuple[str, ...]:
    """One name for each channel: OME's where it has one."""
    names = [f"channel {i}" for i in range(stack.channel_count)]
    if ome is not None:
        images = [e for e in ome if e.tag.rpartition("}")[2] == "Image"]
        image = images[stack.image_index] if stack.image_index < len(images) else ome
        found = [e for e in image.iter() if e.tag.rpartition("}")[2] == "Channel"]
        for index, element in enumerate(found[: len(names)]):
            names[index] = element.get("Name") or element.get("ID") or names[index]
    return tuple(names)


def _picked_channel(channel: int | str | None, names: tuple[str, ...], where: str) -> int:
    """Index of the channel asked for; refuse to guess."""
    listed = ", ".join(f"{i} {name!r}" for i, name in enumerate(names[:32]))
    fix = f"Choose one with --channel: {listed}"
    if channel is None:
        raise AmbiguousImageError(
            f"the file holds {len(names)} channels and none was chosen", where=where, fix=fix
        )
    if isinstance(channel, str) and names.count(channel) == 1:
        return names.index(channel)
    if isinstance(channel, int) and 0 <= channel < len(names):
        return channel
    raise SettingsError("there is no such channel", where=where, seen=repr(channel), fix=fix)


def _plane_samples(tiff: Any, stack: _Stack, plane: int, size: int, where: str) -> Any:
    """Decode one plane, rows and columns first."""
    planes = math.prod(stack.sizes)
    key = stack.keyframe
    if len(stack.pages) >= planes:
        page = stack.pages[plane]
        if page is None:
            raise CorruptImageError(
                "the plane is kept in another file", where=where, seen=f"plane {plane} of {planes}"
            )
        check_segments(page, size, where)
        return read_samples(page, where)
    first = key.dataoffsets[0] if key.dataoffsets else size
    if not key.is_contiguous or first + planes * key.nbytes > size:
        raise CorruptImageError(
            "planes are missing", where=where, seen=f"{len(stack.pages)} of {planes}"
        )
    handle = tiff.filehandle
    handle.seek(first + plane * key.nbytes)
    stored = np.dtype(tiff.byteorder + key.dtype.char)
    data = np.frombuffer(handle.read(key.nbytes), stored).astype(key.dtype)
    return read_samples(key, where, decoded=data.reshape(key.shape))


def _hints(tiff: Any, stack: _Stack, ome_xml: str | None) -> TiffHints:
    """Collect calibration without judging it."""
    tags = stack.keyframe.tags
    pairs = [tags.valueof(code) for code in (282, 283)]
    resolution = None
    if all(isinstance(p, tuple) and len(p) == 2 and p[0] and p[1] for p in pairs):
        resolution = (pairs[0][0] / pairs[0][1], pairs[1][0] / pairs[1][1])
    unit = tags.valueof(296)
    imagej = (tiff.imagej_metadata or {}) if tiff.is_imagej else None
    return TiffHints(
        ome_xml=ome_xml,
        image_index=stack.image_index,
        imagej_unit=None if imagej is None else str(imagej.get("unit", "")),
        resolution=resolution,
        resolution_unit=None if unit is None else int(unit),
    )


def _short(text: str) -> str:
    """One line of at most 200 characters."""
    return " ".join(text.split())[:200]
