"""A segmentation from masks of any tool, and the measurements of any segmentation."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ranvier.errors import MaskError, PixelSizeError
from ranvier.instances import InstanceSettings, separate
from ranvier.masks import classes_from_mask, classes_from_masks
from ranvier.micrograph import Fibres, Instances, Micrograph, Segmentation
from ranvier.morphometrics import MeasureSettings, measure


def segmentation_of_masks(planes: list[Micrograph], *, names_both: bool) -> Segmentation:
    """Classes of mask files, and their pixel size.

    Raises
    ------
    MaskError
        Shapes or values make no sense, or one mask has a single class that its name does not tell.
    PixelSizeError
        Two masks of one image state different sizes.
    """
    path = planes[0].path
    if len({p.shape for p in planes}) > 1:
        raise MaskError(
            "axon mask and myelin mask differ in shape",
            where=path,
            seen=" and ".join(str(p.shape) for p in planes),
        )
    sizes = [p.pixel_size for p in planes if p.pixel_size is not None]
    if len({size.um for size in sizes}) > 1:
        raise PixelSizeError(
            "axon mask and myelin mask state different pixel sizes",
            where=path,
            seen=" and ".join(str(size) for size in sizes),
            fix="Give the true one with --pixel-size",
        )
    if len(planes) == 2:
        axon, myelin = planes
        classes = classes_from_masks(
            axon.pixels, myelin.pixels, where=axon.path, where_myelin=myelin.path
        )
    else:
        classes = classes_from_mask(planes[0].pixels, where=path)
        if not names_both and len({1, 2} & set(np.unique(classes).tolist())) == 1:
            raise MaskError(
                "a mask of a single class, and nothing tells which",
                where=path,
                fix="Name masks X_seg-axon and X_seg-myelin, or X_seg-axonmyelin for both in one",
            )
    return Segmentation(classes, sizes[0] if sizes else None)


def measure_segmentation(
    segmentation: Segmentation,
    *,
    settings: InstanceSettings | None = None,
    measuring: MeasureSettings | None = None,
    found: Callable[[Instances], None] | None = None,
) -> Fibres:
    """Measure every fibre of a segmentation.

    Parameters
    ----------
    segmentation
        From :func:`ranvier.segment`, or made from masks of any tool with :mod:`ranvier.masks`.
    settings
        How classes become fibres.
    measuring
        Model of the axon's shape, and limits of the flags.
    found
        Called with the fibres' label images as soon as they are known, before the fibres are measured.

    Returns
    -------
    fibres
        One row per fibre, in micrometres where the pixel size is known and in pixels otherwise.
    """
    size = segmentation.pixel_size
    instances = separate(
        segmentation.classes, settings=settings or InstanceSettings(), pixel_size=size
    )
    if found is not None:
        found(instances)
    return measure(
        instances,
        pixel_size=size,
        settings=measuring or MeasureSettings(),
        confidence=segmentation.confidence,
    )
