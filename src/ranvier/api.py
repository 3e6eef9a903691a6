"""The public functions, each from the room that it lives in."""

from __future__ import annotations

from ranvier import morphometrics
from ranvier.evaluation import evaluate
from ranvier.exporting import save
from ranvier.inference import load_model, segment
from ranvier.instances import InstanceSettings, separate
from ranvier.micrograph import Fibres, Segmentation
from ranvier.reading import read

__all__ = ["evaluate", "load_model", "measure", "read", "save", "segment"]


def measure(segmentation: Segmentation, *, settings: InstanceSettings | None = None) -> Fibres:
    """Measure every fibre of a segmentation.

    Parameters
    ----------
    segmentation
        From :func:`ranvier.segment`, or made from masks of any tool with :mod:`ranvier.masks`.
    settings
        How classes become fibres.

    Returns
    -------
    fibres
        One row per fibre, in micrometres where the pixel size is known and in pixels otherwise.
    """
    instances = separate(
        segmentation.classes,
        settings=settings or InstanceSettings(),
        pixel_size=segmentation.pixel_size,
    )
    return morphometrics.measure(instances, pixel_size=segmentation.pixel_size)
