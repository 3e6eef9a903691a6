"""The ZISRAW container of Zeiss CZI files: its directory of subblocks, its metadata, and the pixels of one subblock.

The layout is that of Zeiss's "ZISRAW (CZI) File Format Specification", version 1.2.2: segments with a name of 16 bytes
and two sizes; a directory that says of each subblock where in the file it is and which part of the image it holds.
All numbers are little-endian.
"""

from __future__ import annotations

import os
import struct
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import CorruptImageError, RanvierError, UnsupportedFormatError
from ranvier.micrograph import Array
from ranvier.streaming.czi_pixels import COMPRESSIONS, PIXEL_TYPES, RAW, decoded
from ranvier.tiling import Box

__all__ = ["MAGIC", "CziFile", "Subblocks"]

MAGIC = b"ZISRAWFILE"
_SEGMENT = struct.Struct("<16sqq")
_ENTRY = 32
"""Bytes of a directory entry before its dimensions."""
_DIMENSION = 20
_MOST_DIMENSIONS = 40
_MOST_XML = 256 << 20
_HEAD = np.dtype(
    [
        ("schema", "S2"),
        ("pixel_type", "<i4"),
        ("position", "<i8"),
        ("part", "<i4"),
        ("compression", "<i4"),
        ("pyramid", "u1"),
        ("spare", "V5"),
        ("count", "<i4"),
    ]
)
_AXIS = np.dtype(
    [("name", "S4"), ("start", "<i4"), ("size", "<i4"), ("at", "<f4"), ("stored", "<i4")]
)


@dataclass(frozen=True, eq=False)
class Subblocks:
    """The directory, one row for each subblock, in the order of the file.

    Attributes
    ----------
    position
        Of the segment in the file, in bytes.
    pixel_type, compression
        Zeiss's numbers for them.
    corner, size
        Shape (n, 2): first row and column, and rows and columns, in pixels of full resolution.
    stored
        Shape (n, 2): rows and columns of the pixels that are stored; fewer in levels of the pyramid.
    starts
        Where it lies along the other dimensions, by their letters; 0 where it has none.
    """

    position: NDArray[np.int64]
    pixel_type: NDArray[np.int32]
    compression: NDArray[np.int32]
    corner: NDArray[np.int64]
    size: NDArray[np.int64]
    stored: NDArray[np.int64]
    starts: dict[str, NDArray[np.int64]]

    def __len__(self) -> int:
        return len(self.position)

    def along(self, letter: str) -> NDArray[np.int64]:
        """Where each lies along a dimension."""
        return self.starts.get(letter, np.zeros(len(self), dtype=np.int64))

    def some(self, keep: NDArray[Any]) -> Subblocks:
        """Those of a mask, or of indices."""
        return Subblocks(
            self.position[keep],
            self.pixel_type[keep],
            self.compression[keep],
            self.corner[keep],
            self.size[keep],
            self.stored[keep],
            {letter: start[keep] for letter, start in self.starts.items()},
        )


class CziFile:
    """A CZI file, opened for reading. Nothing but what is asked for is read.

    Raises
    ------
    CorruptImageError
        The file is no CZI, or its header is damaged.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._open = path, ExitStack()
        try:
            self._file = self._open.enter_context(path.open("rb", buffering=0))
        except OSError as error:
            raise CorruptImageError(
                "cannot be opened", where=path, seen=error.strerror or error
            ) from error
        try:
            self._bytes = os.fstat(self._file.fileno()).st_size
            at, _ = self._segment(0, MAGIC)
            header = self._read(at, 80)
            self._part = struct.unpack_from("<i", header, 48)[0]
            self._directory, self._metadata = struct.unpack_from("<qq", header, 52)
        except RanvierError:
            self.close()
            raise

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def directory(self) -> Subblocks:
        """All subblocks that the directory lists.

        Raises
        ------
        CorruptImageError
            It is missing or damaged.
        UnsupportedFormatError
            The image, or a part of it, is kept in another file.
        """
        if self._directory <= 0:
            raise CorruptImageError(
                "the CZI has no directory",
                where=self._path,
                fix="It was not closed when it was written. Save it again with ZEN",
            )
        at, used = self._segment(self._directory, b"ZISRAWDIRECTORY")
        count = struct.unpack("<i", self._read(at, 4))[0]
        if not 0 < count <= used // _ENTRY:
            raise self._damaged("the directory lists no subblocks", f"{count} in {used} bytes")
        data = self._read(at + 128, used - 128)
        return self._parsed(data, count)

    def _parsed(self, data: bytes, count: int) -> Subblocks:
        places: dict[int, list[int]] = {}
        order: dict[int, list[int]] = {}
        offset = 0
        for index in range(count):
            if offset + _ENTRY > len(data):
                raise self._damaged("the directory is cut off", f"{index} of {count} subblocks")
            many = struct.unpack_from("<i", data, offset + 28)[0]
            if data[offset : offset + 2] != b"DV" or not 2 <= many <= _MOST_DIMENSIONS:
                raise self._damaged("the directory cannot be read", f"subblock {index}")
            places.setdefault(many, []).append(offset)
            order.setdefault(many, []).append(index)
            offset += _ENTRY + many * _DIMENSION
        if offset > len(data):
            raise self._damaged("the directory is cut off", f"{offset} of {len(data)} bytes")
        found = _Columns(count)
        flat = np.frombuffer(data, dtype=np.uint8)
        for many, offsets in places.items():
            kind = np.dtype([("head", _HEAD), ("axes", _AXIS, (many,))])
            rows = flat[np.array(offsets)[:, None] + np.arange(kind.itemsize)]
            found.take(np.array(order[many]), np.ascontiguousarray(rows).view(kind)[:, 0])
        if (found.part != 0).any() or self._part:
            raise UnsupportedFormatError(
                "a part of this image is kept in other files",
                where=self._path,
                fix="Save it with ZEN as one CZI file",
            )
        if (found.measures[:, 1:] < 1).any() or (abs(found.measures) > 1 << 30).any():
            raise self._damaged("subblocks have absurd places or sizes", "in the directory")
        return found.subblocks()

    def metadata(self) -> str:
        """The XML that describes the image; empty where there is none."""
        if self._metadata <= 0:
            return ""
        at, used = self._segment(self._metadata, b"ZISRAWMETADATA")
        size = struct.unpack("<i", self._read(at, 4))[0]
        if not 0 <= size <= min(used, _MOST_XML):
            raise self._damaged("the metadata cannot be read", f"{size} bytes of XML")
        return self._read(at + 256, size).decode("utf-8", errors="replace").strip("\0")

    def part(self, blocks: Subblocks, index: int, box: Box) -> Array:
        """A part of an uncompressed subblock, read row by row; shape (rows, columns, samples), red first."""
        dtype, samples = PIXEL_TYPES[int(blocks.pixel_type[index])]
        at, size = self._data(int(blocks.position[index]))
        rows, columns = (int(n) for n in blocks.stored[index])
        item = dtype.itemsize * samples
        if size < rows * columns * item:
            raise self._damaged("a subblock is too short", f"{size} bytes")
        width = box.shape[1] * item
        out = np.empty((box.shape[0], width), dtype=np.uint8)
        for row in range(box.top, box.bottom):
            data = self._read(at + (row * columns + box.left) * item, width)
            out[row - box.top] = np.frombuffer(data, np.uint8)
        pixels: Array = out.view(dtype).reshape(*box.shape, samples)
        return pixels if samples == 1 else pixels[..., 2::-1]

    def whole(self, blocks: Subblocks, index: int) -> Array:
        """The pixels of a subblock, decoded; shape (rows, columns, samples), red first."""
        at, size = self._data(int(blocks.position[index]))
        rows, columns = (int(n) for n in blocks.stored[index])
        compression, kind = int(blocks.compression[index]), int(blocks.pixel_type[index])
        data = self._read(at, size)
        try:
            return decoded(data, compression, kind, shape=(rows, columns))
        except RanvierError:
            raise
        except Exception as error:
            seen = f"{COMPRESSIONS.get(compression)}: {type(error).__name__}: {error}"
            raise self._damaged("a subblock cannot be decoded", seen[:200]) from error

    def is_raw(self, blocks: Subblocks, index: int) -> bool:
        """Whether the rows of a subblock lie in the file as they are."""
        return int(blocks.compression[index]) == RAW

    def _data(self, position: int) -> tuple[int, int]:
        """Place and size of the pixels of a subblock."""
        at, _ = self._segment(position, b"ZISRAWSUBBLOCK")
        metadata, _, size = struct.unpack("<iiq", self._read(at, 16))
        many = struct.unpack("<i", self._read(at + 16 + 28, 4))[0]
        start = at + max(256, 16 + _ENTRY + many * _DIMENSION) + metadata
        if metadata < 0 or not 0 <= many <= _MOST_DIMENSIONS or not 0 <= size <= self._bytes:
            raise self._damaged("a subblock cannot be read", f"at byte {position}")
        return start, size

    def _segment(self, position: int, name: bytes) -> tuple[int, int]:
        """Place and used size of what a segment holds."""
        found, allocated, used = _SEGMENT.unpack(self._read(position, _SEGMENT.size))
        if found.rstrip(b"\0") != name:
            seen = found.rstrip(b"\0").decode("ascii", "replace")
            raise self._damaged(f"there is no {name.decode()} at byte {position}", repr(seen))
        size = used or allocated
        start = position + _SEGMENT.size
        if not 0 <= size <= self._bytes - start:
            raise self._damaged(f"the {name.decode()} is cut off", f"{size} bytes at {position}")
        return start, size

    def _read(self, at: int, size: int) -> bytes:
        """Bytes of the file, all of them."""
        if at < 0 or size < 0 or at + size > self._bytes:
            raise self._damaged("the file is cut off", f"{self._bytes} bytes, {at + size} needed")
        data = os.pread(self._file.fileno(), size, at)
        while len(data) < size:  # at most 2 GiB come at once
            more = os.pread(self._file.fileno(), size - len(data), at + len(data))
            if not more:
                raise self._damaged("the file is cut off", f"at byte {at + len(data)}")
            data += more
        return data

    def _damaged(self, what: str, seen: str) -> CorruptImageError:
        return CorruptImageError(what, where=self._path, seen=" ".join(seen.split()))


class _Columns:
    """The columns of a directory while they are filled."""

    def __init__(self, count: int) -> None:
        self.position = np.zeros(count, dtype=np.int64)
        self.pixel_type, self.compression, self.part = (
            np.zeros(count, dtype=np.int32) for _ in range(3)
        )
        self.measures = np.zeros((count, 3, 2), dtype=np.int64)
        self.starts: dict[str, NDArray[np.int64]] = {}

    def take(self, index: NDArray[np.int64], rows: Array) -> None:
        """Take in entries that have the same number of dimensions."""
        head, axes = rows["head"], rows["axes"]
        self.position[index], self.part[index] = head["position"], head["part"]
        self.pixel_type[index] = head["pixel_type"]
        self.compression[index] = head["compression"]
        for number in range(axes.shape[1]):
            axis = axes[:, number]
            for name in np.unique(axis["name"]):
                here = axis["name"] == name
                at, letter = index[here], name.decode("ascii", "replace")
                if letter in ("Y", "X"):
                    place = "YX".index(letter)
                    stored = np.where(axis["stored"] == 0, axis["size"], axis["stored"])
                    for row, column in enumerate((axis["start"], axis["size"], stored)):
                        self.measures[at, row, place] = column[here]
                else:
                    empty = np.zeros(len(self.position), dtype=np.int64)
                    self.starts.setdefault(letter, empty)[at] = axis["start"][here]

    def subblocks(self) -> Subblocks:
        """What was filled."""
        corner, size, stored = (self.measures[:, row] for row in range(3))
        return Subblocks(
            self.position,
            self.pixel_type,
            self.compression,
            corner=corner,
            size=size,
            stored=stored,
            starts=self.starts,
        )
