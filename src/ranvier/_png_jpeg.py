"""PNG and JPEG: their headers are read and their structure is checked before they are decoded."""

from __future__ import annotations

import re
import struct
import zlib
from dataclasses import dataclass

from ranvier._raster import Limits, Raster
from ranvier._signature import PNG_SIGNATURE
from ranvier.errors import CorruptImageError, UnsupportedFormatError
from ranvier.micrograph import Array

_PNG_SAMPLES = {0: 1, 2: 3, 3: 3, 4: 2, 6: 4}
_PNG_DEPTHS = {0: (1, 2, 4, 8, 16), 2: (8, 16), 3: (1, 2, 4, 8), 4: (8, 16), 6: (8, 16)}
_JPEG_NO_LENGTH = frozenset((0x01, *range(0xD0, 0xD8)))
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
_TRUNCATED = "the file is truncated"
_CONVERT = "Convert it to grey or RGB and save it again"


def decode_png(data: bytes, limits: Limits, where: str) -> Raster:
    """Decode a PNG (W3C PNG Specification, third edition) without losing a grey level.

    Parameters
    ----------
    data
        The whole file.
    limits
        Checked against IHDR before anything is decompressed.
    where
        The file, for errors.

    Returns
    -------
    Raster
        1, 2 and 4-bit grey stretched to 8 bits, palettes expanded, 16-bit samples kept.

    Raises
    ------
    CorruptImageError, ImageTooLargeError
        The structure, a checksum or the compressed data is wrong; or the image is over the limit.
    """
    import imagecodecs

    rows, columns, depth, colour = check_png_header(data, limits, where)
    names = _png_chunks(data, where)
    notes = []
    if b"acTL" in names:
        notes.append("animated PNG: its default picture was read")
    if colour == 3:
        notes.append("palette expanded")
    if colour != 3 and depth < 8:
        notes.append(f"{depth}-bit grey stretched to 0 to 255")
    samples = _decoded(imagecodecs.png_decode, data, where)
    has_alpha = colour in (4, 6) or b"tRNS" in names
    count = 1 if samples.ndim == 2 else samples.shape[2]
    want = _PNG_SAMPLES[colour] + (has_alpha and colour not in (4, 6))
    bits = 16 if depth == 16 else 8
    if samples.shape[:2] != (rows, columns) or count != want or samples.itemsize * 8 != bits:
        raise CorruptImageError(
            "the decoded image differs from its header",
            where=where,
            seen=f"{samples.dtype} {samples.shape} for {rows} x {columns}, {depth} bit",
        )
    return Raster(samples, has_alpha, tuple(notes))


def check_png_header(head: bytes, limits: Limits, where: str) -> tuple[int, int, int, int]:
    """Read IHDR: rows, columns, bits per sample and colour type.

    Raises
    ------
    CorruptImageError, ImageTooLargeError
        IHDR is missing or impossible; or the image is over the limit.
    """
    if len(head) < 33:
        raise CorruptImageError(_TRUNCATED, where=where, seen="no complete PNG header")
    length, name, columns, rows, depth, colour = struct.unpack(">I4sIIBB", head[8:26])
    if name != b"IHDR" or length != 13 or depth not in _PNG_DEPTHS.get(colour, ()):
        raise CorruptImageError(
            "the PNG header is impossible", where=where, seen=head[8:33].hex(" ")
        )
    limits.check_pixels(rows, columns, where)
    return rows, columns, depth, colour


def _png_chunks(data: bytes, where: str) -> frozenset[bytes]:
    """Names of the chunks; each must be whole, its checksum right, and IEND must end them."""
    view, names, position = memoryview(data), set(), len(PNG_SIGNATURE)
    while b"IEND" not in names:
        if position + 12 > len(data):
            raise CorruptImageError(_TRUNCATED, where=where, seen=f"{len(data)} bytes, no IEND")
        length, name = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise CorruptImageError(
                _TRUNCATED,
                where=where,
                seen=f"chunk {name!r} ends at byte {end} of {len(data)}",
            )
        (claimed,) = struct.unpack_from(">I", data, end - 4)
        if zlib.crc32(view[position + 4 : end - 4]) != claimed:
            raise CorruptImageError("a checksum is wrong", where=where, seen=f"chunk {name!r}")
        names.add(name)
        position = end
    return frozenset(names)


@dataclass(frozen=True)
class _JpegHeader:
    """What the markers of a JPEG say before its first scan."""

    rows: int
    columns: int
    components: int
    adobe_transform: int | None
    orientation: int
    is_multi_picture: bool
    scan_at: int


def decode_jpeg(data: bytes, limits: Limits, where: str) -> Raster:
    """Decode a grey or colour JPEG (ITU-T T.81).

    Parameters
    ----------
    data
        The whole file.
    limits
        Checked against the frame header before anything is decompressed.
    where
        The file, for errors.

    Raises
    ------
    UnsupportedFormatError
        The colours are CMYK or YCCK.
    CorruptImageError, ImageTooLargeError
        The structure is wrong or the end is missing; or the image is over the limit.
    """
    import imagecodecs

    header = _jpeg_header(data, where)
    limits.check_pixels(header.rows, header.columns, where)
    if header.components not in (1, 3):
        ycck = header.adobe_transform == 2
        raise UnsupportedFormatError(
            "this JPEG is neither grey nor RGB",
            where=where,
            seen=f"{header.components} components" + (", YCCK" if ycck else ", CMYK or other"),
            fix=_CONVERT,
        )
    _check_jpeg_end(data, header.scan_at, where)
    samples = _decoded(imagecodecs.jpeg8_decode, data, where)
    count = 1 if samples.ndim == 2 else samples.shape[2]
    if samples.shape[:2] != (header.rows, header.columns) or count != header.components:
        raise CorruptImageError(
            "the decoded image differs from its header", where=where, seen=str(samples.shape)
        )
    notes = []
    if header.orientation != 1:
        notes.append(f"EXIF orientation {header.orientation} not applied: pixels are as stored")
    if header.is_multi_picture:
        notes.append("multi-picture JPEG: its first picture was read")
    return Raster(samples, notes=tuple(notes))


def _jpeg_header(data: bytes, where: str) -> _JpegHeader:
    """Walk the segments up to the first scan."""
    position, frame = 2, None
    adobe, orientation, multi = None, 1, False
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            raise CorruptImageError(
                "a JPEG marker is missing", where=where, seen=f"byte {position}"
            )
        marker = data[position + 1]
        if marker == 0xFF or marker in _JPEG_NO_LENGTH:
            position += 1 if marker == 0xFF else 2
            continue
        end = position + 2 + int.from_bytes(data[position + 2 : position + 4], "big")
        body = data[position + 4 : end]
        if end > len(data):
            break
        if marker in _JPEG_FRAMES and len(body) >= 6:
            frame = struct.unpack(">BHHB", body[:6])
        elif marker == 0xE1 and body.startswith(b"Exif\0\0"):
            orientation = _exif_orientation(body[6:])
        elif marker == 0xE2 and body.startswith(b"MPF\0"):
            multi = True
        elif marker == 0xEE and body.startswith(b"Adobe") and len(body) >= 12:
            adobe = body[11]
        elif marker == 0xDA:
            if frame is None:
                raise CorruptImageError("a JPEG scan comes before its frame", where=where)
            return _JpegHeader(frame[1], frame[2], frame[3], adobe, orientation, multi, end)
        elif marker == 0xD9:
            break
        position = end
    raise CorruptImageError(_TRUNCATED, where=where, seen=f"{len(data)} bytes, no JPEG scan")


def _check_jpeg_end(data: bytes, position: int, where: str) -> None:
    """Walk the scans to the end-of-image marker, which a truncated file lacks."""
    while found := _JPEG_MARKER.search(data, position):
        if data[found.end() - 1] == 0xD9:
            return
        position = found.end() + int.from_bytes(data[found.end() : found.end() + 2], "big")
    raise CorruptImageError(
        _TRUNCATED, where=where, seen=f"{len(data)} bytes, no JPEG end-of-image marker"
    )


def _exif_orientation(exif: bytes) -> int:
    """Orientation in EXIF's first directory; 1 when it says nothing usable."""
    order = {b"II": "<", b"MM": ">"}.get(exif[:2])
    if order is None or len(exif) < 10:
        return 1
    (start,) = struct.unpack_from(order + "I", exif, 4)
    if start + 2 > len(exif):
        return 1
    (count,) = struct.unpack_from(order + "H", exif, start)
    for entry in range(start + 2, min(start + 2 + 12 * count, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == 0x0112 and kind == 3:
            return int(struct.unpack_from(order + "H", exif, entry + 8)[0]) or 1
    return 1


def _decoded(decoder: object, data: bytes, where: str) -> Array:
    """Run a decoder; whatever it raises means that the file is broken."""
    import numpy as np

    try:
        return np.asarray(decoder(data))  # type: ignore[operator]
    except Exception as error:
        raise CorruptImageError(
            "the image cannot be decoded", where=where, seen=str(error)[:200]
        ) from error
