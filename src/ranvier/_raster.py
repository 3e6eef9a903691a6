"""What a decoder hands over, and how it becomes one grey image."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ranvier.errors import (
    CorruptImageError,
    ImageTooLargeError,
    SettingsError,
    UnsupportedFormatError,
)
from ranvier.micrograph import Array

RGB_NAMES = ("red", "green", "blue")
_BLOCK_SAMPLES = 1 << 22
_EXACT_IN_FLOAT32 = 1 << 24
_LARGEST_FLOAT = 1e30


@dataclass(frozen=True)
class Limits:
    """How large an image may be; checked before anything is decoded.

    Attributes
    ----------
    max_pixels
        Rows times columns. The default, 4 x 10^8, is a square of 20 000 pixels (2 mm at 0.1 um per
        pixel). Measuring takes up to 50 bytes a pixel: 20 GB for an image of that size.
    max_bytes
        Size of the file. The default, 16 GiB, holds twice ``max_pixels`` of uncompressed 32-bit RGBA.
    """

    max_pixels: int = 400_000_000
    max_bytes: int = 16 * 1024**3

    def __post_init__(self) -> None:
        for name in ("max_pixels", "max_bytes"):
            if getattr(self, name) < 1:
                raise SettingsError(
                    "a limit must be at least 1", where=name, seen=getattr(self, name)
                )

    def check_pixels(self, rows: int, columns: int, where: str) -> None:
        """Refuse an image that is empty or over ``max_pixels``.

        Raises
        ------
        CorruptImageError
            The header claims no rows or no columns.
        ImageTooLargeError
            Rows times columns are over the limit.
        """
        if rows < 1 or columns < 1:
            raise CorruptImageError(
                "the header claims an empty image", where=where, seen=f"{rows} x {columns} pixels"
            )
        if rows * columns > self.max_pixels:
            raise ImageTooLargeError(
                f"the image is over the limit of {self.max_pixels:,} pixels",
                where=where,
                seen=f"{rows:,} x {columns:,} = {rows * columns:,} pixels",
                fix="If the file is trusted and memory allows, raise the limit with --max-pixels",
            )


@dataclass(frozen=True)
class TiffHints:
    """What a TIFF says about the size of its pixels, not yet judged.

    Attributes
    ----------
    ome_xml, image_index
        The OME-XML, and which of its images was read.
    imagej_unit
        The unit in ImageJ's description; None when the file is not ImageJ's.
    resolution
        Pixels per unit, along x and y.
    resolution_unit
        Value of the ResolutionUnit tag: 1 none, 2 inch, 3 cm; None without the tag.
    """

    ome_xml: str | None = None
    image_index: int = 0
    imagej_unit: str | None = None
    resolution: tuple[float, float] | None = None
    resolution_unit: int | None = None


@dataclass(frozen=True, eq=False)
class Raster:
    """One picture as a decoder made it.

    Attributes
    ----------
    samples
        Shape (rows, columns), or (rows, columns, samples): grey or red, green, blue; the last
        sample is the alpha when ``has_alpha``.
    has_alpha
        Whether the last sample is an alpha.
    notes
        What decoding decided.
    hints
        Calibration found on the way.
    channel_taken
        The channel asked for was already picked while decoding.
    """

    samples: Array
    has_alpha: bool = False
    notes: tuple[str, ...] = ()
    hints: TiffHints = field(default_factory=TiffHints)
    channel_taken: bool = False


def to_grey(
    raster: Raster, channel: int | str | None, where: str | None
) -> tuple[Array, tuple[str, ...]]:
    """Make the one grey image of a raster.

    Colour becomes the luma of ITU-R Recommendation BT.601-7 (2011), section 2.5.1,
    ``0.299 R + 0.587 G + 0.114 B``; in integers ``(299 R + 587 G + 114 B + 500) // 1000``, exactly.
    A pixel whose three samples are equal keeps exactly that value. Alpha is dropped.

    Parameters
    ----------
    raster
        Samples of any real or boolean type.
    channel
        None for the luma, or one of the samples of a colour image: 0, 1, 2 or its name.
    where
        The file, for errors.

    Returns
    -------
    tuple
        Grey levels, shape (rows, columns), C-contiguous uint8, uint16 or float32, all finite; and
        notes.

    Raises
    ------
    UnsupportedFormatError
        The sample type or layout has no exact grey in those types.
    CorruptImageError
        Pixels are NaN or infinite; the error counts them.
    SettingsError
        There is no such channel.
    """
    notes: list[str] = []
    samples, alpha = raster.samples, None
    if raster.has_alpha:
        samples, alpha = samples[..., :-1], samples[..., -1]
        notes.append(_alpha_note(alpha))
    if samples.ndim == 3 and samples.shape[2] == 1:
        samples = samples[..., 0]
    is_colour = samples.ndim == 3
    if is_colour and samples.shape[2] != 3:
        raise UnsupportedFormatError(
            "only grey, RGB and their versions with alpha are images here",
            where=where,
            seen=f"{samples.shape[2]} colour samples per pixel",
        )
    chosen = _chosen(channel, RGB_NAMES if is_colour else ("grey",), where)
    if is_colour and chosen is not None:
        samples, is_colour = samples[..., chosen], False
        notes.append(f"channel {chosen} ({RGB_NAMES[chosen]}) taken alone")
    samples, note = _standard(samples, where)
    if note:
        notes.append(note)
    if is_colour:
        notes.append("RGB converted to grey (BT.601 luma)")
        pixels = _luma(samples)
    elif samples.dtype == np.float64:
        with np.errstate(over="ignore"):
            pixels = samples.astype(np.float32)
    else:
        pixels = np.ascontiguousarray(samples)
    _refuse_non_finite(pixels, where)
    return pixels, tuple(notes)


def colour_of(raster: Raster, where: str | None) -> Array | None:
    """Red, green and blue of a raster that :func:`to_grey` accepts: a copy of shape (rows, columns, 3).

    Types are those of :func:`to_grey`. None for a grey image.
    """
    samples = raster.samples[..., :-1] if raster.has_alpha else raster.samples
    if samples.ndim != 3 or samples.shape[2] != 3:
        return None
    kept, _ = _standard(samples, where)
    return np.array(kept, dtype=np.float32 if kept.dtype == np.float64 else kept.dtype, order="C")


def _chosen(channel: int | str | None, names: tuple[str, ...], where: str | None) -> int | None:
    """Index of the channel asked for."""
    if channel is None:
        return None
    if isinstance(channel, str) and channel in names:
        return names.index(channel)
    if isinstance(channel, int) and 0 <= channel < len(names):
        return channel
    listed = ", ".join(f"{i} {name!r}" for i, name in enumerate(names))
    raise SettingsError(
        "there is no such channel", where=where, seen=repr(channel), fix=f"There is: {listed}"
    )


def _alpha_note(alpha: Array) -> str:
    """Say whether dropping the alpha hid anything."""
    opaque: Any = 1 if alpha.dtype.kind in "fb" else np.iinfo(alpha.dtype).max
    transparent = sum(int(np.count_nonzero(alpha[rows] < opaque)) for rows in _row_blocks(alpha))
    if not transparent:
        return "alpha dropped (every pixel is opaque)"
    return f"alpha dropped ({transparent} pixels are not fully opaque)"


def _standard(samples: Array, where: str | None) -> tuple[Array, str | None]:
    """Bring samples to uint8, uint16, float32 or float64 without changing a value."""
    dtype = samples.dtype.newbyteorder("=")
    if dtype == np.bool_:
        return np.where(samples, np.uint8(255), np.uint8(0)), "1-bit pixels stored as 0 and 255"
    if dtype in (np.uint8, np.uint16, np.float32, np.float64):
        kept = samples.astype(dtype, copy=False)
        return kept, "64-bit float rounded to 32-bit float" if dtype == np.float64 else None
    if dtype == np.float16:
        return samples.astype(np.float32), "16-bit float stored as 32-bit float, exactly"
    if dtype.kind not in "iu":
        raise UnsupportedFormatError(
            "this pixel type is not a grey level",
            where=where,
            seen=str(dtype),
            fix="Save the image with 8-bit, 16-bit or 32-bit float pixels",
        )
    if samples.size and dtype.itemsize > 2:
        low, high = int(samples.min()), int(samples.max())
        if max(-low, high) > _EXACT_IN_FLOAT32:
            raise UnsupportedFormatError(
                f"{dtype} grey levels do not fit a 32-bit float exactly",
                where=where,
                seen=f"values from {low} to {high}",
                fix="Save the image with 16-bit or 32-bit float pixels",
            )
    return samples.astype(np.float32), f"{dtype} stored as 32-bit float, exactly"


def _row_blocks(samples: Array) -> list[slice]:
    """Slices of rows that hold about _BLOCK_SAMPLES samples each."""
    rows = samples.shape[0]
    step = max(1, _BLOCK_SAMPLES // max(1, samples[:1].size))
    return [slice(start, min(start + step, rows)) for start in range(0, rows, step)]


def _luma(samples: Array) -> Array:
    """BT.601 luma of (rows, columns, 3), block of rows by block of rows."""
    kept = np.float32 if samples.dtype.kind == "f" else samples.dtype
    out = np.empty(samples.shape[:2], dtype=kept)
    for rows in _row_blocks(samples):
        block = samples[rows]
        if samples.dtype.kind == "f":
            red, green, blue = (block[..., i].astype(np.float64) for i in range(3))
            with np.errstate(over="ignore", invalid="ignore"):
                luma = 0.299 * red + 0.587 * green + 0.114 * blue
                equal = (red == green) & (green == blue)
                out[rows] = np.where(equal, red, luma)
        else:
            total = block[..., 0].astype(np.uint32) * np.uint32(299)
            total += block[..., 1].astype(np.uint32) * np.uint32(587)
            total += block[..., 2].astype(np.uint32) * np.uint32(114)
            total += np.uint32(500)
            out[rows] = total // np.uint32(1000)
    return out


def _refuse_non_finite(pixels: Array, where: str | None) -> None:
    """Raise when a pixel is NaN, infinite or beyond what sums of pixels can hold."""
    if pixels.dtype.kind != "f":
        return
    blocks = _row_blocks(pixels)
    bad = sum(int(np.count_nonzero(~(np.abs(pixels[rows]) <= _LARGEST_FLOAT))) for rows in blocks)
    if bad:
        raise CorruptImageError(
            "pixels are NaN, infinite or absurdly large",
            where=where,
            seen=f"{bad} of {pixels.size} pixels",
            fix="Replace them by a grey level and save the image again",
        )
