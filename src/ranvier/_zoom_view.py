"""A network that is shown parts of an image at a zoom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from ranvier._zoom_looks import Look, look_of
from ranvier._zoom_windows import Pixels
from ranvier.backends import Backend
from ranvier.bundle import Field, Normalisation
from ranvier.micrograph import CLASS_NAMES, Array
from ranvier.preprocess import GreyStatistics, resample
from ranvier.tilewise import InferenceSettings, tile_logits
from ranvier.tiling import Box, plane_shape

_LEAST_CONTRAST = 0.3
"""Of what shrinking leaves of the standard deviation, however noisy the image is."""


@dataclass(frozen=True, eq=False)
class Viewer:
    """Who looks at windows: a network, its geometry, what it was trained on, and limits of memory."""

    backend: Backend
    field: Field
    normalisation: Normalisation
    settings: InferenceSettings

    def cost(self, box: Box, zoom: float) -> int:
        """Pixels that the network is shown for a box, padding included."""
        rows, columns = plane_shape(_at(box, zoom), self.field.stride, self.field.minimum)
        return rows * columns

    def logits(self, pixels: Array, grey: GreyStatistics) -> NDArray[np.float32]:
        """What it says of all pixels as they are: shape (classes, rows, columns)."""
        logits = np.empty((len(CLASS_NAMES), *pixels.shape), dtype=np.float32)
        for box, values in tile_logits(
            pixels,
            grey,
            self.backend,
            field=self.field,
            settings=self.settings,
            normalisation=self.normalisation,
        ):
            logits[(slice(None), *box.within(Box(0, 0, *pixels.shape)))] = values
        return logits

    def look(
        self, pixels: Pixels, grey: GreyStatistics, boxes: Sequence[Box], zoom: float
    ) -> tuple[Look, NDArray[np.float32]]:
        """Show it some boxes of an image; what it sees, and the probability of fibre in the last one."""
        found = [self._probabilities(pixels.read(box), grey, _at(box, zoom)) for box in boxes]
        shown = sum(self.cost(box, zoom) for box in boxes)
        return look_of(zoom, found, shown_px=shown), 1 - found[-1][0]

    def _probabilities(
        self, part: Array, grey: GreyStatistics, shape: tuple[int, int]
    ) -> NDArray[np.float32]:
        part = np.ascontiguousarray(part)  # sums depend on how the pixels lie in memory
        seen = resample(part.astype(np.float32), shape)
        before = float(part.std(dtype=np.float64))
        # Shrinking takes noise away. What it leaves here, it leaves of the whole image, about.
        kept = float(seen.std(dtype=np.float64)) / before if before > 0 else 1.0
        level = replace(grey, std=grey.std * min(1.0, max(_LEAST_CONTRAST, kept)))
        logits = replace(self, settings=replace(self.settings, views=1)).logits(seen, level)
        logits -= logits.max(axis=0)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=0)
        return logits


def _at(box: Box, zoom: float) -> tuple[int, int]:
    return (max(1, round(box.shape[0] * zoom)), max(1, round(box.shape[1] * zoom)))
