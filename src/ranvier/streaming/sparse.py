"""What is found from a part of the pixels: tissue, the overlay and the figures of a streamed image."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from ranvier.calibration import PixelSize
from ranvier.figures import FLAGS, mean_columns
from ranvier.micrograph import Array, Fibres, Instances
from ranvier.pictures import overlay_png
from ranvier.streaming.disk_table import DiskTable
from ranvier.streaming.planes import Plane, strips
from ranvier.streaming.separating import Separated
from ranvier.streaming.sources import WindowSource
from ranvier.summary import SummarySettings, summarise
from ranvier.tiling import Box
from ranvier.tissue import find_tissue

__all__ = ["Sparse", "figures", "overlay", "overlay_factor"]

_STRIP_PX = 1 << 23
OVERLAY_PX = 16_000_000
"""An overlay has no more pixels than this."""
_COUNTED = ("touches_border", "myelinated", "in_frame", "g_ratio")


@dataclass(frozen=True, eq=False)
class Sparse:
    """Stands for an array of which only every so many pixels are ever looked at: ``plane[::n, ::n]``."""

    read: Callable[[Box], Array]
    shape: tuple[int, int]

    @property
    def size(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    def __getitem__(self, key: tuple[slice, slice]) -> Array:
        step, across = key[0].step or 1, key[1].step or 1
        height = max(step, _STRIP_PX // self.shape[1] // step * step)
        # Copies: a view would keep all pixels of its strip.
        parts = [self.read(strip)[::step, ::across].copy() for strip in strips(self.shape, height)]
        return np.concatenate(parts)


def figures(
    found: Separated,
    table: DiskTable,
    source: WindowSource,
    settings: SummarySettings,
) -> dict[str, Any]:
    """The figures of the image, as :func:`ranvier.summary.summarise` gives them in memory, tissue included.

    Tissue is found by :func:`ranvier.tissue.find_tissue`, which looks at a part of the pixels of any image; so these
    figures do not differ from those of the image in memory.
    """
    shape = found.fibres.shape
    # Only ever asked for its shape and for every n-th pixel.
    labels = cast("NDArray[np.int32]", Sparse(found.fibres.read, shape))
    pixels = cast("Array", Sparse(source.read, shape))
    instances = Instances(
        labels,
        labels,
        found.count,
        orphan_myelin_px=found.orphan_myelin_px,
        orphan_myelin_count=found.orphan_myelin_count,
        small_axons=found.small_axons,
    )
    tissue = find_tissue(instances, pixels=pixels)
    unit = "px" if table.pixel_size is None else "um"
    names = {
        *_COUNTED,
        *FLAGS,
        *(f"{kind}_area_{unit}2" for kind in ("axon", "myelin")),
        f"axon_diameter_{unit}",
        *mean_columns(dict.fromkeys(table.columns), unit),
    }
    columns = {name: table.column(name) for name in table.columns if name in names}
    return summarise(
        Fibres(columns, instances, table.pixel_size),
        shape=shape,
        settings=settings,
        tissue_px=tissue.pixels,
        tissue_source=tissue.source,
    )


def overlay_factor(shape: tuple[int, int]) -> int:
    """How many times smaller the overlay is than the image."""
    return max(1, math.ceil(math.sqrt(shape[0] * shape[1] / OVERLAY_PX)))


def overlay(
    source: WindowSource, classes: Plane, fibres: Plane, *, pixel_size: PixelSize | None
) -> bytes:
    """The overlay as PNG; of a large image a smaller one, made of means of grey levels and of single labels."""
    factor = overlay_factor(source.shape)
    small = PixelSize(pixel_size.um * factor, pixel_size.source) if pixel_size is not None else None
    grey, reduced = [], {"classes": [], "fibres": []}  # type: ignore[var-annotated]
    height = max(factor, _STRIP_PX // 4 // source.shape[1] // factor * factor)
    for strip in strips(source.shape, height):
        grey.append(_means(source.read(strip), factor))
        for name, plane in (("classes", classes), ("fibres", fibres)):
            reduced[name].append(_middles(plane.read(strip), factor))
    return overlay_png(
        np.concatenate(grey),
        np.concatenate(reduced["classes"]),
        np.concatenate(reduced["fibres"]),
        pixel_size=small,
    )


def _means(pixels: Array, factor: int) -> Array:
    """Mean of each block; blocks that the edge cuts are left out, unless there are no others."""
    if factor == 1:
        return pixels
    rows, columns = (max(1, n // factor) for n in pixels.shape)
    blocks = pixels[: rows * factor, : columns * factor]
    high, wide = (min(factor, n) for n in pixels.shape)
    means: Array = blocks.reshape(rows, high, columns, wide).mean(axis=(1, 3), dtype=np.float32)
    return means


def _middles(labels: Array, factor: int) -> Array:
    """The pixel in the middle of each of the same blocks."""
    rows, columns = (max(1, n // factor) for n in labels.shape)
    at = [np.minimum(np.arange(n) * factor + factor // 2, size - 1)
          for n, size in zip((rows, columns), labels.shape, strict=True)]  # fmt: skip
    return labels[np.ix_(*at)]
