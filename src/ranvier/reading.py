"""From a path or an array to a Micrograph: one grey image, its calibration and its hash."""

from __future__ import annotations

import hashlib
import io
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from ranvier._pixel_size import find_pixel_size
from ranvier._raster import Limits, Raster, colour_of, to_grey
from ranvier._signature import HEAD_BYTES, Format, describe, expected, sniff
from ranvier.calibration import checked
from ranvier.errors import (
    CorruptImageError,
    ImageTooLargeError,
    ReadError,
    SettingsError,
    UnsupportedFormatError,
)
from ranvier.micrograph import Micrograph

__all__ = ["Limits", "from_array", "is_image", "read"]


class _AloneFile(io.FileIO):
    """A file that hides its number, so that decoders can neither map it nor look beside it."""

    def fileno(self) -> int:
        raise io.UnsupportedOperation("fileno")


def read(
    path: str | os.PathLike[str],
    *,
    pixel_size: float | None = None,
    page: int | None = None,
    channel: int | str | None = None,
    limits: Limits = Limits(),  # noqa: B008  # frozen
    keep_colour: bool = False,
) -> Micrograph:
    """Read one grey image from a PNG, JPEG, TIFF, BigTIFF or OME-TIFF file.

    The format is told by the first bytes. Grey levels are kept: 16-bit images stay 16-bit. Colour
    becomes luma (ITU-R BT.601); ``Micrograph.notes`` says so, and names every other decision.

    Parameters
    ----------
    path
        The file.
    pixel_size
        Edge of a pixel in micrometres; when given, the file's own metadata are not judged.
    page
        Index, from 0, in a file of several pages, z planes or time points.
    channel
        Index, from 0, or OME name of a channel; on a colour image 0, 1, 2 take red, green or blue
        alone.
    limits
        Bytes and pixels above which a file is refused before it is decoded.
    keep_colour
        Keep red, green and blue, too, where the image has them and no ``channel`` is chosen.

    Returns
    -------
    Micrograph
        Pixels of shape (rows, columns): uint8, uint16 or float32, C-contiguous, finite.

    Raises
    ------
    ReadError
        The file is missing, not a file, empty or may not be read; or, more precisely,
        UnsupportedFormatError, CorruptImageError, ImageTooLargeError, AmbiguousImageError.
    PixelSizeError
        The pixel size found is anisotropic or absurd.
    SettingsError
        There is no such page or channel.
    """
    path = Path(path)
    where = str(path)
    _check_choice(page, channel)
    with _opened(path, limits) as (file, size):
        head = file.read(HEAD_BYTES)
        kind = sniff(head)
        if kind is None:
            raise UnsupportedFormatError(
                "not an image that can be read here",
                where=where,
                seen=describe(head),
                fix="Export it as PNG or TIFF",
            )
        raster, digest = _decoded(file, size, kind, where, (page, channel, limits))
    pixels, notes = to_grey(raster, None if raster.channel_taken else channel, where)
    colour = colour_of(raster, where) if keep_colour and channel is None else None
    if colour is not None:
        notes = (*notes, "red, green and blue kept for the model")
    size_found, size_notes = find_pixel_size(path, raster.hints, pixel_size)
    named = expected(path.suffix)
    renamed = (
        (f"named {path.suffix} but its bytes are {kind}",) if named not in (None, kind) else ()
    )
    all_notes = (*renamed, *raster.notes, *notes, *size_notes)
    return Micrograph(pixels, size_found, path, digest, all_notes, colour)


def is_image(path: str | os.PathLike[str]) -> bool:
    """Say whether a file's first bytes are those of a format that :func:`read` reads.

    False for folders and for files that are missing or may not be read.
    """
    try:
        if not stat.S_ISREG(Path(path).stat().st_mode):
            return False
        with Path(path).open("rb") as file:
            return sniff(file.read(HEAD_BYTES)) is not None
    except (OSError, ValueError):
        return False


def from_array(
    pixels: ArrayLike, *, pixel_size: float | None = None, keep_colour: bool = False
) -> Micrograph:
    """Make a micrograph of an array, by the rules of :func:`read`.

    Parameters
    ----------
    pixels
        Shape (rows, columns), or (rows, columns, n): n = 1 grey, 2 grey and alpha, 3 RGB, 4 RGBA.
        Boolean, integer or float.
    pixel_size
        Edge of a pixel in micrometres.
    keep_colour
        Keep red, green and blue, too.

    Returns
    -------
    Micrograph
        Its pixels are a copy; its hash covers the grey pixels, their shape and their type.

    Raises
    ------
    UnsupportedFormatError
        Shape or type is not that of an image.
    CorruptImageError
        There are no pixels, or some are NaN or infinite.
    PixelSizeError
        The pixel size is absurd.
    """
    samples = np.asarray(pixels)
    if samples.ndim not in (2, 3) or (samples.ndim == 3 and not 1 <= samples.shape[2] <= 4):
        raise UnsupportedFormatError(
            "an image has shape (rows, columns) or (rows, columns, 1 to 4)",
            where="array",
            seen=samples.shape,
        )
    if samples.size == 0:
        raise CorruptImageError("the array is empty", where="array", seen=samples.shape)
    has_alpha = samples.ndim == 3 and samples.shape[2] in (2, 4)
    raster = Raster(samples, has_alpha)
    grey, notes = to_grey(raster, None, "array")
    colour = colour_of(raster, "array") if keep_colour else None
    if np.may_share_memory(grey, samples):
        grey = grey.copy()
    digest = hashlib.sha256(f"{grey.dtype.name} {grey.shape}\n".encode())
    digest.update(np.ascontiguousarray(grey.astype(grey.dtype.newbyteorder("<"), copy=False)).data)
    size = None if pixel_size is None else checked(pixel_size, pixel_size, "option", where="array")
    return Micrograph(grey, size, None, digest.hexdigest(), notes, colour)


@contextmanager
def _opened(path: Path, limits: Limits) -> Iterator[tuple[io.BufferedReader[Any], int]]:
    """Open a regular file that is neither empty nor over the limit."""
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ReadError("this is a folder, not an image", where=path)
        if not stat.S_ISREG(status.st_mode):
            raise ReadError("this is not a regular file", where=path)
        raw = _AloneFile(path)
    except FileNotFoundError as error:
        raise ReadError("there is no such file", where=path) from error
    except PermissionError as error:
        raise ReadError(
            "the file may not be read", where=path, fix="Check its permissions"
        ) from error
    except (OSError, ValueError) as error:
        raise ReadError("the file cannot be opened", where=path, seen=error) from error
    with io.BufferedReader(raw) as file:
        size = status.st_size
        if size == 0:
            raise ReadError("the file is empty", where=path)
        if size > limits.max_bytes:
            raise ImageTooLargeError(
                f"the file is over the limit of {limits.max_bytes:,} bytes",
                where=path,
                seen=f"{size:,} bytes",
                fix="Cut the image into parts, or raise max_bytes in the limits",
            )
        yield file, size


def _decoded(
    file: io.BufferedReader, size: int, kind: Format, where: str, choice: tuple[Any, Any, Limits]
) -> tuple[Raster, str]:
    """Decode the file and hash its bytes."""
    page, channel, limits = choice
    try:
        if kind == "TIFF":
            from ranvier._tiff import decode_tiff

            raster = decode_tiff(file, size, where, page=page, channel=channel, limits=limits)
            file.seek(0)
            return raster, hashlib.file_digest(file, "sha256").hexdigest()
        from ranvier._png_jpeg import check_png_header, decode_jpeg, decode_png

        if page not in (None, 0):
            raise SettingsError(f"a {kind} has one page", where=where, seen=f"page {page}")
        file.seek(0)
        if kind == "PNG":
            check_png_header(file.read(HEAD_BYTES), limits, where)
            file.seek(0)
        data = file.read()
        decode = decode_png if kind == "PNG" else decode_jpeg
        return decode(data, limits, where), hashlib.sha256(data).hexdigest()
    except OSError as error:
        raise ReadError("the file cannot be read", where=where, seen=error) from error
    except MemoryError as error:
        raise ImageTooLargeError(
            "there is not enough memory for the image", where=where, seen=f"{size:,} bytes"
        ) from error


def _check_choice(page: int | None, channel: int | str | None) -> None:
    """Refuse choices that can fit no file."""
    for name, value in (("page", page), ("channel", channel)):
        if isinstance(value, bool) or (isinstance(value, int) and value < 0):
            raise SettingsError(f"a {name} is counted from 0", where=name, seen=repr(value))
