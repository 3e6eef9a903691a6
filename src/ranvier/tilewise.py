"""A micrograph and a network -> the class of every pixel, tile by tile.

For networks that take tiles of any size and see no further than a known radius. See :mod:`ranvier.patchwise` for those
that must be shown patches of one size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ranvier._doubtful_axons import checked_limit
from ranvier.backends import Backend
from ranvier.bundle import NORMALISATION, Field, Normalisation
from ranvier.errors import SettingsError
from ranvier.micrograph import CLASS_NAMES, Array, Micrograph
from ranvier.preprocess import GreyStatistics, normalise, resample, statistics, zoomed_shape
from ranvier.tiling import Box, cover, plane_shape

Progress = Callable[[int, int], None]
"""Called with (pixels done, pixels in all) after each tile."""

_AT_A_TIME = 1 << 16
"""Pixels whose classes are decided at once."""
VIEWS: dict[int, tuple[tuple[int, int], ...]] = {
    1: ((1, 1),),
    2: ((1, 1), (-1, -1)),
    4: ((1, 1), (-1, -1), (1, -1), (-1, 1)),
}
"""Number of views to the steps along rows and columns with which each is read: as it is, turned, mirrored."""


Zoom = float | Literal["auto"]
"""A factor; or ``auto``, which lets what the network sees choose one (:mod:`ranvier.zooming`)."""


@dataclass(frozen=True)
class InferenceSettings:
    """How a micrograph is shown to the network.

    Attributes
    ----------
    zoom
        The image is resampled by this factor first; results are at the input's own pixels. 1: as it is. ``auto``:
        by the factor at which the network sees fibres as it was trained to.
    views
        1: the image as it is; 2: and turned by 180 degrees; 4: and mirrored both ways. Their logits are averaged.
        Of no meaning to models that are shown patches of one size.
    max_tile_px
        Largest area that the network reads at once. It bounds the memory. Of no meaning to those models either.
    max_zoomed_px
        Largest area after a zoom, of which 16 bytes a pixel are held. It does not matter without a zoom, nor to images
        that are streamed.
    faithful
        Only for models that are shown patches: lay them as nnU-Net does (:mod:`ranvier.patchwise`), not the fast way.
    min_closure
        Axons of whose border less than this share is myelin are taken for background (nuclei, vessels, fibres without
        myelin); 0 keeps every axon. None: 0.3 for networks trained here, 0 for imported models and for those without
        a network.
    min_confidence
        Axons whose pixels' mean probability of being axon is below this are taken for background; 0 keeps every axon.
        None: 0.6 for networks trained here, else 0.
    min_contrast
        Axons that differ in grey from the myelin next to them by less than this share of what is usual in the image
        are taken for background; 0 keeps every axon. None: 0.1 for networks trained here, else 0.

    Raises
    ------
    SettingsError
        A value is out of its range.
    """

    zoom: Zoom = "auto"
    views: int = 1
    max_tile_px: int = 1800 * 1800
    max_zoomed_px: int = 200_000_000
    faithful: bool = False
    min_closure: float | None = None
    min_confidence: float | None = None
    min_contrast: float | None = None

    def __post_init__(self) -> None:
        if self.zoom != "auto":
            checked_zoom(self.zoom)
        if self.views not in VIEWS:
            raise SettingsError("views must be 1, 2 or 4", where="--views", seen=self.views)
        if self.max_tile_px < 1:
            raise SettingsError("max_tile_px must be positive", seen=self.max_tile_px)
        checked_limit(self.min_closure, "--min-closure")
        checked_limit(self.min_confidence, "--min-confidence")
        checked_limit(self.min_contrast, "--min-contrast")

    def with_every_axon(self) -> InferenceSettings:
        """The same, but every axon that a network sees is kept."""
        return replace(self, min_closure=0.0, min_confidence=0.0, min_contrast=0.0)


def checked_zoom(zoom: object) -> float:
    """A zoom that is a number within ZOOM_RANGE.

    Raises
    ------
    SettingsError
        It is not.
    """
    if not isinstance(zoom, int | float) or isinstance(zoom, bool):
        raise SettingsError(
            "the zoom must be a number, or auto", where="--zoom", seen=repr(zoom), fix="Choose auto"
        )
    zoomed_shape((1, 1), zoom)
    return float(zoom)


def fixed_zoom(settings: InferenceSettings) -> float:
    """The zoom of settings in which it is chosen.

    Raises
    ------
    SettingsError
        It is still ``auto``.
    """
    if settings.zoom == "auto":
        raise SettingsError(
            "the zoom is not chosen yet",
            where="--zoom",
            seen="auto",
            fix="Use ranvier.segment, choose one with ranvier.zooming.choose_zoom, or give a number",
        )
    return settings.zoom


def tile_logits(
    pixels: Array,
    grey: GreyStatistics,
    backend: Backend,
    *,
    field: Field,
    settings: InferenceSettings,
    normalisation: Normalisation = NORMALISATION,
) -> Iterator[tuple[Box, NDArray[np.float32]]]:
    """Run the network over an image.

    Parameters
    ----------
    pixels
        Shape (rows, columns).
    grey
        Statistics of the whole image.
    backend, field
        The network and its geometry.
    settings
        Views and tile size; the zoom does not matter here.
    normalisation
        What the network was trained on.

    Yields
    ------
    box, logits
        A part of the image and its logits, shape (classes, rows, columns). The boxes partition the image.
    """
    shape = (int(pixels.shape[0]), int(pixels.shape[1]))
    plane = plane_shape(shape, field.stride, field.minimum)
    for tile in cover(
        plane, stride=field.stride, halo=field.halo, max_read_px=settings.max_tile_px
    ):
        box = tile.write.clipped(shape)
        if box.area == 0:
            continue
        seen = normalise(_window(pixels, tile.read), grey, normalisation)
        logits = _averaged(seen, backend, settings.views)
        rows, columns = box.within(tile.read)
        yield box, logits[:, rows, columns]


@dataclass(frozen=True, eq=False)
class Prediction:
    """What the network says of every pixel.

    Attributes
    ----------
    classes
        uint8, shape of the micrograph: 0 background, 1 myelin, 2 axon.
    confidence
        uint8, the same shape: probability (softmax) of that class, times 255.
    """

    classes: NDArray[np.uint8]
    confidence: NDArray[np.uint8]


def classify(
    micrograph: Micrograph,
    backend: Backend,
    *,
    field: Field,
    settings: InferenceSettings | None = None,
    normalisation: Normalisation = NORMALISATION,
    progress: Progress | None = None,
) -> NDArray[np.uint8]:
    """Give every pixel of a micrograph its class; as :func:`predict`, without the confidence."""
    found = predict(
        micrograph,
        backend,
        field=field,
        settings=settings,
        normalisation=normalisation,
        progress=progress,
    )
    return found.classes


def predict(
    micrograph: Micrograph,
    backend: Backend,
    *,
    field: Field,
    settings: InferenceSettings | None = None,
    normalisation: Normalisation = NORMALISATION,
    progress: Progress | None = None,
) -> Prediction:
    """Give every pixel of a micrograph its class, and say how sure that is.

    Parameters
    ----------
    micrograph
        The image; a flat one (a single grey level) is background throughout, with confidence 255.
    backend, field
        The network and its geometry.
    settings
        Zoom, a number here, and tile size; None is zoom 1.
    normalisation
        What the network was trained on.
    progress
        Called after each tile.

    Raises
    ------
    SettingsError
        The zoom is not a number, or makes the image too large.
    """
    settings = settings or InferenceSettings(zoom=1.0)
    zoom = fixed_zoom(settings)
    grey = statistics(micrograph.pixels)
    classes = np.zeros(micrograph.shape, dtype=np.uint8)
    confidence = np.full(micrograph.shape, 255, dtype=np.uint8)
    if grey.is_flat:
        return Prediction(classes, confidence)
    pixels, shape = micrograph.pixels, zoomed_shape(micrograph.shape, zoom)
    zooms = shape != micrograph.shape
    if zooms:
        check_zoomed(shape, micrograph, settings, streams=True)
        pixels = resample(pixels, shape)
        grey = statistics(pixels)
        planes = np.empty((len(CLASS_NAMES), *shape), dtype=np.float32)
    done, total = 0, shape[0] * shape[1]
    tiles = tile_logits(
        pixels, grey, backend, field=field, settings=settings, normalisation=normalisation
    )
    for box, logits in tiles:
        target = box.within(Box(0, 0, *shape))
        if zooms:
            planes[(slice(None), *target)] = logits
        else:
            classes[target], confidence[target] = _decided(logits)
        done += box.area
        if progress is not None:
            progress(done, total)
    if not zooms:
        return Prediction(classes, confidence)
    return Prediction(*_decided(np.stack([resample(p, micrograph.shape) for p in planes])))


def check_zoomed(
    shape: tuple[int, int],
    micrograph: Micrograph,
    settings: InferenceSettings,
    *,
    streams: bool = False,
) -> None:
    """Refuse a zoom to a shape that memory is not meant for.

    Parameters
    ----------
    shape
        Rows and columns after the zoom.
    micrograph, settings
        The image, and what was asked for.
    streams
        Whether the model could be shown the image window by window; the error then says how.

    Raises
    ------
    SettingsError
        There would be more than ``max_zoomed_px`` pixels.
    """
    if shape != micrograph.shape and shape[0] * shape[1] > settings.max_zoomed_px:
        ways = "crop it, or work in bounded memory: --stream always" if streams else "or crop it"
        raise SettingsError(
            "the image would become too large",
            where=micrograph.path or "--zoom",
            seen=f"{shape[0]} x {shape[1]} pixels at zoom {fixed_zoom(settings):g}",
            fix=f"Choose a zoom that keeps it below {settings.max_zoomed_px:,} pixels, {ways}",
        )


def _averaged(window: NDArray[np.float32], backend: Backend, views: int) -> NDArray[np.float32]:
    """Logits (classes, rows, columns) of a window, averaged over its views.

    A window's edges lie on multiples of the stride, so its views see the same grid as views of the whole plane would.
    """
    if views == 1:
        logits: NDArray[np.float32] = backend.logits(np.ascontiguousarray(window)[None, None])[0]
        return logits
    total = np.zeros((len(CLASS_NAMES), *window.shape), dtype=np.float32)
    for down, across in VIEWS[views]:
        seen = np.ascontiguousarray(window[::down, ::across])
        total += backend.logits(seen[None, None])[0][:, ::down, ::across]
    total *= np.float32(1 / views)
    return total


def _decided(
    logits: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The likeliest class of each pixel, the first of equals, and its softmax probability times 255."""
    classes = np.zeros(logits.shape[1:], dtype=np.uint8)
    confidence = np.empty(logits.shape[1:], dtype=np.uint8)
    # A few rows at a time stay in the cache, and NumPy works on two parts at once.
    step = max(1, _AT_A_TIME // max(1, logits.shape[2]))

    def decide(top: int) -> None:
        part, rows = logits[:, top : top + step], slice(top, top + step)
        best = part[0].copy()
        for value, plane in enumerate(part[1:], start=1):
            np.copyto(classes[rows], np.uint8(value), where=plane > best)
            np.maximum(best, plane, out=best)
        total = np.zeros(best.shape, dtype=np.float32)
        for plane in part:
            total += np.exp(plane - best)
        confidence[rows] = np.rint(255 / total)

    with ThreadPoolExecutor(2) as pool:
        deque(pool.map(decide, range(0, len(classes), step)), maxlen=0)
    return classes, confidence


def _window(pixels: Array, box: Box) -> Array:
    """Cut a window that may reach past the bottom and right edges, where the image is mirrored."""
    rows, columns = pixels.shape
    if box.bottom <= rows and box.right <= columns:
        return pixels[box.top : box.bottom, box.left : box.right]
    row, column = _mirrored(box.top, box.bottom, rows), _mirrored(box.left, box.right, columns)
    return pixels[row[:, None], column[None, :]]


def _mirrored(start: int, stop: int, length: int) -> NDArray[np.intp]:
    index = np.arange(start, stop) % (2 * length)
    return np.where(index < length, index, 2 * length - 1 - index)
