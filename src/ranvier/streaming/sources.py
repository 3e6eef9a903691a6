"""Where windows of an image come from: one small interface, whatever the format."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ranvier.calibration import PixelSize, Source, checked
from ranvier.errors import AmbiguousImageError, SettingsError
from ranvier.micrograph import Array
from ranvier.provenance import file_sha256
from ranvier.tiling import Box

__all__ = [
    "ArraySource",
    "Cache",
    "PartSource",
    "Pick",
    "WindowSource",
    "content_sha256",
    "part_of",
]


class WindowSource(Protocol):
    """An image of any size that is read box by box."""

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        ...

    @property
    def pixel_size(self) -> PixelSize | None:
        """Edge of a pixel; None when nothing tells it."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What reading decided, in plain words."""
        ...

    def read(self, box: Box) -> Array:
        """Grey levels of a box inside the image: uint8, uint16 or float32, always the same type, finite.

        The same values as those of the image read as a whole.
        """
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


@dataclass(frozen=True)
class Pick:
    """Which image of a file is meant.

    Attributes
    ----------
    page, channel
        As for :func:`ranvier.reading.read`.
    level
        Of a pyramid, 0 for full resolution.
    pixel_size
        Micrometres per pixel of full resolution; None takes what the file says.

    Raises
    ------
    SettingsError
        The level is negative.
    """

    page: int | None = None
    channel: int | str | None = None
    level: int = 0
    pixel_size: float | None = None

    def __post_init__(self) -> None:
        if self.level < 0:
            raise SettingsError(
                "a level is counted from 0, full resolution", where="--level", seen=self.level
            )


def at_level(size: PixelSize | None, factor: float) -> PixelSize | None:
    """The pixel size of a level that is so many times smaller than full resolution."""
    return size if size is None or factor == 1 else PixelSize(size.um * factor, size.source)


@dataclass(frozen=True, eq=False)
class ArraySource:
    """An array in memory, shape (rows, columns), as a source."""

    pixels: Array
    pixel_size: PixelSize | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (int(self.pixels.shape[0]), int(self.pixels.shape[1]))

    def read(self, box: Box) -> Array:
        """A part of the array."""
        part: Array = self.pixels[box.top : box.bottom, box.left : box.right]
        return part

    def close(self) -> None:
        """Nothing to let go of."""


@dataclass(frozen=True, eq=False)
class PartSource:
    """A box of another source."""

    whole: WindowSource
    box: Box

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.box.shape

    @property
    def pixel_size(self) -> PixelSize | None:
        """As that of the whole."""
        return self.whole.pixel_size

    @property
    def notes(self) -> tuple[str, ...]:
        """As those of the whole, and which part it is."""
        box = self.box
        height, width = box.shape
        return (*self.whole.notes, f"region {box.left},{box.top},{width},{height} read")

    def read(self, box: Box) -> Array:
        """A part of the part."""
        down, right = self.box.top, self.box.left
        return self.whole.read(
            Box(box.top + down, box.left + right, box.bottom + down, box.right + right)
        )

    def close(self) -> None:
        """Let go of the whole."""
        self.whole.close()


def part_of(source: WindowSource, region: tuple[int, int, int, int] | None) -> WindowSource:
    """A source's region: x, y, width and height in its own pixels; None for all of it.

    Raises
    ------
    SettingsError
        It is empty or reaches beyond the image.
    """
    if region is None:
        return source
    x, y, width, height = region
    rows, columns = source.shape
    good = min(x, y) >= 0 and min(width, height) > 0 and x + width <= columns and y + height <= rows
    if not good:
        raise SettingsError(
            "the region does not lie in the image",
            where="--region",
            seen=f"x {x}, y {y}, width {width}, height {height} in {columns} x {rows} pixels",
        )
    return PartSource(source, Box(y, x, y + height, x + width))


class Cache:
    """What was decoded last, up to so many bytes."""

    def __init__(self, most: int) -> None:
        self._most, self._held = most, 0
        self._kept: OrderedDict[Hashable, Array] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], Array]) -> Array:
        """What is kept under a key, or made now."""
        if key in self._kept:
            self._kept.move_to_end(key)
            return self._kept[key]
        made = make()
        self._kept[key] = made
        self._held += made.nbytes
        while self._held > self._most and len(self._kept) > 1:
            self._held -= self._kept.popitem(last=False)[1].nbytes
        return made


def stated_size(
    um: tuple[float, float] | None, pick: Pick, where: Path, *, source: Source
) -> PixelSize | None:
    """A pixel size by the user's option, or else as an image's own metadata state it, along x and y.

    Raises
    ------
    PixelSizeError
        It is anisotropic or absurd.
    """
    if pick.pixel_size is not None:
        return checked(pick.pixel_size, pick.pixel_size, "option", where=where)
    return None if um is None else checked(*um, source, where=where)


def chosen_plane(pages: int, names: Sequence[str], pick: Pick, where: Path) -> tuple[int, int]:
    """Page and channel that are meant, of so many pages and of channels with these names; never guessed.

    Raises
    ------
    AmbiguousImageError
        There are several, and none was chosen.
    SettingsError
        There is no such page or channel.
    """
    listed = ", ".join(f"{i} {name!r}" for i, name in enumerate(names))
    if pick.page is None and pages > 1:
        raise AmbiguousImageError(
            f"the file holds {pages} pages and none was chosen",
            where=where,
            fix=f"Choose one with --page 0 to {pages - 1}",
        )
    if pick.channel is None and len(names) > 1:
        raise AmbiguousImageError(
            f"the file holds {len(names)} channels and none was chosen",
            where=where,
            fix=f"Choose one with --channel: {listed}",
        )
    page, channel = pick.page or 0, 0 if pick.channel is None else pick.channel
    if isinstance(channel, str):
        channel = names.index(channel) if list(names).count(channel) == 1 else -1
    if not 0 <= page < pages:
        raise SettingsError("there is no such page", where=where, seen=f"page {page} of {pages}")
    if not 0 <= channel < len(names):
        raise SettingsError(
            "there is no such channel",
            where=where,
            seen=repr(pick.channel),
            fix=f"There is {listed}",
        )
    return page, channel


def no_such_level(level: int, count: int, where: Path) -> SettingsError:
    """The error for a level that a pyramid does not have."""
    return SettingsError(
        "there is no such level of the pyramid",
        where=where,
        seen=f"level {level} of {count}",
        fix=f"Choose one from 0 to {count - 1}" if count > 1 else "The image has one level: 0",
    )


def content_sha256(path: Path) -> str:
    """Hash of a file's bytes; of a folder's, that of the names and hashes of all its files, in order.

    The pixels of an MRXS lie in a folder of its name beside it, and belong to it. The empty text where the file cannot
    be read.
    """
    total = hashlib.sha256()
    if not path.is_dir():
        own, pixels = file_sha256(path), path.with_suffix("")
        if path.suffix.lower() != ".mrxs" or not own or not pixels.is_dir():
            return own
        return hashlib.sha256(f"{own}\n{content_sha256(pixels)}".encode()).hexdigest()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(f"{file.relative_to(path).as_posix()}\0{file_sha256(file)}\n".encode())
    return total.hexdigest()
