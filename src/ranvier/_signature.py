"""Which format a file has, told from its first bytes and never from its name."""

from __future__ import annotations

from typing import Literal

Format = Literal["PNG", "JPEG", "TIFF"]

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
HEAD_BYTES = 132

_READ: tuple[tuple[bytes, Format], ...] = (
    (PNG_SIGNATURE, "PNG"),
    (b"\xff\xd8\xff", "JPEG"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0\x08\0\0\0", "TIFF"),
    (b"MM\0+\0\x08\0\0", "TIFF"),
)
_SUFFIXES: dict[str, Format] = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".jpe": "JPEG",
    ".jfif": "JPEG",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".btf": "TIFF",
    ".tf2": "TIFF",
    ".tf8": "TIFF",
}
_FOREIGN: tuple[tuple[int, bytes, str], ...] = (
    (0, b"GIF8", "a GIF image"),
    (0, b"BM", "a BMP image"),
    (8, b"WEBP", "a WebP image"),
    (4, b"jP  ", "a JPEG 2000 image"),
    (0, b"\xff\x4f\xff\x51", "a JPEG 2000 codestream"),
    (4, b"ftyp", "a HEIF, AVIF or MP4 file"),
    (0, b"8BPS", "a Photoshop file"),
    (0, b"ZISRAWFILE", "a Zeiss CZI file"),
    (0, b"\xda\xce\xbe\x0a", "a Nikon ND2 file"),
    (0, b"\x70\0\0\0", "a Leica LIF file"),
    (0, b"\0\0\0\x03", "a Gatan DM3 file"),
    (0, b"\0\0\0\x04", "a Gatan DM4 file"),
    (0, b"\x89HDF", "an HDF5 file"),
    (128, b"DICM", "a DICOM file"),
    (0, b"%PDF", "a PDF document"),
    (0, b"PK\x03\x04", "a ZIP archive"),
    (0, b"\x1f\x8b", "gzip-compressed data"),
    (0, b"\x93NUMPY", "a NumPy array"),
    (0, b"II", "a camera's raw file or a broken TIFF"),
    (0, b"MM", "a broken TIFF"),
)


def sniff(head: bytes) -> Format | None:
    """Return the format that the first bytes of a file announce, or None."""
    return next((name for magic, name in _READ if head.startswith(magic)), None)


def expected(suffix: str) -> Format | None:
    """Return the format that a file name's suffix announces, or None."""
    return _SUFFIXES.get(suffix.lower())


def describe(head: bytes) -> str:
    """Say in words what the first bytes of an unreadable file look like."""
    for offset, magic, words in _FOREIGN:
        if head[offset : offset + len(magic)] == magic:
            return words
    try:
        text = head[:24].decode("ascii")
    except UnicodeDecodeError:
        text = ""
    if text and all(c.isprintable() or c in "\r\n\t" for c in text):
        return f"text that begins {text!r}"
    return "unknown bytes that begin " + head[:8].hex(" ")
