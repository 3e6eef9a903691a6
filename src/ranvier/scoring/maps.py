"""Class maps, packed, so that pictures of a few can be made when all are scored."""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

__all__ = ["ClassMaps"]

Key = tuple[str, str, str]
"""Contender, test set and image."""


class ClassMaps:
    """Class maps of many images in bounded memory.

    Parameters
    ----------
    most_bytes
        Packed size of all together; maps beyond it are not kept.
    """

    def __init__(self, most_bytes: int = 0) -> None:
        self._left = most_bytes
        self._packed: dict[Key, tuple[bytes, tuple[int, ...]]] = {}

    def __len__(self) -> int:
        return len(self._packed)

    def put(self, key: Key, classes: NDArray[np.uint8]) -> None:
        """Keep a map if there is room."""
        if self._left <= 0:
            return
        packed = zlib.compress(np.ascontiguousarray(classes).tobytes(), 1)
        if len(packed) <= self._left:
            self._left -= len(packed)
            self._packed[key] = packed, classes.shape

    def get(self, key: Key) -> NDArray[np.uint8] | None:
        """A map that was kept, or None."""
        if key not in self._packed:
            return None
        packed, shape = self._packed[key]
        return np.frombuffer(zlib.decompress(packed), dtype=np.uint8).reshape(shape)
