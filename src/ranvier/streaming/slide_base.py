"""What all readers of slides share."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from ranvier._raster import Raster, to_grey
from ranvier.calibration import PixelSize
from ranvier.errors import CorruptImageError, RanvierError
from ranvier.micrograph import Array
from ranvier.tiling import Box

__all__ = ["Slide", "unreadable"]


def unreadable(path: Path, error: Exception) -> CorruptImageError:
    """The error for whatever a reader of slides says of a file."""
    seen = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return CorruptImageError("the slide cannot be read", where=path, seen=seen)


class Slide:
    """A :class:`ranvier.streaming.sources.WindowSource` that lacks only its samples."""

    def __init__(self, path: Path) -> None:
        self._path, self._open = path, ExitStack()
        self._shape = (0, 0)
        self._size: PixelSize | None = None
        self._notes: tuple[str, ...] = ()
        self._channel: int | str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._shape

    @property
    def pixel_size(self) -> PixelSize | None:
        """Edge of a pixel of this level."""
        return self._size

    @property
    def notes(self) -> tuple[str, ...]:
        """What reading decided."""
        return self._notes

    def read(self, box: Box) -> Array:
        """Grey levels of a box."""
        try:
            samples = self._samples(box)
        except (RanvierError, MemoryError):
            raise
        except Exception as error:
            raise unreadable(self._path, error) from error
        return to_grey(Raster(samples), self._channel, str(self._path))[0]

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def _samples(self, box: Box) -> Array:
        raise NotImplementedError

    def _note_grey(self, *more: str) -> None:
        """Keep the notes of turning pixels into grey, and others."""
        samples = self._samples(Box(0, 0, 1, 1))
        self._notes = (*more, *to_grey(Raster(samples), self._channel, str(self._path))[1])
