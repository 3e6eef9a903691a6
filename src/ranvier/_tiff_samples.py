"""The samples of one TIFF page: which are colour, which is alpha, and what their values mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ranvier._tiff_structure import collected_messages
from ranvier.errors import CorruptImageError, UnsupportedFormatError
from ranvier.micrograph import Array

_MINISWHITE, _MINISBLACK, _RGB, _PALETTE, _YCBCR = 0, 1, 2, 3, 6
_PHOTOMETRIC_NAMES = {
    4: "transparency mask",
    5: "CMYK",
    6: "YCbCr",
    8: "CIE Lab",
    9: "ICC Lab",
    10: "ITU Lab",
    32803: "colour filter array",
    32844: "LogL",
    32845: "LogLuv",
    34892: "linear raw",
}
_DECODED_TO_RGB = frozenset((6, 7, 34892, 33007, 50001))
_CONVERT = "Convert it to grey or RGB and save it again"


@dataclass(frozen=True)
class Layout:
    """How the samples of a page are meant.

    Attributes
    ----------
    is_colour
        Red, green, blue (and perhaps alpha).
    has_alpha
        The last sample is an alpha.
    channels
        Independent channels; 1 for grey and for colour.
    notes
        What was decided.
    """

    is_colour: bool
    has_alpha: bool
    channels: int
    notes: tuple[str, ...] = ()


def sample_layout(page: Any, where: str | None = None) -> Layout:
    """Tell a page's layout from its tags (TIFF 6.0, PhotometricInterpretation and ExtraSamples).

    Raises
    ------
    UnsupportedFormatError
        The colour space is neither grey, RGB nor a palette.
    """
    photometric, count = _photometric(page), int(page.samplesperpixel)
    extras = tuple(int(extra) for extra in page.extrasamples or ())
    notes: tuple[str, ...] = ()
    orientation = page.tags.valueof(274)
    if orientation not in (None, 1):
        notes += (f"TIFF orientation {orientation} not applied: pixels are as stored",)
    if photometric == _MINISWHITE:
        notes += ("white stored as zero: inverted, so that brighter means brighter",)
    known = photometric in (_MINISWHITE, _MINISBLACK, _RGB, _PALETTE)
    if not known and not (photometric == _YCBCR and page.compression in _DECODED_TO_RGB):
        raise UnsupportedFormatError(
            "this TIFF is neither grey nor RGB",
            where=where,
            seen=_PHOTOMETRIC_NAMES.get(photometric, f"photometric {photometric}"),
            fix=_CONVERT,
        )
    if photometric == _PALETTE:
        if count > 1:
            raise UnsupportedFormatError(
                "a palette with more than one sample per pixel", where=where, fix=_CONVERT
            )
        return Layout(True, False, 1, (*notes, "palette expanded"))
    if photometric in (_RGB, _YCBCR) and count in (3, 4):
        if count == 4 and extras[:1] == (1,):
            notes += ("colours are stored premultiplied by the alpha and kept so",)
        return Layout(True, count == 4, 1, notes)
    if count == 2 and extras[-1:] in ((1,), (2,)):
        return Layout(False, True, 1, notes)
    return Layout(False, False, count, notes)


def read_samples(page: Any, where: str, *, decoded: Array | None = None) -> Array:
    """Decode a page and give its values their plain meaning.

    Palettes are expanded, MINISWHITE is inverted so that brighter means brighter, 1, 2 and 4-bit
    grey is stretched to 0 to 255; 9 to 16-bit samples are kept.

    Returns
    -------
    numpy.ndarray
        Shape (rows, columns) or (rows, columns, samples).

    Raises
    ------
    CorruptImageError
        The decoder failed, or complained while it went on.
    """
    key = page.keyframe
    if decoded is None:
        with collected_messages() as complaints:
            try:
                decoded = page.asarray(maxworkers=1)
            except Exception as error:
                complaints.append(f"{type(error).__name__}: {error}")
                decoded = None
        if complaints or decoded is None:
            raise CorruptImageError(
                "the TIFF's pixels cannot be decoded",
                where=where,
                seen=" ".join(complaints[0].split())[:200],
            )
    if decoded.shape != key.shape:
        raise CorruptImageError(
            "the decoded image differs from its header", where=where, seen=str(decoded.shape)
        )
    samples = decoded
    if samples.ndim == 3 and key.axes[0] not in "YX":
        samples = np.moveaxis(samples, 0, -1)
    photometric = _photometric(key)
    if photometric == _PALETTE:
        return _expanded(samples, key.colormap, where)
    if photometric == _MINISWHITE:
        alpha = samples[..., 1:]
        samples = _inverted(samples, key.bitspersample, where)
        if samples.ndim == 3 and sample_layout(key).has_alpha:
            samples[..., 1:] = alpha
    if photometric in (_MINISWHITE, _MINISBLACK) and key.bitspersample in (2, 4):
        samples = samples * np.uint8(255 // (2**key.bitspersample - 1))
    return samples


def _photometric(page: Any) -> int:
    """Photometric interpretation; without the tag, grey with black as zero."""
    return int(page.photometric) if 262 in page.tags else _MINISBLACK


def _inverted(samples: Array, bits: int, where: str) -> Array:
    """Turn white-is-zero into black-is-zero."""
    if samples.dtype == np.bool_:
        return ~samples
    if samples.dtype.kind != "u":
        raise UnsupportedFormatError(
            "white as zero has no meaning for these pixels",
            where=where,
            seen=str(samples.dtype),
            fix="Save it with black as zero (MINISBLACK)",
        )
    inverted: Array = samples.dtype.type(2**bits - 1) - samples
    return inverted


def _expanded(samples: Array, colormap: Array | None, where: str) -> Array:
    """Look palette indices up; palettes of 8-bit colours give 8 bits, others 16."""
    if colormap is None or colormap.ndim != 2 or colormap.shape[0] != 3:
        raise CorruptImageError("the palette is missing", where=where)
    palette = np.ascontiguousarray(colormap.T)
    for factor in (257, 256):
        if not np.any(palette % factor):
            palette = (palette // factor).astype(np.uint8)
            break
    indices = samples.astype(np.uint8) if samples.dtype == np.bool_ else samples
    if indices.dtype.kind != "u" or int(indices.max()) >= len(palette):
        raise CorruptImageError(
            "a pixel points outside the palette", where=where, seen=f"{len(palette)} colours"
        )
    expanded: Array = palette[indices]
    return expanded
