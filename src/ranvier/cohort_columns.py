"""The columns of a cohort's manifest: which have a meaning, and which names are taken by results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from ranvier.calibration import PixelSize
from ranvier.figures import counted, counts, densities, fibre_means, fractions
from ranvier.measures import MEASURES

__all__ = ["COLUMNS", "header_problems", "reserved_names"]

COLUMNS = (
    "id",
    "image",
    "subject",
    "group",
    "mask",
    "axon_mask",
    "myelin_mask",
    "nerve_mask",
    "pixel_size_um",
    "zoom",
    "page",
    "channel",
)
"""Columns that have a meaning; all others are carried into the tables."""
_MEANT_AS_PIXEL_SIZE = {
    "pixelsize",
    "pixelsizeum",
    "pixelsizeµm",
    "pixelsizemicrometer",
    "umperpixel",
}
_TISSUE = ("avf_tissue", "mvf_tissue", "fvf_tissue", "density_per_mm2_tissue", "tissue_source")
_OWN = ("file", "results", "measure", "n_images", "n_fibres", "n_fibres_in_means", "length_unit")


def header_problems(names: Sequence[str]) -> Iterable[str]:
    """What is wrong with the names of the columns."""
    if not {"image", "mask", "axon_mask"} & set(names):
        yield "no column image, nor one of masks"
    for name in dict.fromkeys(names):
        if not name:
            yield "a column without a name"
        elif names.count(name) > 1:
            yield f"column {name} stands {names.count(name)} times"
    if "group" in names and "subject" not in names:
        yield "column group needs a column subject: a group is described by its subjects"
    if ("axon_mask" in names) != ("myelin_mask" in names):
        yield "axon_mask and myelin_mask go together; one mask with three levels goes into mask"
    taken = reserved_names()
    for name in names:
        plain = re.sub(r"[\W_]", "", name.lower())
        if name not in COLUMNS and plain in _MEANT_AS_PIXEL_SIZE:
            yield f"column {name}: the name of this column is pixel_size_um"
        elif name not in COLUMNS and name in taken:
            yield f"column {name} has the name of a result: rename it"


def reserved_names() -> frozenset[str]:
    """Names of results in the cohort's tables, which no other column may have."""
    names = {*_OWN, *_TISSUE, "aggregate_g_ratio", "pixel_size_um"}
    for unit, size in (("um", PixelSize(1.0, "option")), ("px", None)):
        table = {measure.column(size): np.zeros(0) for measure in MEASURES}
        names |= {*table, f"image_area_{unit}2", f"tissue_area_{unit}2"}
        names |= {
            *counts(table, (1, 1)),
            *fractions(table, unit, 1.0),
            *densities(table, (1, 1), 1.0),
        }
        names |= {*fibre_means(table, unit, counted(table, include_border=True))}
    return frozenset(names)
