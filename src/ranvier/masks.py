"""Masks from any tool -> the class of every pixel."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import MaskError
from ranvier.micrograph import AXON, BACKGROUND, MYELIN, Array

__all__ = ["classes_from_mask", "classes_from_masks", "values_seen"]

NEAR_LEVEL = 8 / 255
"""A grey value this close to a level (share of the largest level) counts as that level."""
STRAY_SHARE = 0.5
"""At most this many stray grey pixels for each foreground pixel that lies at a level."""
SHOWN_VALUES = 12
"""Distinct values listed in an error."""


def classes_from_masks(
    axon: Array, myelin: Array, *, where: Path | str | None = None
) -> NDArray[np.uint8]:
    """Combine an axon mask and a myelin mask, from any tool, into classes.

    Each may be boolean, 0 / 1, or 0 / 127, 0 / 128, 0 / 255, 0 / 65535. A pixel belongs to the
    mask where it is at least half of the mask's maximum, which settles the grey pixels that JPEG
    compression and smooth edges leave behind. Where the two overlap, it is axon.

    Parameters
    ----------
    axon, myelin
        Shape (rows, columns), or with a third axis of 1, 3 or 4 equal grey channels.
    where
        The file or folder, for the error.

    Returns
    -------
    ndarray of uint8
        Shape (rows, columns): 0 background, 1 myelin, 2 axon.

    Raises
    ------
    MaskError
        The shapes differ, or a mask holds values of another kind; they are listed.
    """
    is_axon = _binary(_plane(axon, "axon mask", where), "axon mask", where)
    is_myelin = _binary(_plane(myelin, "myelin mask", where), "myelin mask", where)
    if is_axon.shape != is_myelin.shape:
        raise MaskError(
            "axon and myelin masks differ in shape",
            where=where,
            seen=f"{is_axon.shape} and {is_myelin.shape}",
        )
    classes = np.where(is_myelin, MYELIN, BACKGROUND).astype(np.uint8)
    classes[is_axon] = AXON
    return classes


def classes_from_mask(mask: Array, *, where: Path | str | None = None) -> NDArray[np.uint8]:
    """Turn a mask of all three classes, from any tool, into classes.

    It may be 0 / 1 / 2, or 0 / 127 / 255, 0 / 128 / 255, 0 / 32767 / 65535 or 0 / 0.5 / 1 for
    background / myelin / axon; a class may be absent. Other grey values, as JPEG compression and
    smooth edges leave behind, go to the nearest of the three levels (ties go down) if they are few.

    Parameters
    ----------
    mask
        Shape (rows, columns), or with a third axis of 1, 3 or 4 equal grey channels.
    where
        The file, for the error.

    Returns
    -------
    ndarray of uint8
        Shape (rows, columns): 0 background, 1 myelin, 2 axon.

    Raises
    ------
    MaskError
        A boolean mask (it names one class only), or values of another kind; they are listed.
    """
    plane = _plane(mask, "mask", where)
    if plane.dtype == np.bool_:
        raise MaskError(
            "a boolean mask names one class only",
            where=where,
            seen="bool",
            fix="Give axon and myelin masks separately, to classes_from_masks",
        )
    values, counts = np.unique(plane, return_counts=True)
    if np.isin(values, (0, 1, 2)).all():
        return plane.astype(np.uint8)
    top = next((t for t in (1, 255, 65535) if values[-1] <= t), 65535)
    if _is_mixed(values) or not _at_levels(values, counts, (0.0, top / 2, float(top))):
        raise MaskError(
            "the values are not those of a background / myelin / axon mask",
            where=where,
            seen=values_seen(values),
            fix="Use 0 / 1 / 2 or 0 / 127 / 255; this may be an image or a mask of labels",
        )
    share = plane / top
    return np.where(share > 0.75, AXON, np.where(share > 0.25, MYELIN, BACKGROUND)).astype(np.uint8)


def _plane(mask: Array, name: str, where: Path | str | None) -> Array:
    """One finite, non-negative, two-dimensional array; equal channels become one."""
    plane = np.asarray(mask)
    if plane.ndim == 3 and plane.shape[2] in (1, 3, 4):
        grey = plane[..., : min(plane.shape[2], 3)]
        if not (grey == grey[..., :1]).all():
            raise MaskError(f"the {name} is coloured", where=where, fix="Save it as grey levels")
        plane = grey[..., 0]
    if plane.ndim != 2 or plane.size == 0:
        raise MaskError(
            f"the {name} must have rows and columns", where=where, seen=f"shape {plane.shape}"
        )
    if plane.dtype.kind not in "buif":
        raise MaskError(f"the {name} holds no numbers", where=where, seen=plane.dtype)
    if plane.dtype.kind == "f" and not np.isfinite(plane).all():
        raise MaskError(f"the {name} holds NaN or infinity", where=where)
    if plane.dtype.kind in "if" and plane.min() < 0:
        raise MaskError(f"the {name} holds negative values", where=where, seen=plane.min())
    return plane


def _binary(plane: Array, name: str, where: Path | str | None) -> NDArray[np.bool_]:
    """At least half of the maximum, for a mask with two levels."""
    if plane.dtype == np.bool_:
        return plane
    values, counts = np.unique(plane, return_counts=True)
    top = float(values[-1])
    if top == 0:
        return np.zeros(plane.shape, dtype=bool)
    known = top == 1 or any(abs(top - t) <= NEAR_LEVEL * t for t in (127.5, 255.0, 65535.0))
    if not known or _is_mixed(values) or not _at_levels(values, counts, (0.0, top)):
        raise MaskError(
            f"the values are not those of a mask of one class ({name})",
            where=where,
            seen=values_seen(values),
            fix="Use 0 / 1 or 0 / 255; a mask of all three classes goes to classes_from_mask",
        )
    return plane >= top / 2


def _at_levels(values: Array, counts: Array, levels: tuple[float, ...]) -> bool:
    """Whether the values pile up at the levels, with few between and some above the lowest."""
    off = np.abs(values.astype(np.float64)[:, None] - np.asarray(levels)[None, :])
    near = off <= NEAR_LEVEL * levels[-1]
    at_foreground = int(counts[near[:, 1:].any(axis=1)].sum())
    stray = int(counts[~near.any(axis=1)].sum())
    return at_foreground > 0 and stray <= STRAY_SHARE * at_foreground


def _is_mixed(values: Array) -> bool:
    """Whether class codes 1 or 2 stand beside 255, as in masks that use 255 for "ignore"."""
    return bool(
        np.isin(values, (0, 1, 2, 255)).all() and values[-1] == 255 and len(values) > 1
    ) and (bool(np.isin((1, 2), values).any()))


def values_seen(values: Array) -> str:
    """The distinct values of a mask, for an error; many are shortened."""
    shown = ", ".join(f"{v:g}" for v in values[:SHOWN_VALUES])
    if len(values) <= SHOWN_VALUES:
        return f"values {shown}"
    return f"{len(values)} values: {shown}, ... {values[-1]:g}"
