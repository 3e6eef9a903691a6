"""What a table of fibres says as a whole: which rows count, their means and their bins."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.measures import MEASURES
from ranvier.micrograph import Array

__all__ = [
    "FLAGS",
    "MEANS",
    "UM2_PER_MM2",
    "aggregate_g_ratio",
    "caliber_bins",
    "counted",
    "counts",
    "densities",
    "fibre_means",
    "fractions",
    "in_frame",
    "mean_columns",
]

UM2_PER_MM2 = 1e6
MEANS = (
    "axon_diameter",
    "fibre_diameter",
    "myelin_thickness",
    "sheath_thickness_mean",
    "g_ratio",
    "g_ratio_by_thickness",
    "conduction_velocity_proxy",
    "axon_circularity",
    "sheath_coverage",
    "confidence",
)
"""Measures whose mean, standard deviation and median are figures of an image."""
FLAGS = ("merged", "open_sheath", "implausible_g_ratio", "tiny")
"""Columns that flag a fibre; each is counted where the table has it."""


def counted(table: Mapping[str, Array], *, include_border: bool) -> NDArray[np.bool_]:
    """Which fibres means and bins count."""
    border = np.asarray(table["touches_border"], dtype=bool)
    return np.ones_like(border) if include_border else ~border


def in_frame(table: Mapping[str, Array], shape: tuple[int, int]) -> NDArray[np.bool_] | None:
    """Which fibres the unbiased counting frame counts (Gundersen 1977, J Microsc 111, 219-223).

    The frame is the image. Fibres that touch its left or its bottom edge are not counted; those
    that touch only its top or right edge are. Every profile of a plane that is tiled by such frames
    is then counted once. Of fibres, those are missed whose sheath crosses an edge and whose axon
    does not: the frame that should count them sees no axon.

    Returns
    -------
    ndarray of bool or None
        The column ``in_frame``, or what the boxes say where that is missing; None without either.
    """
    if "in_frame" in table:
        return np.asarray(table["in_frame"], dtype=bool)
    if not {"bbox_left_px", "bbox_bottom_px"} <= set(table):
        return None
    kept: NDArray[np.bool_] = (table["bbox_left_px"] > 0) & (table["bbox_bottom_px"] < shape[0])
    return kept


def counts(table: Mapping[str, Array], shape: tuple[int, int]) -> dict[str, int | None]:
    """How many fibres there are, of which kind, and with which flags."""
    frame = in_frame(table, shape)
    fibres = len(table["touches_border"])
    myelinated = int(np.count_nonzero(table["myelinated"]))
    return {
        "fibre_count": fibres,
        "border_fibre_count": int(np.count_nonzero(table["touches_border"])),
        "unbiased_count": None if frame is None else int(np.count_nonzero(frame)),
        "myelinated_count": myelinated,
        "unmyelinated_count": fibres - myelinated,
        **{f"{f}_count": int(np.count_nonzero(table[f])) for f in FLAGS if f in table},
    }


def fractions(table: Mapping[str, Array], unit: str, area: float) -> dict[str, float | None]:
    """Axon, myelin and fibre area as shares of an area; None of no area."""
    if not area > 0:
        return {"avf": None, "mvf": None, "fvf": None}
    avf, mvf = (float(np.sum(table[f"{kind}_area_{unit}2"])) / area for kind in ("axon", "myelin"))
    return {"avf": avf, "mvf": mvf, "fvf": avf + mvf}


def densities(
    table: Mapping[str, Array], shape: tuple[int, int], area_um2: float | None
) -> dict[str, float | None]:
    """All fibres, and those of the unbiased frame, per mm2 of image; None without a pixel size."""
    number = counts(table, shape)
    return {
        name: None if area_um2 is None or n is None else n / area_um2 * UM2_PER_MM2
        for name, n in (
            ("density_per_mm2", number["fibre_count"]),
            ("density_per_mm2_unbiased", number["unbiased_count"]),
        )
    }


def aggregate_g_ratio(avf: float | None, mvf: float | None) -> float | None:
    """sqrt(1 / (1 + mvf / avf)) (Stikov et al. 2015, NeuroImage 118, 397-405); None without axons."""
    if avf is None or mvf is None or not avf > 0:
        return None
    return math.sqrt(1 / (1 + mvf / avf))


def mean_columns(table: Mapping[str, Any], unit: str) -> Iterator[str]:
    """Columns of a table, with their unit, whose means are figures."""
    kinds = {m.name: m.kind for m in MEASURES}
    for name in MEANS:
        column = f"{name}_{unit}" if kinds.get(name) == "length" else name
        if column in table:
            yield column


def fibre_means(table: Mapping[str, Array], unit: str, used: NDArray[np.bool_]) -> dict[str, Any]:
    """Number, mean, standard deviation and median of each column over the fibres that count."""
    found: dict[str, Any] = {}
    for column in mean_columns(table, unit):
        values = np.asarray(table[column], dtype=np.float64)[used]
        found |= _spread(column, values[np.isfinite(values)])
    return found


def _spread(name: str, values: NDArray[np.float64]) -> dict[str, float | int | None]:
    return {
        f"{name}_n": int(values.size),
        f"{name}_mean": float(values.mean()) if values.size else None,
        f"{name}_sd": float(values.std(ddof=1)) if values.size > 1 else None,
        f"{name}_median": float(np.median(values)) if values.size else None,
    }


def caliber_bins(
    table: Mapping[str, Array],
    unit: str,
    used: NDArray[np.bool_],
    *,
    edges: tuple[float, ...],
) -> list[dict[str, Any]]:
    """Fibres by the diameter of their axon; the counts add up to the fibres that count.

    Returns
    -------
    list of dict
        By bin: ``from`` (in it) and ``to`` (not in it; None for the open one), in the table's
        unit, ``count``, ``share`` of all that count (None where none does), ``myelinated_count``,
        and ``g_ratio_n``, ``_mean``, ``_sd``, ``_median`` of those with a g-ratio.
    """
    diameter = np.asarray(table[f"axon_diameter_{unit}"], dtype=np.float64)[used]
    myelinated = np.asarray(table["myelinated"], dtype=bool)[used]
    g_ratio = np.asarray(table["g_ratio"], dtype=np.float64)[used]
    lower = edges if edges[0] == 0 else (0.0, *edges)
    place = np.searchsorted(lower, diameter, side="right") - 1
    bins = []
    for i, (low, high) in enumerate(zip(lower, (*lower[1:], None), strict=True)):
        here = place == i
        values = g_ratio[here]
        count = int(np.count_nonzero(here))
        bins.append(
            {
                "from": float(low),
                "to": high,
                "count": count,
                "share": count / diameter.size if diameter.size else None,
                "myelinated_count": int(np.count_nonzero(myelinated[here])),
                **_spread("g_ratio", values[np.isfinite(values)]),
            }
        )
    return bins
