"""Files that are encoded in threads, as soon as what they show is known, while the rest is worked out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ranvier.calibration import PixelSize
from ranvier.exporting import instances_tiff, mask_files, overlay_png
from ranvier.micrograph import Array, Instances
from ranvier.results import OVERLAY, TABLE_ENDINGS

__all__ = ["EarlyFiles"]

_WORKERS = 2
"""Encoders and NumPy let go of the interpreter while they work."""


class EarlyFiles:
    """Encodes masks, the label image and the overlay; to be used as a context.

    Parameters
    ----------
    shown
        What the overlay shows, shape (rows, columns).
    classes
        uint8, the same shape.
    pixel_size
        Stated in the files, where it is known.
    """

    def __init__(
        self, shown: Array, classes: NDArray[np.uint8], *, pixel_size: PixelSize | None
    ) -> None:
        self._shown, self._classes, self._pixel_size = shown, classes, pixel_size
        self._pool = ThreadPoolExecutor(_WORKERS)
        self._begun: list[Future[Mapping[str, bytes]]] = []

    def masks(self) -> None:
        """Begin with the masks."""
        self._begin(lambda: mask_files(self._classes))

    def fibres(self, instances: Instances, *, overlay: bool) -> None:
        """Begin with the label image and, unless it has to wait, the overlay."""
        labels, size = instances.fibres, self._pixel_size
        if overlay:
            self._begin(
                lambda: {OVERLAY: overlay_png(self._shown, self._classes, labels, pixel_size=size)}
            )
        self._begin(lambda: {TABLE_ENDINGS[0]: instances_tiff(labels, size)})

    def take(self) -> dict[str, bytes]:
        """Wait for all that was begun: name's ending to content."""
        return {ending: file for begun in self._begun for ending, file in begun.result().items()}

    def _begin(self, make: Callable[[], Mapping[str, bytes]]) -> None:
        self._begun.append(self._pool.submit(make))

    def __enter__(self) -> EarlyFiles:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(cancel_futures=True)
