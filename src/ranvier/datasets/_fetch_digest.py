"""Bytes of a file -> the digests that the DANDI archive states."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20
_PART = 64 << 20
_MOST_PARTS = 10_000
LARGEST = 5 << 40


@dataclass(frozen=True)
class Digests:
    """What a file's bytes come to.

    Attributes
    ----------
    bytes
        Its size.
    sha256
        64 hexadecimal digits.
    etag
        The dandi-etag.
    """

    bytes: int
    sha256: str
    etag: str


def part_size(size: int) -> int:
    """Bytes of each part but the last of a dandi-etag.

    64 MiB, or more where that made 10,000 parts or more (dandischema/digests/dandietag.py).
    """
    if -(-size // _PART) >= _MOST_PARTS:
        return -(-size // _MOST_PARTS)
    return _PART


def digests(path: Path) -> Digests:
    """Read a file once and return its size, SHA-256 and dandi-etag.

    The dandi-etag is that of an S3 upload in parts: the MD5 of the parts' MD5s put one after the other, a
    dash and the number of parts (dandischema/digests/dandietag.py).

    Raises
    ------
    OSError
        The file cannot be read.
    """
    size = path.stat().st_size
    left_in_part = length = part_size(size)
    whole, part = hashlib.sha256(), hashlib.md5(usedforsecurity=False)
    parts: list[bytes] = []
    read = 0
    with path.open("rb") as file:
        while chunk := file.read(min(_CHUNK, left_in_part)):
            read += len(chunk)
            whole.update(chunk)
            part.update(chunk)
            left_in_part -= len(chunk)
            if left_in_part == 0:
                parts.append(part.digest())
                part, left_in_part = hashlib.md5(usedforsecurity=False), length
    if left_in_part < length:
        parts.append(part.digest())
    joined = hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest()
    return Digests(read, whole.hexdigest(), f"{joined}-{len(parts)}")
