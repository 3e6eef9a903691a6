"""Whether an image that is streamed, and so shown as it is, would better be shown at another zoom."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from ranvier.inference import Model
from ranvier.preprocess import GreyStatistics
from ranvier.streaming.sources import WindowSource
from ranvier.tilewise import InferenceSettings
from ranvier.zooming import Viewer, choose_zoom_of, trained_axon_px

__all__ = ["suiting_zoom", "warning_of"]

_FAR = 1.5
"""A zoom that differs from 1 by a larger factor is worth a warning."""


def suiting_zoom(
    source: WindowSource, model: Model, grey: GreyStatistics, settings: InferenceSettings
) -> dict[str, Any]:
    """The zoom that was asked for and taken, which is 1, and the one that would suit the image where that was ``auto``.

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
        As :meth:`ranvier.zooming.ZoomChoice.as_dict`, with ``suggested``; ``chosen`` is 1.
    """
    if settings.zoom != "auto":
        return {"asked": settings.zoom, "chosen": settings.zoom}
    bundle = model.bundle
    # Nothing is resampled as a whole here, so no zoom is too large.
    free = replace(settings, max_zoomed_px=sys.maxsize)
    viewer = Viewer(model.backend, bundle.field, bundle.normalisation, free)
    choice = choose_zoom_of(source, grey, viewer, axon_px=trained_axon_px(bundle.about))
    return {**choice.as_dict(), "chosen": 1.0, "suggested": choice.zoom}


def warning_of(zoom: dict[str, Any]) -> str | None:
    """What the user is told of a zoom that would suit the image better; None where it is not far from 1."""
    suggested = zoom.get("suggested", 1.0)
    if 1 / _FAR < suggested < _FAR:
        return None
    fix = "choose a --level near it, or make" if suggested < 1 else "make"
    return (
        f"warning: shown to the model as it is, but its fibres look as in training at zoom {suggested:.3g}: "
        f"{fix} a resampled copy, or cut it and use --stream never"
    )
