"""How the pixels of a CZI's subblock are stored, and what they become."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np

from ranvier.errors import CorruptImageError, UnsupportedFormatError
from ranvier.micrograph import Array

__all__ = ["COMPRESSIONS", "PIXEL_TYPES", "RAW", "decoded"]

PIXEL_TYPES: dict[int, tuple[np.dtype[Any], int]] = {
    0: (np.dtype("u1"), 1),
    1: (np.dtype("<u2"), 1),
    2: (np.dtype("<f4"), 1),
    3: (np.dtype("u1"), 3),
    4: (np.dtype("<u2"), 3),
    8: (np.dtype("<f4"), 3),
    9: (np.dtype("u1"), 4),
    12: (np.dtype("<i4"), 1),
}
"""Type and samples of Zeiss's pixel types: Gray8, Gray16, Gray32Float, Bgr24, Bgr48, Bgr96Float, Bgra32, Gray32."""
RAW = 0
COMPRESSIONS = {RAW: "raw", 1: "JPEG", 2: "LZW", 4: "JPEG XR", 5: "zstd", 6: "zstd with a header"}
_PICTURES = (1, 4)
_HILO_CHUNK = 1
_JXR_WIDTH, _JXR_HEIGHT = 0xBC80, 0xBC81


def decoded(data: bytes, compression: int, pixel_type: int, *, shape: tuple[int, int]) -> Array:
    """Decode a subblock.

    Some writers state one row or column more than they store in levels of a pyramid; the last one is then repeated.

    Parameters
    ----------
    data
        As it is stored.
    compression, pixel_type
        Zeiss's numbers for them.
    shape
        Rows and columns that the directory states.

    Returns
    -------
    Array
        Shape (rows, columns, samples), red first; an alpha is dropped.

    Raises
    ------
    CorruptImageError
        The pixels are fewer or more than stated.
    UnsupportedFormatError
        They are compressed in a way that is not known.
    """
    dtype, samples = PIXEL_TYPES[pixel_type]
    size = shape[0] * shape[1] * samples * dtype.itemsize
    if compression == RAW:
        return _of_bytes(data, dtype, samples, shape=shape)
    try:
        if compression in _PICTURES:
            pixels = _picture(data, compression, dtype, shape=(*shape, samples))
            return _fitted(pixels[..., :3], shape)
        stored = _unpacked(data, compression, size, dtype=dtype)
        return _of_bytes(stored, dtype, samples, shape=shape)
    except Exception:
        # Some writers leave pixels as they are and say that they are compressed.
        if len(data) != size:
            raise
        return _of_bytes(data, dtype, samples, shape=shape)


def _of_bytes(
    stored: bytes, dtype: np.dtype[Any], samples: int, *, shape: tuple[int, int]
) -> Array:
    """Pixels from bytes that are not, or no longer, compressed."""
    for rows, columns in ((0, 0), (1, 0), (0, 1), (1, 1)):
        smaller = (shape[0] - rows, shape[1] - columns)
        if min(smaller) > 0 and len(stored) == smaller[0] * smaller[1] * samples * dtype.itemsize:
            pixels = np.frombuffer(stored, dtype).reshape(*smaller, samples)
            return _fitted(pixels if samples == 1 else pixels[..., 2::-1], shape)
    raise CorruptImageError(
        "a subblock holds another number of pixels than the directory states",
        seen=f"{len(stored)} bytes for {shape[0]} x {shape[1]} pixels",
    )


def _unpacked(data: bytes, compression: int, size: int, *, dtype: np.dtype[Any]) -> bytes:
    """The bytes of the pixels; no more than ``size``."""
    import imagecodecs

    if compression == 2:
        return bytes(imagecodecs.lzw_decode(data, out=size))
    if compression == 5:
        return bytes(imagecodecs.zstd_decode(data, out=size))
    if compression != 6:
        raise UnsupportedFormatError("this compression is not known", seen=compression)
    head, halves = (data[0] if data else 0), False
    if head == 3 and data[1] == _HILO_CHUNK:
        halves = bool(data[2] & 1)
    elif head != 1:
        raise UnsupportedFormatError("this kind of zstd is not known", seen=data[:4].hex())
    plain = bytes(imagecodecs.zstd_decode(data[head:], out=size))
    if not halves or dtype.itemsize != 2:
        return plain
    low, high = np.frombuffer(plain, np.uint8).reshape(2, -1)
    return np.stack((low, high), axis=1).tobytes()


def _picture(
    data: bytes, compression: int, dtype: np.dtype[Any], *, shape: tuple[int, int, int]
) -> Array:
    """Pixels of a JPEG or a JPEG XR, which decode with red first; its size is looked at before."""
    import imagecodecs

    if compression == 1:
        out = np.empty(shape if shape[2] > 1 else shape[:2], dtype=dtype)
        return np.asarray(imagecodecs.jpeg8_decode(data, out=out)).reshape(shape)
    rows, columns = _jxr_shape(data)
    if not (0 <= shape[0] - rows <= 1 and 0 <= shape[1] - columns <= 1):
        raise CorruptImageError(
            "a JPEG XR has another size than the directory states",
            seen=f"{rows} x {columns} and {shape[0]} x {shape[1]} pixels",
        )
    pixels = np.asarray(imagecodecs.jpegxr_decode(data))
    if pixels.dtype != dtype or pixels.size != rows * columns * shape[2]:
        raise CorruptImageError(
            "a JPEG XR has other pixels than the directory states",
            seen=f"{pixels.dtype}, shape {pixels.shape}",
        )
    return pixels.reshape(rows, columns, shape[2])


def _jxr_shape(data: bytes) -> tuple[int, int]:
    """Rows and columns that a JPEG XR states (ITU-T T.832, annex A: a directory as that of TIFF)."""
    found = {}
    at = struct.unpack_from("<I", data, 4)[0]
    for index in range(struct.unpack_from("<H", data, at)[0]):
        tag, kind, _, value = struct.unpack_from("<HHII", data, at + 2 + 12 * index)
        found[tag] = value & 0xFFFF if kind == 3 else value & 0xFF if kind == 1 else value
    return found[_JXR_HEIGHT], found[_JXR_WIDTH]


def _fitted(pixels: Array, shape: tuple[int, int]) -> Array:
    """Pixels with the last row and column repeated where they are missing."""
    missing = [want - have for want, have in zip(shape, pixels.shape[:2], strict=True)]
    if not any(missing):
        return pixels
    return np.pad(pixels, ((0, missing[0]), (0, missing[1]), (0, 0)), mode="edge")
