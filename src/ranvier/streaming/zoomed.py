"""An image on disk at a zoom, and what a network says of it there, brought back to the image's own pixels."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ranvier._resampling import Stretch, resample_part
from ranvier._zoom_windows import Pixels
from ranvier.micrograph import CLASS_NAMES
from ranvier.streaming.planes import Plane, cores
from ranvier.tilewise import _decided
from ranvier.tiling import Box

__all__ = ["BLANK_LOGITS", "LogitsBack", "ZoomedSource", "kept_at"]

BLANK_LOGITS = (8.0, 0.0, 0.0)
"""Of windows that are not shown: background, with a confidence that rounds to 255, and little more, so that they weigh
no more than what the network says beside them."""
_EDGE = 2048
"""Edge of the windows, before or after resampling, whichever is larger."""
_COPIED = 1024
"""Edge of the squares in which a zoomed image is written to disk."""


def _cut(before: tuple[int, int], after: tuple[int, int], box: Box) -> tuple[Stretch, Stretch, Box]:
    """A box of the result along both axes, and the box before that it depends on."""
    rows = Stretch(before[0], after[0], box.top, box.bottom)
    columns = Stretch(before[1], after[1], box.left, box.right)
    (top, bottom), (left, right) = rows.needed, columns.needed
    return rows, columns, Box(top, left, bottom, right)


def _windows(before: tuple[int, int], after: tuple[int, int], box: Box) -> list[Box]:
    """Windows that cover a box of the result, such that neither they nor what they depend on is large."""
    shrinks = min(1.0, *(a / b for a, b in zip(after, before, strict=True)))
    return [
        Box(part.top + box.top, part.left + box.left, part.bottom + box.top, part.right + box.left)
        for part in cores(box.shape, max(1, round(_EDGE * shrinks)))
    ]


@dataclass(frozen=True, eq=False)
class ZoomedSource:
    """Another image at a zoom: the values of :func:`ranvier.preprocess.resample`, window by window.

    Attributes
    ----------
    whole
        The image.
    shape
        Rows and columns after the zoom.
    """

    whole: Pixels
    shape: tuple[int, int]

    def read(self, box: Box) -> NDArray[np.float32]:
        """Grey levels of a box inside the zoomed image."""
        out = np.empty(box.shape, dtype=np.float32)
        before = self.whole.shape
        for part in _windows(before, self.shape, box):
            rows, columns, needed = _cut(before, self.shape, part)
            out[part.within(box)] = resample_part(self.whole.read(needed), rows, columns)
        return out


def kept_at(source: Pixels, shape: tuple[int, int], folder: Path, until: ExitStack) -> Pixels:
    """An image at a zoom, to be read several times.

    One that shrinks is written to disk first: so the file, which is larger, is read once.

    Parameters
    ----------
    source
        The image.
    shape
        Rows and columns after the zoom.
    folder, until
        Where it is kept, and how long.
    """
    zoomed = ZoomedSource(source, shape)
    if shape[0] * shape[1] >= source.shape[0] * source.shape[1]:
        return zoomed
    plane = until.enter_context(Plane(folder / "zoomed.plane", shape, np.float32))
    for box in cores(shape, _COPIED):
        plane.write(box, zoomed.read(box))
    plane.commit()
    return plane


class LogitsBack:
    """Logits of a zoomed image, resampled back and decided as soon as all that a row depends on is there.

    The bands of tiles that are still needed, two as a rule, are on disk.

    Parameters
    ----------
    shape
        Rows and columns of the zoomed image.
    classes, confidence
        uint8 planes of the image's own shape; written, not committed. The bands lie beside them.
    """

    def __init__(self, shape: tuple[int, int], *, classes: Plane, confidence: Plane) -> None:
        self._shape, self._classes, self._confidence = shape, classes, confidence
        self._bands: dict[tuple[int, int], list[Plane]] = {}
        self._done = 0

    def __enter__(self) -> LogitsBack:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Decide the last rows, unless there was an error, and delete the bands."""
        try:
            if kind is None:
                self._decide(self._shape[0])
        finally:
            self._drop(self._shape[0])

    def write(self, box: Box, logits: NDArray[np.float32] | None) -> None:
        """Take the logits (classes, rows, columns) of a tile; None of one that was not shown.

        Tiles come in raster order and partition the zoomed image.
        """
        rows = (box.top, box.bottom)
        if rows not in self._bands:
            self._decide(box.top)
            folder, shape = self._classes.path.parent, (box.shape[0], self._shape[1])
            self._bands[rows] = []
            for kind in CLASS_NAMES:
                path = folder / f"logits-{kind}-{box.top}.plane"
                self._bands[rows].append(Plane(path, shape, np.float32))
        within = Box(0, box.left, box.shape[0], box.right)
        for value, plane in enumerate(self._bands[rows]):
            if logits is None:
                plane.write(within, np.full(box.shape, BLANK_LOGITS[value], dtype=np.float32))
            else:
                plane.write(within, logits[value])

    def _decide(self, there: int) -> None:
        """Decide all rows that depend on nothing but the first so many rows of the zoomed image."""
        for planes in self._bands.values():
            for plane in planes:
                plane.commit()
        shape = self._classes.shape
        stop = self._done
        while stop < shape[0] and self._needed(stop)[1] <= there:
            stop += 1
        if stop == self._done:
            return
        for box in _windows(self._shape, shape, Box(self._done, 0, stop, shape[1])):
            rows, columns, needed = _cut(self._shape, shape, box)
            logits = [resample_part(part, rows, columns) for part in self._read(needed)]
            classes, confidence = _decided(np.stack(logits))
            self._classes.write(box, classes)
            self._confidence.write(box, confidence)
        self._done = stop
        self._drop(self._needed(stop)[0] if stop < shape[0] else self._shape[0])

    def _needed(self, row: int) -> tuple[int, int]:
        return Stretch(self._shape[0], self._classes.shape[0], row, row + 1).needed

    def _read(self, box: Box) -> NDArray[np.float32]:
        out = np.empty((len(CLASS_NAMES), *box.shape), dtype=np.float32)
        for (start, stop), planes in self._bands.items():
            top, bottom = max(box.top, start), min(box.bottom, stop)
            if top < bottom:
                held = Box(top - start, box.left, bottom - start, box.right)
                for plane, target in zip(planes, out, strict=True):
                    target[top - box.top : bottom - box.top] = plane.read(held)
        return out

    def _drop(self, above: int) -> None:
        """Delete the bands that end at this row or above it."""
        for rows in [rows for rows in self._bands if rows[1] <= above]:
            for plane in self._bands.pop(rows):
                plane.close()
