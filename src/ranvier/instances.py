"""From the class of every pixel to individual axons, each with its own myelin.

Connectivity is 8 for axons, myelin and fibres, and 4 for the background between them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from skimage.segmentation import watershed

from ranvier.calibration import PixelSize
from ranvier.errors import MaskError, SettingsError
from ranvier.masks import values_seen
from ranvier.micrograph import AXON, MYELIN, Array, Instances

__all__ = ["InstanceSettings", "separate"]

_EIGHT = np.ones((3, 3), dtype=bool)


@dataclass(frozen=True)
class InstanceSettings:
    """How classes become fibres.

    Attributes
    ----------
    min_axon_area
        Smallest axon that is kept, in pixels, its filled holes included.
    min_axon_area_um2
        The same in square micrometres; takes the place of ``min_axon_area`` where a pixel size
        is known, and is unused where none is.
    fill_holes
        Give an axon the holes that it alone encloses, and a fibre those that it alone encloses.
    max_gap_px
        Widest stretch of background, in pixels, between an axon and myelin that is still its own.

    Raises
    ------
    SettingsError
        A value is negative, not finite, or not a whole number where one is needed.
    """

    min_axon_area: int = 10
    min_axon_area_um2: float | None = None
    fill_holes: bool = True
    max_gap_px: int = 2

    def __post_init__(self) -> None:
        for name in ("min_axon_area", "max_gap_px"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise SettingsError("must be a whole number, 0 or more", where=name, seen=value)
        um2 = self.min_axon_area_um2
        if um2 is not None and not (math.isfinite(um2) and um2 >= 0):
            raise SettingsError("must be 0 or more", where="min_axon_area_um2", seen=um2)


_DEFAULT = InstanceSettings()


def separate(
    classes: NDArray[np.uint8],
    *,
    settings: InstanceSettings = _DEFAULT,
    pixel_size: PixelSize | None = None,
) -> Instances:
    """Find every axon, and the myelin that belongs to it.

    Axons are the 8-connected components of the axon class. The pixels of an axon smaller than
    the smallest allowed are treated as background. Myelin is shared out by a watershed (Meyer
    1994) that starts from whole axons, never from their centroids, and climbs the distance to the
    nearest axon (pixels), so that myelin between two axons is divided half way. It runs through
    myelin, and through background no further than ``max_gap_px`` from an axon. Background that a
    single fibre encloses, such as a shrinkage gap between an axon and its sheath, becomes part of
    that fibre. A fibre whose sheath is open may therefore consist of two pieces.

    Parameters
    ----------
    classes
        uint8, shape (rows, columns): 0 background, 1 myelin, 2 axon.
    settings
        Smallest axon, holes and gap.
    pixel_size
        Needed only for ``min_axon_area_um2``.

    Returns
    -------
    Instances
        Ids 1 to n in raster order of the axons' first pixels, int32; n may be 0. Myelin that no
        axon reaches is in no fibre and is counted in ``orphan_myelin_px``.

    Raises
    ------
    MaskError
        Not uint8, not two-dimensional, empty, or with values other than 0, 1 and 2.

    References
    ----------
    Meyer F. (1994). Topographic distance and watershed lines. Signal Processing 38, 113-125.
    """
    _check_classes(classes)
    axons, count, small = _axons(classes == AXON, settings, _smallest_px(settings, pixel_size))
    fibres = _fibres(axons, classes == MYELIN, settings) if count else axons.copy()
    orphans = int(np.count_nonzero((classes == MYELIN) & (fibres == 0)))
    return Instances(
        axons=axons, fibres=fibres, count=count, orphan_myelin_px=orphans, small_axons=small
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


def _smallest_px(settings: InstanceSettings, pixel_size: PixelSize | None) -> float:
    """Smallest axon in pixels, from whichever of the two settings applies."""
    if pixel_size is None or settings.min_axon_area_um2 is None:
        return settings.min_axon_area
    # A hair less, so that an axon of exactly the smallest area is not lost to rounding.
    return settings.min_axon_area_um2 / pixel_size.um**2 * (1 - 1e-12)


def _axons(
    mask: NDArray[np.bool_], settings: InstanceSettings, smallest: float
) -> tuple[NDArray[np.int32], int, int]:
    """Label the axons, fill their holes, drop the small ones and number the rest; how many are left and dropped."""
    labels = np.empty(mask.shape, dtype=np.int32)
    count = int(ndimage.label(mask, structure=_EIGHT, output=labels))
    filled = _with_holes(labels) if settings.fill_holes else labels
    keep = np.bincount(filled.ravel(), minlength=count + 1) >= smallest
    keep[0] = False
    small = int(np.count_nonzero(~keep[1:]))
    if not keep[1:].all():
        labels = np.where(keep[labels], labels, 0).astype(np.int32)
        # A hole that held nothing but dropped axons is now a hole like any other.
        filled = _with_holes(labels) if settings.fill_holes else labels
    return *_renumbered(filled, count), small


def _renumbered(labels: NDArray[np.int32], highest: int) -> tuple[NDArray[np.int32], int]:
    """Give the labels that are left the numbers 1, 2, ... in raster order of their first pixels."""
    where = np.flatnonzero(labels)[::-1]
    first = np.full(highest + 1, labels.size, dtype=np.int64)
    first[labels.ravel()[where]] = where  # of a repeated index the last, so the first pixel, stays
    present = np.flatnonzero(first < labels.size)
    new = np.zeros(highest + 1, dtype=np.int32)
    new[present[np.argsort(first[present])]] = np.arange(1, present.size + 1, dtype=np.int32)
    return new[labels], int(present.size)


def _with_holes(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Give each label the 4-connected regions of zeros that touch it alone, and no image edge."""
    regions = np.empty(labels.shape, dtype=np.int32)
    count = int(ndimage.label(labels == 0, output=regions))
    lowest = np.full(count + 1, np.iinfo(np.int32).max, dtype=np.int32)
    highest = np.zeros(count + 1, dtype=np.int32)
    for one, other in (
        (np.s_[:, :-1], np.s_[:, 1:]),
        (np.s_[:, 1:], np.s_[:, :-1]),
        (np.s_[:-1], np.s_[1:]),
        (np.s_[1:], np.s_[:-1]),
    ):
        touching = (regions[one] > 0) & (labels[other] > 0)
        region, label = regions[one][touching], labels[other][touching]
        np.minimum.at(lowest, region, label)
        np.maximum.at(highest, region, label)
    owner = np.where(lowest == highest, highest, 0).astype(np.int32)
    for edge in (regions[0], regions[-1], regions[:, 0], regions[:, -1]):
        owner[edge] = 0
    owner[0] = 0
    return labels + owner[regions]


def _fibres(
    axons: NDArray[np.int32], myelin: NDArray[np.bool_], settings: InstanceSettings
) -> NDArray[np.int32]:
    """Share the myelin out among the axons."""
    tissue = myelin | (axons > 0)
    distance = ndimage.distance_transform_edt(axons == 0)
    passable = tissue | (distance <= settings.max_gap_px)
    flooded = watershed(  # type: ignore[no-untyped-call]
        distance, markers=axons, mask=passable, connectivity=2
    )
    fibres = np.where(tissue, flooded, 0).astype(np.int32)
    return _with_holes(fibres) if settings.fill_holes else fibres
