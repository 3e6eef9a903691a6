"""A plane of pixels on disk: compressed tiles, read and written box by box."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import DTypeLike

from ranvier.errors import OutputError
from ranvier.micrograph import Array
from ranvier.tiling import Box

__all__ = ["TILE", "Plane", "cores", "grown", "strips"]

TILE = 256
"""Edge of the tiles on disk, in pixels."""
_MOST_OPEN_BYTES = 24 << 20
"""Tiles of which only a part has been written are held up to this size."""
_LEVEL = 1
"""Of zstd: planes of labels shrink a hundredfold at the lowest level."""

_Place = tuple[int, int]


def cores(shape: tuple[int, int], edge: int) -> Iterator[Box]:
    """Squares that cover a plane, in raster order; those at the right and bottom are cut."""
    for top in range(0, shape[0], edge):
        for left in range(0, shape[1], edge):
            yield Box(top, left, top + edge, left + edge).clipped(shape)


def strips(shape: tuple[int, int], height: int) -> tuple[Box, ...]:
    """Strips over the whole width that cover a plane, from the top."""
    return tuple(
        Box(top, 0, min(top + height, shape[0]), shape[1]) for top in range(0, shape[0], height)
    )


def grown(box: Box, by: int, shape: tuple[int, int]) -> Box:
    """A box with so many pixels more on each side, as far as the plane reaches."""
    return Box(
        max(0, box.top - by),
        max(0, box.left - by),
        min(shape[0], box.bottom + by),
        min(shape[1], box.right + by),
    )


class Plane:
    """A plane on disk, zero until it is written.

    What is written is seen by readers from :meth:`commit` on. So a pass over windows that overlap reads what the
    pass before it left, whichever of the windows it has already written.

    Parameters
    ----------
    path
        A file of its own; replaced if it is there.
    shape
        Rows and columns.
    dtype
        Of the pixels.
    tile
        Edge of the tiles.
    """

    def __init__(
        self, path: Path, shape: tuple[int, int], dtype: DTypeLike, *, tile: int = TILE
    ) -> None:
        self.path, self.shape, self.dtype, self.tile = path, shape, np.dtype(dtype), tile
        self._kept: dict[_Place, tuple[int, int]] = {}
        self._new: dict[_Place, tuple[int, int]] = {}
        self._open: dict[_Place, Array] = {}
        self._end = 0
        self._most = max(4, _MOST_OPEN_BYTES // (tile * tile * self.dtype.itemsize))
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise OutputError(
                "cannot make a file to work with", where=path, seen=error.strerror
            ) from error

    def __enter__(self) -> Plane:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and delete it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self.path.unlink(missing_ok=True)

    def read(self, box: Box) -> Array:
        """Pixels of a box inside the plane, as they were committed last; an array of its own."""
        out = np.zeros(box.shape, dtype=self.dtype)
        for place, part in self._tiles(box):
            where = self._kept.get(place)
            if where is not None:
                out[part.within(box)] = self._stored(place, where)[part.within(self._box(place))]
        return out

    def any_stored(self, box: Box) -> bool:
        """Whether a tile that the box meets has other pixels than 0."""
        return any(place in self._kept for place, _ in self._tiles(box))

    def write(self, box: Box, values: Array) -> None:
        """Set the pixels of a box inside the plane.

        Raises
        ------
        OutputError
            The disk is full or cannot be written.
        """
        for place, part in self._tiles(box):
            whole = self._box(place)
            if part == whole:
                self._open.pop(place, None)
                self._store(place, values[part.within(box)])
                continue
            tile = self._open.get(place)
            if tile is None:
                tile = np.zeros(whole.shape, dtype=self.dtype)
                where = self._new.get(place) or self._kept.get(place)
                if where is not None and where[1]:
                    tile = self._stored(place, where)
                self._open[place] = tile
            tile[part.within(whole)] = values[part.within(box)]
            if len(self._open) > self._most:
                first = next(iter(self._open))
                self._store(first, self._open.pop(first))

    def commit(self) -> None:
        """Let readers see what was written."""
        for place in list(self._open):
            self._store(place, self._open.pop(place))
        self._kept |= self._new
        for place in [p for p, where in self._new.items() if not where[1]]:
            del self._kept[place]
        self._new = {}

    def _box(self, place: _Place) -> Box:
        row, col = place[0] * self.tile, place[1] * self.tile
        return Box(row, col, row + self.tile, col + self.tile).clipped(self.shape)

    def _tiles(self, box: Box) -> Iterator[tuple[_Place, Box]]:
        """Tiles that a box meets, and the common part."""
        edge = self.tile
        for row in range(box.top // edge, -(-box.bottom // edge)):
            for col in range(box.left // edge, -(-box.right // edge)):
                yield (
                    (row, col),
                    Box(
                        max(box.top, row * edge),
                        max(box.left, col * edge),
                        min(box.bottom, (row + 1) * edge),
                        min(box.right, (col + 1) * edge),
                    ),
                )

    def _stored(self, place: _Place, where: tuple[int, int]) -> Array:
        import imagecodecs

        data = imagecodecs.zstd_decode(os.pread(self._file, where[1], where[0]))
        return np.frombuffer(bytearray(data), dtype=self.dtype).reshape(self._box(place).shape)

    def _store(self, place: _Place, tile: Array) -> None:
        import imagecodecs

        if not tile.any():
            self._new[place] = (0, 0)
            return
        data = imagecodecs.zstd_encode(
            np.ascontiguousarray(tile, dtype=self.dtype).tobytes(), level=_LEVEL
        )
        try:
            written = os.pwrite(self._file, data, self._end)
        except OSError as error:
            raise OutputError("cannot write", where=self.path, seen=error.strerror) from error
        if written != len(data):
            raise OutputError("the disk is full", where=self.path.parent)
        self._new[place] = (self._end, len(data))
        self._end += len(data)
