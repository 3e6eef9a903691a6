"""Masks from any tool -> the class of every pixel.

Masks that went through JPEG or that were drawn smoothly hold grey pixels between their levels. They are
taken for masks all the same if these stray pixels are few (at most half as many as those of the foreground that
lie at a level), or lie where such masks have them: along the borders between the levels. Micrographs, label images
and maps of probabilities have them elsewhere.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ranvier._levels import DEEP, NEAR_LEVEL, STRAY_SHARE, Levels, beside, coded, counted
from ranvier.errors import MaskError
from ranvier.micrograph import AXON, BACKGROUND, MYELIN, Array

__all__ = ["classes_from_mask", "classes_from_masks", "values_seen"]

COVERED = 0.5
"""Axon and myelin masks that share more than this of the smaller of them cannot both be right ..."""
COVERED_FULL = 0.1
"""... nor can those that share more than this ..."""
NO_BACKGROUND = 0.05
"""... where less than this share of the image is background."""
SHOWN_VALUES = 12
"""Distinct values listed in an error."""

Where = Path | str | None


def classes_from_masks(
    axon: Array, myelin: Array, *, where: Where = None, where_myelin: Where = None
) -> NDArray[np.uint8]:
    """Combine an axon mask and a myelin mask, from any tool, into classes.

    Each may be boolean, 0 / 1, or 0 / 127, 0 / 128, 0 / 255, 0 / 65535. A pixel belongs to the
    mask where it is at least half of the mask's maximum, which settles the grey pixels that JPEG
    compression and smooth edges leave behind. Where the two overlap, it is axon; the myelin mask
    may hold the axons, too, if their sheaths lie around them.

    Parameters
    ----------
    axon, myelin
        Shape (rows, columns), or with a third axis of 1, 3 or 4 equal grey channels.
    where
        The file or folder, for the error.
    where_myelin
        The file of the myelin mask, where it is another one.

    Returns
    -------
    ndarray of uint8
        Shape (rows, columns): 0 background, 1 myelin, 2 axon.

    Raises
    ------
    MaskError
        The shapes differ, a mask holds values of another kind (they are listed), or the masks
        cover each other, as inverted masks and a mask that is given twice do.
    """
    is_axon = _binary(_plane(axon, "axon mask", where), "axon mask", where)
    other = where if where_myelin is None else where_myelin
    is_myelin = _binary(_plane(myelin, "myelin mask", other), "myelin mask", other)
    if is_axon.shape != is_myelin.shape:
        raise MaskError(
            "axon and myelin masks differ in shape",
            where=where,
            seen=f"{is_axon.shape} and {is_myelin.shape}",
        )
    _check_overlap(is_axon, is_myelin, where)
    classes = np.where(is_myelin, np.uint8(MYELIN), np.uint8(BACKGROUND))
    classes[is_axon] = AXON
    return classes


def classes_from_mask(mask: Array, *, where: Where = None) -> NDArray[np.uint8]:
    """Turn a mask of all three classes, from any tool, into classes.

    It may be 0 / 1 / 2, or 0 / 127 / 255, 0 / 128 / 255, 0 / 32767 / 65535 or 0 / 0.5 / 1 for
    background / myelin / axon; a class may be absent. Other grey values, as JPEG compression and
    smooth edges leave behind, go to the nearest of the three levels (ties go down). The smooth edge
    of an axon without a sheath passes through the level of myelin, too. So stray grey becomes
    myelin only where one of the 8 pixels around it is of a sheath, and else goes to the nearer of
    background and axon; of a sheath are pixels within a quarter of a step from the level of myelin,
    but in smooth places none that has both background and axon among the 8 pixels around it.

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
            fix="Give an axon mask and a myelin mask, or a mask with three levels: 0 / 127 / 255",
        )
    highest = float(plane.max())
    top = next((t for t in (1, 255, 65535) if highest <= t), 65535)
    codes, scale = coded(plane, highest)
    counts = counted(codes)
    if scale == 1 and np.flatnonzero(counts)[-1] <= AXON:
        return codes.astype(np.uint8)
    share = np.arange(counts.size, dtype=np.float64) * (scale / top)
    levels = Levels(
        ((share > 0.25).astype(np.uint8) + (share > 0.75)).astype(np.uint8),
        np.abs(share[:, None] - (0, 0.5, 1)).min(axis=1),
        step=0.5,
    )
    if highest > 65535 or _is_mixed(counts, scale) or not levels.fit(codes, counts):
        raise MaskError(
            "the values are not those of a background / myelin / axon mask",
            where=where,
            seen=values_seen(np.unique(plane)),
            fix="Use 0 / 1 / 2 or 0 / 127 / 255; this may be an image or a mask of labels",
        )
    if not counts[~levels.at].any():
        return levels.nearest[codes]
    return _without_rims(codes, levels, share)


def _plane(mask: Array, name: str, where: Where) -> Array:
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


def _without_rims(codes: Array, levels: Levels, share: NDArray[np.float64]) -> NDArray[np.uint8]:
    """The nearest class, with myelin only where there is a sheath and not the edge of an axon."""
    classes = levels.nearest[codes]
    myelin = classes == MYELIN
    edge = beside(~levels.at[codes]) & beside(classes == BACKGROUND) & beside(classes == AXON)
    sheath = (myelin & (levels.off <= DEEP * levels.step)[codes]) & ~edge
    rim = myelin & ~beside(sheath) & (edge | ~levels.at[codes])
    extreme = np.where(share > 0.5, np.uint8(AXON), np.uint8(BACKGROUND))
    classes[rim] = extreme[codes[rim]]
    return classes


def _binary(plane: Array, name: str, where: Where) -> NDArray[np.bool_]:
    """At least half of the maximum, for a mask with two levels."""
    if plane.dtype == np.bool_:
        return plane
    top = float(plane.max())
    if top == 0:
        return np.zeros(plane.shape, dtype=bool)
    known = top == 1 or any(abs(top - t) <= NEAR_LEVEL * t for t in (127.5, 255.0, 65535.0))
    if not known or not _has_two_levels(plane, top):
        raise MaskError(
            f"the values are not those of a mask of one class ({name})",
            where=where,
            seen=values_seen(np.unique(plane)),
            fix="Use 0 / 1 or 0 / 255; a mask with three levels, background / myelin / axon, is "
            "given alone",
        )
    return np.asarray(plane >= top / 2)


def _has_two_levels(plane: Array, top: float) -> bool:
    codes, scale = coded(plane, top)
    counts = counted(codes)
    share = np.arange(counts.size, dtype=np.float64) * (scale / top)
    levels = Levels((share >= 0.5).astype(np.uint8), np.minimum(share, np.abs(1 - share)), step=1)
    if _is_mixed(counts, scale) or not levels.fit(codes, counts):
        return False
    stray = counts[~levels.at].sum()
    middle = counts[np.abs(share - 0.5) <= NEAR_LEVEL].sum()
    few = stray <= STRAY_SHARE * counts[levels.at & (share > 0.5)].sum()
    return bool(few or 2 * middle <= stray)  # or a third level stands in the middle


def _check_overlap(axon: NDArray[np.bool_], myelin: NDArray[np.bool_], where: Where) -> None:
    """Refuse masks that cover each other, unless the myelin mask holds axons and their sheaths."""
    both = int(np.count_nonzero(axon & myelin))
    sizes = int(np.count_nonzero(axon)), int(np.count_nonzero(myelin))
    neither = axon.size - sum(sizes) + both
    full = neither < NO_BACKGROUND * axon.size
    if both <= (COVERED_FULL if full else COVERED) * min(sizes):
        return
    if both > (1 - COVERED_FULL) * sizes[0] and not full:
        around = beside(beside(axon)) & ~axon
        if 2 * np.count_nonzero(around & myelin) >= np.count_nonzero(around) > 0:
            return
    raise MaskError(
        "the axon mask and the myelin mask cover each other: inverted, or the same mask twice?",
        where=where,
        seen=f"{both} pixels in both, {sizes[0]} in the axon mask, {sizes[1]} in the myelin mask",
        fix="Save axons and myelin as 255, and all else as 0",
    )


def _is_mixed(counts: NDArray[np.int64], scale: float) -> bool:
    """Whether class codes 1 or 2 stand beside 255, as in masks that use 255 for "ignore"."""
    values = set(np.flatnonzero(counts).tolist())
    return scale == 1 and values <= {0, 1, 2, 255} and 255 in values and bool(values & {1, 2})


def values_seen(values: Array) -> str:
    """The distinct values of a mask, for an error; many are shortened."""
    shown = ", ".join(f"{v:g}" for v in values[:SHOWN_VALUES])
    if len(values) <= SHOWN_VALUES:
        return f"values {shown}"
    return f"{len(values)} values: {shown}, ... {values[-1]:g}"
