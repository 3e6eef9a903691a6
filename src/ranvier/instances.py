"""From the class of every pixel to individual axons, each with its own myelin.

Connectivity is 8 for axons, myelin and fibres, and 4 for the background between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._runs import Runs, components, in_order, runs_of, with_holes
from ranvier._sheaths import share
from ranvier.calibration import PixelSize
from ranvier.errors import MaskError, SettingsError
from ranvier.masks import values_seen
from ranvier.micrograph import AXON, MYELIN, Array, Instances

__all__ = ["InstanceSettings", "check_instances", "separate"]

_BAND = 1 << 19


@dataclass(frozen=True)
class InstanceSettings:
    """How classes become fibres.

    Attributes
    ----------
    min_axon_area
        Smallest axon that is kept, in pixels, its filled holes included.
    fill_holes
        Give an axon the holes that it alone encloses, and a fibre those that it alone encloses.
    max_hole_area
        Larger holes stay open, in pixels; None for no limit.
    max_gap_px
        Widest stretch of background, in pixels, between an axon and open myelin that is still its own.
    min_axon_area_um2, max_hole_area_um2, max_gap_um
        The same in micrometres; each takes the place of the one in pixels where a pixel size is
        known, and is unused where none is.

    Raises
    ------
    SettingsError
        A value is negative, not finite, or not a whole number where one is needed.
    """

    min_axon_area: int = 10
    fill_holes: bool = True
    max_hole_area: int | None = None
    max_gap_px: int = 2
    min_axon_area_um2: float | None = None
    max_hole_area_um2: float | None = None
    max_gap_um: float | None = None

    def __post_init__(self) -> None:
        for name in ("min_axon_area", "max_hole_area", "max_gap_px"):
            value = getattr(self, name)
            if value is None and name == "max_hole_area":
                continue
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise SettingsError("must be a whole number, 0 or more", where=name, seen=value)
        for name in ("min_axon_area_um2", "max_hole_area_um2", "max_gap_um"):
            um = getattr(self, name)
            if um is not None and not (math.isfinite(um) and um >= 0):
                raise SettingsError("must be 0 or more", where=name, seen=um)


@dataclass(frozen=True)
class _InPixels:
    """What the settings come to in an image with its pixel size."""

    smallest: float
    largest_hole: float | None
    gap: float


_DEFAULT = InstanceSettings()


def separate(
    classes: NDArray[np.uint8],
    *,
    settings: InstanceSettings = _DEFAULT,
    pixel_size: PixelSize | None = None,
) -> Instances:
    """Find every axon, and the myelin that belongs to it.

    Axons are the 8-connected components of the axon class. The pixels of an axon smaller than
    the smallest allowed are treated as background. Myelin goes to the axon for which d / t is least, d
    being the distance from the whole axon (never from its centroid) and t the thickness of its sheath,
    which is measured where its border is free; so a fibre's outer membrane goes on where another fibre
    touches it (:mod:`ranvier._sheaths`). A fibre's myelin is
    connected to its axon, through myelin or through background no further than ``max_gap_px`` from the
    axon. Background that a single fibre encloses, such as a shrinkage gap between an axon and its
    sheath, becomes part of that fibre. A fibre whose sheath is open may therefore consist of two
    pieces.

    Parameters
    ----------
    classes
        uint8, shape (rows, columns): 0 background, 1 myelin, 2 axon.
    settings
        Smallest axon, holes and gap.
    pixel_size
        Needed only for settings in micrometres.

    Returns
    -------
    Instances
        Ids 1 to n in raster order of the axons' first pixels, int32; n may be 0. Myelin that no
        axon reaches is in no fibre; its pieces are counted in ``orphan_myelin_count``, and their pixels
        in ``orphan_myelin_px``.

    Raises
    ------
    MaskError
        Not uint8, not two-dimensional, empty, or with values other than 0, 1 and 2.
    """
    _check_classes(classes)
    limits = _in_pixels(settings, pixel_size)
    axons, count, small = _axons(classes == AXON, limits.smallest, limits.largest_hole)
    myelin = classes == MYELIN
    if count:
        free = myelin & (axons == 0)
        fibres = share(axons, free, max_gap=limits.gap, largest_hole=limits.largest_hole)
    else:
        fibres = axons.copy()
    orphans = runs_of((myelin & (fibres == 0)).view(np.uint8))
    is_orphan = orphans.value == 1
    return Instances(
        axons=axons,
        fibres=fibres,
        count=count,
        orphan_myelin_px=int(orphans.length[is_orphan].sum()),
        orphan_myelin_count=components(orphans, is_orphan, diagonal=True)[1],
        small_axons=small,
    )


def _check_classes(classes: Array) -> None:
    if not isinstance(classes, np.ndarray) or classes.dtype != np.uint8:
        raise MaskError(
            "classes must be a uint8 array",
            seen=getattr(classes, "dtype", type(classes).__name__),
            fix="Make it with ranvier.masks.classes_from_mask or classes_from_masks",
        )
    if classes.ndim != 2 or classes.size == 0:
        raise MaskError("classes must have rows and columns", seen=f"shape {classes.shape}")
    if classes.max() > AXON:
        raise MaskError(
            "classes must be 0 (background), 1 (myelin) or 2 (axon)",
            seen=values_seen(np.unique(classes)),
            fix="Make it with ranvier.masks.classes_from_mask or classes_from_masks",
        )


def _in_pixels(settings: InstanceSettings, pixel_size: PixelSize | None) -> _InPixels:
    """Each limit in pixels, from whichever of its two settings applies."""
    smallest: float = settings.min_axon_area
    largest_hole: float | None = settings.max_hole_area
    gap: float = settings.max_gap_px
    # A hair of tolerance, so that what is exactly as large as the limit is not lost to rounding.
    if pixel_size is not None:
        if settings.min_axon_area_um2 is not None:
            smallest = settings.min_axon_area_um2 / pixel_size.um**2 * (1 - 1e-12)
        if settings.max_hole_area_um2 is not None:
            largest_hole = settings.max_hole_area_um2 / pixel_size.um**2 * (1 + 1e-12)
        if settings.max_gap_um is not None:
            gap = settings.max_gap_um / pixel_size.um * (1 + 1e-12)
    return _InPixels(smallest, largest_hole if settings.fill_holes else 0, gap)


def _axons(
    mask: NDArray[np.bool_], smallest: float, largest_hole: float | None
) -> tuple[NDArray[np.int32], int, int]:
    """Label the axons, fill their holes, drop the small ones and number the rest; how many are left and dropped."""
    runs = runs_of(mask.view(np.uint8))
    piece, count = components(runs, runs.value == 1, diagonal=True)
    runs = runs.with_values(piece + 1)
    filled = _filled(runs, largest_hole)
    area = np.bincount(filled.value, weights=filled.length, minlength=count + 1)
    keep = area >= smallest
    keep[0] = False
    small = count - int(np.count_nonzero(keep))
    if small:
        # A hole that held nothing but dropped axons is now a hole like any other.
        filled = _filled(runs.with_values(np.where(keep[runs.value], runs.value, 0)), largest_hole)
    some = filled.value > 0
    present = np.unique(filled.value[some])
    number = np.zeros(count + 1, dtype=np.int32)
    number[present] = np.arange(present.size, dtype=np.int32)
    value = np.zeros(filled.value.size, dtype=np.int32)
    value[some] = in_order(number[filled.value[some]], present.size) + 1
    return filled.with_values(value).painted(), int(present.size), small


def _filled(runs: Runs, largest_hole: float | None) -> Runs:
    return runs if largest_hole == 0 else with_holes(runs, largest=largest_hole)


def check_instances(instances: Instances) -> None:
    """Make sure that label images from anywhere are those of axons and their fibres.

    Raises
    ------
    MaskError
        The label images differ in shape, an id is missing or too high, or an axon has pixels
        outside the fibre of its id.
    """
    axons, fibres, count = instances.axons, instances.fibres, instances.count
    if axons.ndim != 2 or axons.shape != fibres.shape or axons.size == 0:
        raise MaskError(
            "axon and fibre labels must have the same rows and columns",
            seen=f"{axons.shape} and {fibres.shape}",
        )
    if any(labels.dtype.kind not in "iu" for labels in (axons, fibres)):
        raise MaskError("labels must be whole numbers, 0 or more", seen=(axons.dtype, fibres.dtype))
    present = np.zeros(count + 1, dtype=bool)
    step = max(1, _BAND // axons.shape[1])
    for top in range(0, axons.shape[0], step):
        axon, fibre = axons[top : top + step], fibres[top : top + step]
        if min(axon.min(), fibre.min()) < 0:
            raise MaskError("labels must be whole numbers, 0 or more", seen="negative ones")
        highest = int(max(axon.max(), fibre.max()))
        if highest > count:
            raise MaskError("a label is higher than the count", seen=f"{highest} of {count}")
        if np.any((axon > 0) & (axon != fibre)):
            raise MaskError("an axon has pixels outside the fibre of its id")
        present[axon] = True
    missing = np.flatnonzero(~present[1:]) + 1
    if missing.size:
        raise MaskError("ids without an axon", seen=", ".join(map(str, missing[:10])))
