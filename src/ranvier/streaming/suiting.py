"""The zoom at which an image that is streamed is shown to the network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ranvier._zoom_windows import Pixels
from ranvier.errors import SettingsError
from ranvier.inference import Model, zoom_record
from ranvier.preprocess import GreyStatistics, zoomed_shape
from ranvier.tilewise import InferenceSettings
from ranvier.zooming import Viewer, choose_zoom_of, trained_axon_px

__all__ = ["MOST_ZOOMED_PX", "check_zoom", "taken_zoom"]

MOST_ZOOMED_PX = 20_000_000_000
"""Pixels after a zoom above which a network would take days, and the disk be full."""


def check_zoom(shape: tuple[int, int], settings: InferenceSettings) -> None:
    """Refuse a zoom, given as a number, that no machine is meant for.

    Parameters
    ----------
    shape
        Rows and columns of the image.
    settings
        What was asked for; ``auto`` never chooses such a zoom.

    Raises
    ------
    SettingsError
        There would be more than ``MOST_ZOOMED_PX`` pixels.
    """
    if settings.zoom == "auto":
        return
    rows, columns = zoomed_shape(shape, settings.zoom)
    if (rows, columns) != shape and rows * columns > MOST_ZOOMED_PX:
        raise SettingsError(
            "the image would become too large, even for the disk",
            where="--zoom",
            seen=f"{rows} x {columns} pixels at zoom {settings.zoom:g}",
            fix=f"Choose a zoom that keeps it below {MOST_ZOOMED_PX:,} pixels, or a --region",
        )


def taken_zoom(
    source: Pixels, model: Model, grey: GreyStatistics, settings: InferenceSettings
) -> dict[str, Any]:
    """The zoom that was asked for and the one that is taken, as they are recorded in memory, too.

    Where it is ``auto``, the zoom is that of :func:`ranvier.zooming.choose_zoom` for the same pixels, unless memory
    would bound it there.

    Parameters
    ----------
    source, grey
        The image and its statistics; a few windows are read.
    model
        See :func:`ranvier.streaming.classes.check_model`.
    settings
        What was asked for.

    Returns
    -------
    dict
        ``asked`` and ``chosen``; as :meth:`ranvier.zooming.ZoomChoice.as_dict` where it was ``auto``.
    """
    if settings.zoom != "auto":
        return {"asked": settings.zoom, "chosen": settings.zoom}
    bundle = model.bundle
    free = replace(settings, max_zoomed_px=MOST_ZOOMED_PX)
    viewer = Viewer(model.looker, bundle.field, bundle.normalisation, free)
    choice = choose_zoom_of(source, grey, viewer, axon_px=trained_axon_px(bundle.about))
    return zoom_record(choice, model)
