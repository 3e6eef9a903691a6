"""From a mask of a nerve to one row of figures per fascicle.

Fascicles are the 8-connected components of a mask with two levels, or the labels of a label image,
numbered in raster order of their first pixels. A fibre belongs to the fascicle that holds the
centroid of its axon; where that lies outside all of them, to the one that holds more of the axon's
pixels than any other and than the outside; else to none.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import MaskError, SettingsError
from ranvier.figures import UM2_PER_MM2, aggregate_g_ratio, counted
from ranvier.micrograph import Array, Fibres
from ranvier.summary import pixel_shares
from ranvier.tissue import binary_mask

__all__ = ["FascicleSettings", "Fascicles", "fascicle_labels", "measure_fascicles"]

_MEANS = (("axon_diameter", True), ("fibre_diameter", True), ("g_ratio", False))
"""Columns whose means are reported, and whether their names end in a unit."""


@dataclass(frozen=True)
class FascicleSettings:
    """What counts as a fascicle.

    Attributes
    ----------
    min_area_px
        Smaller ones are left out, in pixels; their number is reported.
    labels
        The mask is a label image: 0 outside, each other value one fascicle, in however many pieces.
    include_border
        Whether means count fibres that the image's border cuts, too.

    Raises
    ------
    SettingsError
        A value is of the wrong kind or negative.
    """

    min_area_px: int = 100
    labels: bool = False
    include_border: bool = False

    def __post_init__(self) -> None:
        area = self.min_area_px
        if isinstance(area, bool) or not isinstance(area, int) or area < 0:
            raise SettingsError("must be a whole number, 0 or more", where="min_area_px", seen=area)
        for name in ("labels", "include_border"):
            if not isinstance(getattr(self, name), bool):
                raise SettingsError("must be true or false", where=name, seen=getattr(self, name))


_FIX = (
    "Use a mask with two levels, 0 / 1 or 0 / 255, or say that it is a label image: "
    "--fascicle-labels (labels=True in Python)"
)
_DEFAULT = FascicleSettings()


@dataclass(frozen=True, eq=False)
class Fascicles:
    """The fascicles of one image.

    Attributes
    ----------
    table
        Column name to a 1-D array, one entry per fascicle; see :func:`measure_fascicles`.
    totals
        The same figures for all fascicles together, and what was left out; plain values.
    labels
        int32, shape (rows, columns): 0, or the fascicle's number in the table.
    of_fibre
        int32, one value per fibre: the number of its fascicle, or 0.
    pixels
        Of all fascicles together: their pixels, and how many of these are axon, and fibre.
    """

    table: Mapping[str, Array]
    totals: Mapping[str, Any]
    labels: NDArray[np.int32]
    of_fibre: NDArray[np.int32]
    pixels: tuple[int, int, int]

    def __len__(self) -> int:
        return len(self.table["fascicle"])


def measure_fascicles(
    mask: Array,
    fibres: Fibres,
    *,
    settings: FascicleSettings = _DEFAULT,
    where: Path | str | None = None,
) -> Fascicles:
    """Measure every fascicle.

    Parameters
    ----------
    mask
        Shape (rows, columns) of the image: a mask with two levels from any tool, or a label image.
    fibres
        What was measured in the image.
    settings
        Smallest fascicle and kind of mask.
    where
        The file of the mask, for the error.

    Returns
    -------
    Fascicles
        Columns of the table: ``fascicle``, its number from 1; ``label``, its value in a label
        image; ``centroid_row_px``, ``centroid_col_px``; ``touches_border``; ``area_um2``;
        ``fibre_count``; ``density_per_mm2``: fibres / area; ``avf``, ``mvf``, ``fvf``: shares of
        its pixels that are axon, myelin and either of a fibre, whichever fascicle that belongs to;
        ``aggregate_g_ratio`` [1]_; ``axon_diameter_um_mean``, ``fibre_diameter_um_mean``,
        ``g_ratio_mean``, without fibres that the border cuts. Units are px and px2 without a pixel
        size, and the density is NaN; so is a figure that would be 0/0.
        The totals hold the same sums and means over all fascicles, ``fascicle_count``,
        ``small_fascicles_left_out`` and ``fibres_outside``; None stands for 0/0.

    Raises
    ------
    MaskError
        The mask differs in shape from the labels of the fibres, or its values make no sense.

    References
    ----------
    .. [1] Stikov N. et al. (2015). In vivo histology of the myelin g-ratio with magnetic
       resonance imaging. NeuroImage 118, 397-405.
    """
    labels, values, small = fascicle_labels(mask, settings=settings, where=where)
    shape = fibres.instances.fibres.shape
    if labels.shape != shape:
        raise MaskError(
            "nerve mask and image differ in shape",
            where=where,
            seen=f"{labels.shape} and {shape}",
        )
    count = len(values)
    of_fibre = _fascicle_of(labels, fibres, count)
    pixels = _pixels(labels, fibres, count)
    places = _places(labels, pixels[0])
    used = counted(fibres.table, include_border=settings.include_border)
    rows = [_figures(pixels[:, i], fibres, of_fibre == i, used) for i in range(1, count + 1)]
    inside = pixels[:, 1:].sum(axis=1)
    together = _figures(inside, fibres, of_fibre > 0, used)
    table: dict[str, Array] = {
        "fascicle": np.arange(1, count + 1, dtype=np.int32),
        "label": values,
        **places,
        **{key: _column([row[key] for row in rows], key) for key in together},
    }
    totals = {
        "fascicle_count": count,
        "small_fascicles_left_out": small,
        **together,
        "fibres_outside": int(np.count_nonzero(of_fibre == 0)),
    }
    whole, axon, fibre = (int(n) for n in inside)
    return Fascicles(table, totals, labels, of_fibre, (whole, axon, fibre))


def fascicle_labels(
    mask: Array, *, settings: FascicleSettings = _DEFAULT, where: Path | str | None = None
) -> tuple[NDArray[np.int32], NDArray[np.int64], int]:
    """Number the fascicles of a mask.

    Returns
    -------
    labels
        int32, the shape of the mask: 0, or 1, 2, ... in raster order of first pixels.
    values
        By fascicle, its value in a label image; else the same numbers.
    small
        How many were left out because they are too small.

    Raises
    ------
    MaskError
        The mask's values make no sense.
    """
    from scipy import ndimage

    whole: NDArray[np.intp]
    if settings.labels:
        present, whole = np.unique(_label_image(mask, where), return_inverse=True)
        whole = whole.reshape(np.shape(mask)) + (1 if present[0] > 0 else 0)
        present = present if present[0] == 0 else np.insert(present, 0, 0)
    else:
        binary = _two_levels(mask, where)
        whole, highest = ndimage.label(binary, structure=np.ones((3, 3)))
        present = np.arange(highest + 1)
    sizes = np.bincount(whole.ravel(), minlength=present.size)
    first = np.zeros(present.size, dtype=np.int64)
    at = np.flatnonzero(whole)[::-1]
    first[whole.ravel()[at]] = at  # of a repeated index the last, so the first pixel, stays
    kept = sizes >= max(settings.min_area_px, 1)
    kept[0] = False
    order = np.flatnonzero(kept)[np.argsort(first[kept])]
    new = np.zeros(present.size, dtype=np.int32)
    new[order] = np.arange(1, order.size + 1, dtype=np.int32)
    values = present[order] if settings.labels else np.arange(1, order.size + 1)
    return new[whole], values.astype(np.int64), int(present.size - 1 - order.size)


def _two_levels(mask: Array, where: Path | str | None) -> NDArray[np.bool_]:
    try:
        return binary_mask(mask, "nerve mask", fix=_FIX)
    except MaskError as error:
        raise MaskError(error.what, where=where, seen=error.seen, fix=error.fix) from error


def _label_image(mask: Array, where: Path | str | None) -> Array:
    plane = np.asarray(mask)
    if plane.ndim != 2 or plane.size == 0:
        raise MaskError(
            "a label image must have rows and columns", where=where, seen=f"shape {plane.shape}"
        )
    if plane.dtype.kind not in "bui" or plane.min() < 0:
        raise MaskError(
            "labels must be whole numbers, 0 or more",
            where=where,
            seen=plane.dtype,
            fix="Save the label image with 8 or 16 bits, or give a mask with two levels without "
            "--fascicle-labels (labels=False in Python)",
        )
    return plane


def _fascicle_of(labels: NDArray[np.int32], fibres: Fibres, count: int) -> NDArray[np.int32]:
    """Number of each fibre's fascicle; 0 where it has none."""
    centre = []
    for name, length in zip(("centroid_row_px", "centroid_col_px"), labels.shape, strict=True):
        pixel = np.floor(np.asarray(fibres.table[name], dtype=np.float64) + 0.5).astype(np.intp)
        centre.append(np.clip(pixel, 0, length - 1))
    found = labels[centre[0], centre[1]].astype(np.int32)
    if not count or found.all():
        return found
    axons = fibres.instances.axons
    row_of = np.full(fibres.instances.count + 1, -1, dtype=np.int64)
    row_of[fibres.table["id"]] = np.arange(len(found))
    at = np.flatnonzero(axons)
    rows = row_of[axons.ravel()[at]]
    open_rows = rows >= 0
    open_rows &= found[rows] == 0
    pairs = rows[open_rows] * (count + 1) + labels.ravel()[at[open_rows]]
    held = np.bincount(pairs, minlength=len(found) * (count + 1)).reshape(len(found), count + 1)
    return np.where(found == 0, held.argmax(axis=1), found).astype(np.int32)


def _pixels(labels: NDArray[np.int32], fibres: Fibres, count: int) -> NDArray[np.int64]:
    """Pixels of each fascicle, of axon in it and of fibre in it: shape (3, count + 1)."""
    flat = labels.ravel()
    inside = (None, fibres.instances.axons, fibres.instances.fibres)
    return np.stack(
        [
            np.bincount(flat if part is None else flat[part.ravel() > 0], minlength=count + 1)
            for part in inside
        ]
    )


def _places(labels: NDArray[np.int32], pixels: NDArray[np.int64]) -> dict[str, Array]:
    """Centroid, and whether the image's border cuts the fascicle."""
    count = pixels.size - 1
    rows, cols = labels.shape
    by_row = np.zeros(count + 1)
    by_col = np.zeros(count + 1)
    column = np.arange(cols, dtype=np.float64)
    for row in range(rows):
        line = labels[row]
        if line.any():
            by_row += row * np.bincount(line, minlength=count + 1)
            by_col += np.bincount(line, weights=column, minlength=count + 1)
    edge = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    return {
        "centroid_row_px": by_row[1:] / pixels[1:],
        "centroid_col_px": by_col[1:] / pixels[1:],
        "touches_border": np.isin(np.arange(1, count + 1), edge),
    }


def _figures(
    pixels: NDArray[np.int64],
    fibres: Fibres,
    members: NDArray[np.bool_],
    used: NDArray[np.bool_],
) -> dict[str, Any]:
    """Figures of one fascicle, or of all; None where one would be 0/0."""
    size = fibres.pixel_size
    unit = "px" if size is None else "um"
    whole, axon, fibre = (int(n) for n in pixels)
    area = whole * (1.0 if size is None else size.um**2)
    number = int(np.count_nonzero(members))
    shares = pixel_shares(whole, axon, fibre)
    found: dict[str, Any] = {
        f"area_{unit}2": area,
        "fibre_count": number,
        "density_per_mm2": number / area * UM2_PER_MM2 if size is not None and whole else None,
        **shares,
        "aggregate_g_ratio": aggregate_g_ratio(shares["avf"], shares["mvf"]),
    }
    for name, has_unit in _MEANS:
        column = f"{name}_{unit}" if has_unit else name
        if column in fibres.table:
            values = np.asarray(fibres.table[column], dtype=np.float64)[members & used]
            values = values[np.isfinite(values)]
            found[f"{column}_mean"] = float(values.mean()) if values.size else None
    return found


def _column(values: list[Any], name: str) -> Array:
    if name == "fibre_count":
        return np.array(values, dtype=np.int64)
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)
