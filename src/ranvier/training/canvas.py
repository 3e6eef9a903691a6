"""A training image in memory, ready to cut patches from."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as nnf
from numpy.typing import NDArray
from torch import Tensor

from ranvier.bundle import NORMALISATION, Normalisation
from ranvier.micrograph import CLASS_NAMES, Array
from ranvier.preprocess import normalise, statistics

_PROBE_PIXELS = 4096
_PLACES = 50_000


@dataclass(frozen=True, eq=False)
class Canvas:
    """A training image, ready to cut patches from.

    Attributes
    ----------
    levels
        Normalised grey, float32 tensors (1, 1, rows, columns): full size and halved again and again, so that
        shrinking does not alias.
    classes
        float32 (1, 1, rows, columns) class of every pixel, at full size.
    foreground
        (n, 2) row and column of pixels of axon or myelin; may be empty.
    probe
        A sample of the grey levels, from which the look after randomisation is standardised again.
    by_class
        As ``foreground``, for myelin and for axon alone; empty unless asked for.
    soft
        uint8 (1, 2, rows, columns): what to learn of myelin and of axon, times 255, where that is not the classes.
    base
        Zoom that all zooms are relative to.
    """

    levels: tuple[Tensor, ...]
    classes: Tensor
    foreground: NDArray[np.int32]
    probe: Tensor
    by_class: tuple[NDArray[np.int32], ...] = ()
    soft: Tensor | None = None
    base: float = 1.0

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (int(self.classes.shape[2]), int(self.classes.shape[3]))

    def foreground_place(
        self, share: float, rng: np.random.Generator, *, by_class: bool
    ) -> tuple[int, int] | None:
        """Row and column of a pixel of axon or myelin, with the probability ``share``; otherwise None.

        With ``by_class`` the class is drawn first, among those that the image has. An image without any has none.
        """
        present = [p for p in (self.by_class if by_class else (self.foreground,)) if len(p)]
        if not present or rng.random() >= share:
            return None
        places = present[rng.integers(len(present))] if by_class else present[0]
        row, column = places[rng.integers(len(places))]
        return (int(row), int(column))

    def targets_at(self, grid: Tensor) -> Tensor:
        """What to learn, at the places of a grid.

        Parameters
        ----------
        grid
            float32 (1, rows, columns, 2), as for ``torch.nn.functional.grid_sample`` with ``align_corners=False``;
            outside the image, the image is mirrored.

        Returns
        -------
        Tensor
            int64 classes (rows, columns) of the nearest pixels; of a canvas with ``soft``, float32 probabilities
            (3, rows, columns), interpolated linearly.
        """
        if self.soft is not None:
            return _soft_targets(self.soft, grid)
        classes = nnf.grid_sample(
            self.classes, grid, mode="nearest", padding_mode="reflection", align_corners=False
        )
        return classes[0, 0].round().long()


def _soft_targets(soft: Tensor, grid: Tensor) -> Tensor:
    """Interpolate uint8 planes without a float copy of more than the patch's surroundings."""
    places, spans, starts = [], [], []
    for axis, length in enumerate((int(soft.shape[3]), int(soft.shape[2]))):
        pixel = ((grid[..., axis] + 1) * length - 1) / 2 + 0.5  # 0 and length are the edges
        pixel = pixel.remainder(2 * length)
        pixel = torch.where(pixel > length, 2 * length - pixel, pixel) - 0.5
        first = max(0, int(pixel.min().floor()))
        last = min(length, int(pixel.max().ceil()) + 1)
        places.append((2 * (pixel - first) + 1) / (last - first) - 1)
        starts.append(first)
        spans.append(last)
    window = soft[..., starts[1] : spans[1], starts[0] : spans[0]].float() / 255
    found = nnf.grid_sample(
        window, torch.stack(places, dim=-1), padding_mode="border", align_corners=False
    )[0]
    rest = (1 - found.sum(dim=0, keepdim=True)).clamp_min(0)
    return torch.cat((rest, found))


def canvas(
    pixels: Array,
    classes: NDArray[np.uint8],
    rng: np.random.Generator,
    *,
    normalisation: Normalisation = NORMALISATION,
    by_class: bool = False,
    soft: NDArray[np.uint8] | None = None,
    base: float = 1.0,
) -> Canvas:
    """Prepare an image (rows, columns) and its classes.

    Parameters
    ----------
    pixels, classes
        Of one shape.
    rng
        Chooses the places and grey levels that are kept.
    normalisation
        What the network is to see.
    by_class
        Whether to keep places of each class apart, too.
    soft
        uint8 (2, rows, columns): what to learn of myelin and of axon, times 255, instead of the classes.
    base
        Zoom that all zooms are relative to.
    """
    grey = torch.from_numpy(normalise(pixels, statistics(pixels), normalisation))[None, None]
    levels = [grey]
    for _ in range(2 + max(0, math.ceil(-math.log2(base)))):
        if min(levels[-1].shape[2:]) < 64:
            break
        levels.append(nnf.avg_pool2d(levels[-1], 2))
    foreground = _places(classes > 0, rng)
    probe = grey.flatten()[torch.from_numpy(rng.integers(0, grey.numel(), _PROBE_PIXELS))]
    apart = range(1, len(CLASS_NAMES)) if by_class else ()
    return Canvas(
        tuple(levels),
        torch.from_numpy(classes.astype(np.float32))[None, None],
        foreground,
        probe,
        tuple(_places(classes == value, rng) for value in apart),
        None if soft is None else torch.from_numpy(soft)[None],
        base,
    )


def _places(mask: NDArray[np.bool_], rng: np.random.Generator) -> NDArray[np.int32]:
    rows, columns = np.nonzero(mask)
    keep = rng.permutation(rows.size)[:_PLACES]
    return np.stack((rows[keep], columns[keep]), axis=1).astype(np.int32)
