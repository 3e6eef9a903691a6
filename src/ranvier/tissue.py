"""Which part of an image is tissue: found, not assumed.

Empty slide around a nerve, black padding and folds off the section hold no fibres, and a density
over them is too low. Tissue is, by the first of these that is at hand,

mask
    what the given mask of tissue, nerve or fascicles holds;
image
    all but the blank areas of the micrograph;
fibres
    the morphological closing of the fibres [1]_ by a disc whose radius is ``closing_fibres``
    typical fibre diameters. What lies beyond the image's border counts as tissue.

Blank areas are found on a grid of square blocks. Let D be the typical fibre diameter (of equal
area, the median), and c the standard deviation of the grey levels inside fibres, which is the
contrast of axon and myelin. A block is plain if no fibre reaches it, if the standard deviation of
its pixels is at most ``texture`` c, and if that of the means of its 3 x 3 neighbourhood is at most
``level`` c; specks in plain places that are smaller than a fibre are plain, too. Plain places are
blank where squares of ``min_width_fibres`` D fit in, if they are joined to one of
``min_side_fibres`` D. Blank areas then take in quarters of blocks beside them that have their grey
level, and islands without fibres that are smaller than the least blank area. Axoplasm, clefts
between fibres and the lumen of small vessels therefore stay tissue, and so does what only may be
blank.

References
----------
.. [1] Serra J. (1982). Image Analysis and Mathematical Morphology. Academic Press.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ranvier._blank import (
    Plane,
    blank_quarters,
    closed,
    contrast_in_fibres,
    filled_blocks,
    filled_quarters,
    quarter_edge,
    statistics,
    typical_fibre,
)
from ranvier.errors import MaskError, SettingsError
from ranvier.masks import classes_from_masks
from ranvier.micrograph import AXON, Array, Fibres, Instances

__all__ = ["Tissue", "TissueSettings", "binary_mask", "find_tissue"]

Source = Literal["mask", "image", "fibres"]


@dataclass(frozen=True)
class TissueSettings:
    """What counts as blank; the module's docstring says how.

    Attributes
    ----------
    min_side_fibres
        Side of a square that fits in each blank area somewhere, in typical fibre diameters.
    min_width_fibres
        Side of squares that fit in a blank area everywhere, in typical fibre diameters.
    texture, level
        Largest standard deviation of pixels in a blank block, and of the means of neighbouring
        blocks, as shares of the contrast inside fibres.
    closing_fibres
        Radius of the closing of fibres, in typical fibre diameters; only used without pixels.

    Raises
    ------
    SettingsError
        A value is not a finite number above 0.
    """

    min_side_fibres: float = 4.0
    min_width_fibres: float = 1.5
    texture: float = 0.45
    level: float = 0.16
    closing_fibres: float = 3.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if isinstance(value, bool) or not (math.isfinite(value) and value > 0):
                raise SettingsError("must be above 0", where=name, seen=value)


_DEFAULT = TissueSettings()


@dataclass(frozen=True, eq=False)
class Tissue:
    """The tissue of one image.

    Attributes
    ----------
    pixels
        How many pixels of the image are tissue.
    source
        What it was found from: "mask", "image" or "fibres".
    grid
        Which blocks are tissue, bool, (rows, columns) of blocks.
    block
        Edge of a block in pixels; those at the right and bottom may be cut by the image.
    shape
        Rows and columns of the image.
    """

    pixels: int
    source: Source
    grid: NDArray[np.bool_]
    block: int
    shape: tuple[int, int]

    def mask(self) -> NDArray[np.bool_]:
        """Tissue by pixel, shape (rows, columns)."""
        rows, cols = self.shape
        whole = np.repeat(np.repeat(self.grid, self.block, axis=0), self.block, axis=1)
        cut: NDArray[np.bool_] = whole[:rows, :cols]
        return cut

    def holds(self, fibres: Fibres) -> NDArray[np.bool_]:
        """Which fibres lie in the tissue: those whose axon's centroid does."""
        places = []
        for name, length in zip(("centroid_row_px", "centroid_col_px"), self.shape, strict=True):
            pixel = np.floor(np.asarray(fibres.table[name], dtype=np.float64) + 0.5).astype(np.intp)
            places.append(np.clip(pixel, 0, length - 1) // self.block)
        inside: NDArray[np.bool_] = self.grid[places[0], places[1]]
        return inside


def find_tissue(
    instances: Instances,
    *,
    pixels: Array | None = None,
    mask: Array | None = None,
    settings: TissueSettings = _DEFAULT,
) -> Tissue:
    """Find the tissue of one image.

    Parameters
    ----------
    instances
        Its fibres, shape (rows, columns).
    pixels
        Grey levels of the micrograph, the same shape.
    mask
        A mask of the tissue, nerve or fascicles, the same shape, from any tool; see
        :func:`binary_mask`. It goes before ``pixels``.
    settings
        What counts as blank.

    Returns
    -------
    Tissue
        Without mask and pixels, and with no fibre, no pixel is tissue.

    Raises
    ------
    MaskError
        Mask or pixels differ in shape from the labels, or the mask's values make no sense.
    """
    shape = (int(instances.fibres.shape[0]), int(instances.fibres.shape[1]))
    if mask is not None:
        given = binary_mask(mask, "tissue mask")
        _check_shape("tissue mask", given, shape)
        return Tissue(int(np.count_nonzero(given)), "mask", given, 1, shape)
    typical = typical_fibre(instances.fibres)
    quarter = quarter_edge(typical, shape)
    filled = filled_quarters(instances.fibres, quarter)
    if pixels is None:
        block = 2 * quarter
        grid = closed(filled_blocks(filled), settings.closing_fibres * typical / block)
        return _of_grid(grid, "fibres", block, shape)
    _check_shape("micrograph", pixels, shape)
    plane = Plane(
        *statistics(pixels, quarter), filled, contrast_in_fibres(pixels, instances.fibres)
    )
    return _of_grid(
        ~blank_quarters(plane, typical / (2 * quarter), settings), "image", quarter, shape
    )


_TWO_LEVELS = "Use a mask with two levels: 0 / 1 or 0 / 255"


def binary_mask(mask: Array, name: str, *, fix: str = _TWO_LEVELS) -> NDArray[np.bool_]:
    """One class from a mask of any tool, by the rules of :func:`ranvier.masks.classes_from_masks`.

    Raises
    ------
    MaskError
        No rows and columns, coloured, or more than two levels.
    """
    try:
        none = np.zeros(np.shape(mask)[:2], dtype=bool)
        found: NDArray[np.bool_] = classes_from_masks(mask, none) == AXON
    except MaskError as error:
        raise MaskError(
            f"{name}: {error.what.replace('axon mask', 'mask')}",
            seen=error.seen,
            fix=fix,
        ) from error
    return found


def _check_shape(name: str, plane: Array, shape: tuple[int, int]) -> None:
    if plane.shape != shape:
        raise MaskError(f"{name} and labels differ in shape", seen=f"{plane.shape} and {shape}")


def _of_grid(grid: NDArray[np.bool_], source: Source, block: int, shape: tuple[int, int]) -> Tissue:
    heights, widths = (
        np.clip(length - block * np.arange(count), 0, block)
        for length, count in zip(shape, grid.shape, strict=True)
    )
    return Tissue(int(heights @ grid @ widths), source, grid, block, shape)
