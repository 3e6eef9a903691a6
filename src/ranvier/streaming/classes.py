"""The class of every pixel of an image on disk, and how sure the network is of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._zoom_windows import Pixels
from ranvier.errors import SettingsError
from ranvier.inference import Model
from ranvier.micrograph import Array
from ranvier.preprocess import GreyStatistics, normalise, zoomed_shape
from ranvier.streaming.grey import streamed_statistics
from ranvier.streaming.planes import Plane
from ranvier.streaming.sources import WindowSource
from ranvier.streaming.suiting import check_zoom, taken_zoom
from ranvier.streaming.zoomed import LogitsBack, kept_at
from ranvier.tilewise import InferenceSettings, _averaged, _decided, _mirrored
from ranvier.tiling import Box, Tile, cover, plane_shape

__all__ = ["BlankSettings", "Seen", "check_model", "classify_streamed"]

Progress = Callable[[int, int], None]
_Write = Callable[[Box, NDArray[np.float32] | None], None]
_CELL = 16
"""Edge, in pixels, of the cells whose grey levels are compared."""


@dataclass(frozen=True)
class BlankSettings:
    """Which windows are not shown to the network.

    Attributes
    ----------
    skip
        Whether any are left out.
    texture
        A window is blank if the standard deviation of its pixels, in every cell of 16 x 16 pixels, and that of the
        cells' means is at most this share of the image's standard deviation ...
    most_noise
        ... and at most this share of its range from least to greatest grey level. So an image that is noise all over
        is never blank.

    Raises
    ------
    SettingsError
        A share is not between 0 and 1.
    """

    skip: bool = True
    texture: float = 0.15
    most_noise: float = 0.05

    def __post_init__(self) -> None:
        for name in ("texture", "most_noise"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0 <= value <= 1):
                raise SettingsError("must be from 0 to 1", where=name, seen=value)

    def limit(self, grey: GreyStatistics) -> float:
        """Largest standard deviation of a blank window, in grey levels."""
        return min(self.texture * grey.std, self.most_noise * (grey.high - grey.low))


@dataclass(frozen=True)
class Seen:
    """What was shown to the network.

    Attributes
    ----------
    zoom
        The zoom that was asked for and taken; see :func:`ranvier.streaming.suiting.taken_zoom`.
    grey
        Statistics of the image at that zoom.
    windows, blank_windows
        How many windows there are, and how many of them were blank and not shown.
    blank_share
        Share of the image in those.
    """

    zoom: Mapping[str, Any]
    grey: GreyStatistics
    windows: int
    blank_windows: int
    blank_share: float


def check_model(model: Model, settings: InferenceSettings) -> None:
    """Make sure that a model can be shown an image window by window.

    Raises
    ------
    SettingsError
        It must be shown patches or see the whole image.
    """
    if not model.sees_windows:
        raise SettingsError(
            "this model cannot segment images in parts: it looks at each image as a whole",
            where=model.bundle.name,
            fix="Use a model with a network made by Ranvier, or cut the image and use --stream never",
        )
    if settings.faithful:
        raise SettingsError(
            "only models imported from nnU-Net can be run as nnU-Net runs them, and they see each image as a whole",
            where="--faithful",
            fix="Leave it out",
        )


def classify_streamed(
    source: WindowSource,
    model: Model,
    *,
    classes: Plane,
    confidence: Plane,
    settings: InferenceSettings,
    blank: BlankSettings = BlankSettings(),  # frozen
    progress: Progress | None = None,
) -> Seen:
    """Give every pixel its class, tile by tile, as :func:`ranvier.tilewise.predict` does in memory.

    The zoom and the tiles are the same, and so are the statistics of the image, and the weights by which pixels and
    logits are resampled; so every class and every confidence is the same, except where windows are blank and not shown:
    these are background, with confidence 255.

    Parameters
    ----------
    source
        The image.
    model
        See :func:`check_model`.
    classes, confidence
        uint8 planes of the image's shape; written and committed. Work at a zoom leaves files beside them meanwhile.
    settings
        Zoom, views and size of tiles. Zoom ``auto`` is chosen by what the network sees, as in memory.
    blank
        Which windows are left out. At a zoom they are blank as the network would see them.
    progress
        Called with pixels done and pixels in all, at the zoom.

    Raises
    ------
    SettingsError
        The model cannot be shown windows, or there would be far too many pixels at the zoom.
    """
    check_model(model, settings)
    check_zoom(source.shape, settings)
    grey = streamed_statistics(source)
    zoom = taken_zoom(source, model, grey, settings)
    shape = zoomed_shape(source.shape, zoom["chosen"])
    flat, windows, empty, empty_px, done = grey.is_flat, 0, 0, 0, 0
    with ExitStack() as until:
        shown: Pixels = source
        write: _Write = partial(_write, classes, confidence)
        if shape != source.shape and not flat:
            shown = kept_at(source, shape, classes.path.parent, until)
            grey = streamed_statistics(shown)
            back = LogitsBack(shape, classes=classes, confidence=confidence)
            write = until.enter_context(back).write
        limit = blank.limit(grey) if blank.skip else -1.0
        for tile, box in _tiles(shown.shape, model, settings):
            logits = None
            if not flat and (pixels := _unless_blank(shown, tile.read, limit)) is not None:
                seen = normalise(pixels, grey, model.bundle.normalisation)
                logits = _averaged(seen, model.backend, settings.views)
                logits = logits[(slice(None), *box.within(tile.read))]
            elif not flat:
                empty, empty_px = empty + 1, empty_px + box.area
            write(box, logits)
            windows, done = windows + 1, done + box.area
            if progress is not None:
                progress(done, shown.shape[0] * shown.shape[1])
    classes.commit()
    confidence.commit()
    return Seen(zoom, grey, windows, empty, empty_px / done)


def _tiles(
    shape: tuple[int, int], model: Model, settings: InferenceSettings
) -> Iterator[tuple[Tile, Box]]:
    """What the network reads, and which part of the image it says something of."""
    field = model.bundle.field
    plane = plane_shape(shape, field.stride, field.minimum)
    for tile in cover(
        plane, stride=field.stride, halo=field.halo, max_read_px=settings.max_tile_px
    ):
        box = tile.write.clipped(shape)
        if box.area:
            yield tile, box


def _write(classes: Plane, confidence: Plane, box: Box, logits: NDArray[np.float32] | None) -> None:
    """Decide a tile and write it; background where it was not shown."""
    if logits is None:
        classes.write(box, np.zeros(box.shape, np.uint8))
        confidence.write(box, np.full(box.shape, 255, np.uint8))
        return
    for plane, values in zip((classes, confidence), _decided(logits), strict=True):
        plane.write(box, values)


def _unless_blank(source: Pixels, box: Box, limit: float) -> Array | None:
    """Pixels of a window; None if it is blank. No window is where the limit is negative."""
    pixels = _mirrored_window(source, box)
    return None if limit >= 0 and is_blank(pixels, limit) else pixels


def is_blank(pixels: Array, limit: float) -> bool:
    """Whether a window shows nothing: even in every cell, and from cell to cell.

    Parameters
    ----------
    pixels
        Shape (rows, columns).
    limit
        Largest standard deviation, in grey levels; of pixels in each cell, and of the means of cells.
    """
    rows, columns = (n // _CELL * _CELL for n in pixels.shape)
    if not rows or not columns:
        return bool(pixels.std(dtype=np.float64) <= limit)
    # Cells from the first corner, and from the last: together they hold every pixel.
    return _is_even(pixels[:rows, :columns], limit) and _is_even(pixels[-rows:, -columns:], limit)


def _is_even(pixels: Array, limit: float) -> bool:
    rows, columns = pixels.shape
    cells = pixels.reshape(rows // _CELL, _CELL, columns // _CELL, _CELL)
    if float(cells[::4, :, ::4].std(axis=(1, 3), dtype=np.float64).max()) > limit:
        return False
    means: NDArray[np.float64] = cells.mean(axis=(1, 3), dtype=np.float64)
    if float(means.std()) > limit or float(np.ptp(means)) > 6 * limit:
        return False
    return bool(cells.std(axis=(1, 3), dtype=np.float64).max() <= limit)


def _mirrored_window(source: Pixels, box: Box) -> Array:
    """Read a window that may reach past the bottom and right edges, where the image is mirrored."""
    rows, columns = source.shape
    if box.bottom <= rows and box.right <= columns:
        return source.read(box)
    row, column = _mirrored(box.top, box.bottom, rows), _mirrored(box.left, box.right, columns)
    held = Box(int(row.min()), int(column.min()), int(row.max()) + 1, int(column.max()) + 1)
    seen: Array = source.read(held)[(row - held.top)[:, None], (column - held.left)[None, :]]
    return seen
