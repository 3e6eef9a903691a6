"""Pixels -> PNG (ISO/IEC 15948), several times faster than a writer that weighs five filters for every row.

Each row is stored as its difference from the row above (filter 2), which suits masks and micrographs, and compressed by
libdeflate. The same pixels always give the same bytes.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["encode_png"]

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GREY, _RGB = 0, 2
_UP = 2
_METRE = 1
_LEVEL = 3
_LARGEST_CHUNK = 1 << 30


def encode_png(pixels: NDArray[np.uint8], *, per_metre: int | None = None) -> bytes:
    """Encode a picture.

    Parameters
    ----------
    pixels
        uint8, shape (rows, columns) or (rows, columns, 3).
    per_metre
        Pixels per metre that the file states, or None for none.
    """
    import imagecodecs

    rows, columns = pixels.shape[:2]
    colour = _GREY if pixels.ndim == 2 else _RGB
    lines = pixels.reshape(rows, -1)
    filtered = np.empty((rows, 1 + lines.shape[1]), dtype=np.uint8)
    filtered[:, 0] = _UP
    filtered[:1, 1:] = lines[:1]
    np.subtract(lines[1:], lines[:-1], out=filtered[1:, 1:])
    content: Any = filtered  # any buffer will do
    body = memoryview(imagecodecs.deflate_encode(content, level=_LEVEL, raw=False))
    parts = [
        _SIGNATURE,
        _chunk(b"IHDR", struct.pack(">IIBBBBB", columns, rows, 8, colour, 0, 0, 0)),
    ]
    if per_metre is not None:
        parts.append(_chunk(b"pHYs", struct.pack(">IIB", per_metre, per_metre, _METRE)))
    parts += [
        _chunk(b"IDAT", body[at : at + _LARGEST_CHUNK])
        for at in range(0, len(body), _LARGEST_CHUNK)
    ]
    parts.append(_chunk(b"IEND", b""))
    return b"".join(parts)


def _chunk(name: bytes, content: bytes | memoryview) -> bytes:
    check = zlib.crc32(content, zlib.crc32(name))
    return b"".join((struct.pack(">I", len(content)), name, content, struct.pack(">I", check)))
