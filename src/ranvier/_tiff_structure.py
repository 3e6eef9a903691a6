"""Whether a TIFF's directories and data lie where they claim to, checked before decoding."""

from __future__ import annotations

import logging
import math
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedReader
from typing import Any
from xml.etree import ElementTree

from ranvier.errors import CorruptImageError

_MOST_DIRECTORIES = 1_000_000
_LARGEST_TILE_OVERHEAD = 1 << 24
_FIRST_PRIVATE_TAG = 32768
_TYPE_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4}
_TYPE_BYTES |= {16: 8, 17: 8, 18: 8}
_OME_COUNTS = frozenset(("IFD", "PlaneCount", "NumPlanes", "FirstZ", "FirstC", "FirstT"))


def check_directories(file: BufferedReader, size: int, where: str) -> int:
    """Walk the chain of image directories (TIFF 6.0, section 2) and count them.

    Raises
    ------
    CorruptImageError
        The chain is empty, leaves the file or comes back to itself.
    """
    file.seek(0)
    head = file.read(16)
    order = "<" if head[:2] == b"II" else ">"
    is_big = len(head) > 3 and 43 in (head[2], head[3])
    if len(head) < (16 if is_big else 8):
        raise CorruptImageError("the file is truncated", where=where, seen=f"{size} bytes")
    pointer, count_format, entry = ("Q", "Q", 20) if is_big else ("I", "H", 12)
    (offset,) = struct.unpack_from(order + pointer, head, 8 if is_big else 4)
    seen: set[int] = set()
    while offset:
        if offset in seen or len(seen) >= _MOST_DIRECTORIES:
            raise CorruptImageError(
                "the TIFF's directories form a circle", where=where, seen=f"offset {offset} again"
            )
        seen.add(offset)
        counts = struct.calcsize(order + count_format)
        file.seek(min(offset, size))
        raw = file.read(counts)
        tags = struct.unpack(order + count_format, raw)[0] if len(raw) == counts else 0
        end = offset + counts + tags * entry
        if tags == 0 or end + struct.calcsize(order + pointer) > size:
            raise CorruptImageError(
                "the file is truncated or its TIFF directory is broken",
                where=where,
                seen=f"directory {len(seen) - 1} with {tags} tags at byte {offset} of {size}",
            )
        if not is_big and size >= 1 << 32:
            break  # files that stretch classic TIFF past 4 GiB keep their own kinds of pointers
        _check_tag_values(file.read(tags * entry), is_big, order, size, where)
        (offset,) = struct.unpack(order + pointer, file.read(struct.calcsize(order + pointer)))
    if not seen:
        raise CorruptImageError("the TIFF holds no image", where=where)
    return len(seen)


def _check_tag_values(table: bytes, is_big: bool, order: str, size: int, where: str) -> None:
    """Check that the values of one directory's public tags lie in the file."""
    entry, inline = (order + "HHQQ", 8) if is_big else (order + "HHII", 4)
    for code, kind, count, value in struct.iter_unpack(entry, table):
        length = _TYPE_BYTES.get(kind, 0) * count
        if code < _FIRST_PRIVATE_TAG and length > inline and value + length > size:
            raise CorruptImageError(
                "the file is truncated or its header lies",
                where=where,
                seen=f"tag {code} up to byte {value + length:,} of {size:,}",
            )


def check_segments(page: Any, size: int, where: str) -> None:
    """Check that every strip or tile of one page lies in the file.

    Parameters
    ----------
    page
        A tifffile page or frame.
    size
        Bytes of the file.
    where
        The file, for errors.

    Raises
    ------
    CorruptImageError
        Strips or tiles are missing, outside the file, or too few bytes for their pixels.
    """
    key = page.keyframe
    want = math.prod(page.chunked)
    offsets, counts = page.dataoffsets, page.databytecounts
    if len(offsets) < want or len(counts) < want:
        # One contiguous block may be described by its first strip alone.
        raise CorruptImageError(
            "strips or tiles are missing",
            where=where,
            seen=f"{min(len(offsets), len(counts))} of {want}",
        )
    absent = sum(1 for o, n in zip(offsets, counts, strict=False) if o <= 0 or n <= 0)
    if absent:
        raise CorruptImageError(
            "strips or tiles are empty", where=where, seen=f"{absent} of {want}"
        )
    last = max(o + n for o, n in zip(offsets, counts, strict=False))
    if last > size:
        raise CorruptImageError(
            "the file is truncated or its header lies",
            where=where,
            seen=f"data up to byte {last:,} of {size:,}",
        )
    pixels = math.prod(page.shape)
    if key.compression == 1:
        needed = pixels * key.bitspersample // 8
        if not key.is_subsampled and sum(counts) < needed:
            raise CorruptImageError(
                "the file holds too few bytes for its pixels",
                where=where,
                seen=f"{sum(counts):,} of {needed:,}",
            )
    if key.is_tiled and math.prod(key.chunks) > 4 * pixels + _LARGEST_TILE_OVERHEAD:
        raise CorruptImageError(
            "tiles are far larger than the image", where=where, seen=f"tiles of {key.chunks}"
        )


def parsed_ome(xml: str, size: int, where: str) -> ElementTree.Element:
    """Parse OME-XML, and refuse numbers of planes that no file of this size can hold.

    Raises
    ------
    CorruptImageError
        The XML is malformed, declares entities or counts planes past the bytes of the file.
    """
    if "<!ENTITY" in xml or "<!DOCTYPE" in xml:
        raise CorruptImageError("the OME-XML declares entities; refused for safety", where=where)
    try:
        root = ElementTree.fromstring(xml.encode("utf-8", "replace"))
        for element in root.iter():
            kind = element.tag.rpartition("}")[2]
            planes = 1
            if kind == "Pixels":
                planes = math.prod(
                    int(element.get(name, 1)) for name in ("SizeZ", "SizeC", "SizeT")
                )
            elif kind == "TiffData":
                planes = max((int(v) for k, v in element.items() if k in _OME_COUNTS), default=1)
            if planes > size:
                raise CorruptImageError(
                    "the OME-XML counts more planes than the file has bytes",
                    where=where,
                    seen=f"{planes:,} planes, {size:,} bytes",
                )
    except (ElementTree.ParseError, ValueError) as error:
        raise CorruptImageError(
            "the OME-XML is malformed", where=where, seen=str(error)[:200]
        ) from error
    return root


class _Collector(logging.Filter):
    """Keeps this thread's records of one logger and lets those of other threads pass."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.get_ident()
        self.messages: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        if record.thread != self.thread:
            return True
        if record.levelno >= logging.WARNING:
            self.messages.append(record.getMessage())
        return False


@contextmanager
def collected_messages() -> Iterator[list[str]]:
    """Collect what tifffile logs in this thread instead of printing it."""
    logger, collector = logging.getLogger("tifffile"), _Collector()
    logger.addFilter(collector)
    try:
        yield collector.messages
    finally:
        logger.removeFilter(collector)
