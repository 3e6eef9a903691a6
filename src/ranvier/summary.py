"""From the fibres of one image to its figures."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import MaskError, SettingsError
from ranvier.figures import (
    UM2_PER_MM2,
    aggregate_g_ratio,
    caliber_bins,
    counted,
    counts,
    densities,
    fibre_means,
    fractions,
    in_frame,
)
from ranvier.micrograph import Fibres

__all__ = ["InTissue", "SummarySettings", "pixel_shares", "summarise"]


@dataclass(frozen=True)
class SummarySettings:
    """How fibres become figures.

    Attributes
    ----------
    include_border
        Whether means and bins count fibres that the image's border cuts, too.
    caliber_bins_um
        Edges of bins of axon diameter, in um, rising; each bin holds its lower edge. Larger axons
        are counted in one more, open bin, and smaller ones in one from 0 to the first edge.
    caliber_bins_px
        The same in pixels, for images without a pixel size; None makes no bins there.

    Raises
    ------
    SettingsError
        Fewer than two edges, or edges that do not rise, are negative or not finite.
    """

    include_border: bool = False
    caliber_bins_um: tuple[float, ...] = (0, 0.25, 0.5, 1, 2, 4, 8, 16)
    caliber_bins_px: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.include_border, bool):
            raise SettingsError(
                "must be true or false", where="include_border", seen=self.include_border
            )
        for name in ("caliber_bins_um", "caliber_bins_px"):
            edges = getattr(self, name)
            if edges is not None or name == "caliber_bins_um":
                object.__setattr__(self, name, _checked_edges(edges, name))


def _checked_edges(edges: object, name: str) -> tuple[float, ...]:
    fix = "Give at least two rising numbers, 0 or more, for example 0, 1, 2, 4"
    if not isinstance(edges, tuple | list) or len(edges) < 2:
        raise SettingsError("too few edges of bins", where=name, seen=edges, fix=fix)
    numbers = all(isinstance(e, int | float) and not isinstance(e, bool) for e in edges)
    if not numbers or not all(math.isfinite(e) and e >= 0 for e in edges):
        raise SettingsError("edges of bins must be numbers from 0", where=name, seen=edges, fix=fix)
    if any(b <= a for a, b in itertools.pairwise(edges)):
        raise SettingsError("edges of bins must rise", where=name, seen=edges, fix=fix)
    return tuple(float(e) for e in edges)


_DEFAULT = SummarySettings()


@dataclass(frozen=True, eq=False)
class InTissue:
    """What of the fibres lies in a given tissue, which may cut some of them.

    Attributes
    ----------
    rows
        Which rows of the table, for counting fibres: those whose axon's centroid does.
    axon_px, fibre_px
        Pixels of tissue that are axon of a fibre, and that are of a fibre at all.
    """

    rows: NDArray[np.bool_]
    axon_px: int
    fibre_px: int


def pixel_shares(whole: int, axon: int, fibre: int) -> dict[str, float | None]:
    """Shares of so many pixels that are axon, myelin and either of a fibre; None of no pixels."""
    if not whole:
        return {"avf": None, "mvf": None, "fvf": None}
    return {"avf": axon / whole, "mvf": (fibre - axon) / whole, "fvf": fibre / whole}


def summarise(
    fibres: Fibres,
    *,
    shape: tuple[int, int],
    settings: SummarySettings = _DEFAULT,
    tissue_px: int | None = None,
    tissue_source: str | None = None,
    in_tissue: InTissue | None = None,
) -> dict[str, Any]:
    """Sum up one image.

    Area fractions are shares of the image, or of its tissue, and count every fibre, those cut by
    the border too; myelin that no axon reaches is reported apart and is in none of the others.
    Means, standard deviations (n - 1 in the denominator), medians and bins leave out fibres that
    touch the border unless the settings say otherwise; those of a g-ratio also leave out axons
    without myelin, which have none and whose thickness of myelin is 0.

    Parameters
    ----------
    fibres
        What was measured. Columns that the table lacks are left out of the figures.
    shape
        Rows and columns of the image.
    settings
        Border and bins.
    tissue_px, tissue_source
        Pixels of tissue and how they were found, from :func:`ranvier.tissue.find_tissue`.
    in_tissue
        What of the fibres lies in the tissue; None where all of each does.

    Returns
    -------
    dict
        Plain numbers, strings and lists, in a fixed order; a figure that would be 0/0 is None.
        ``unbiased_count``: fibres that the unbiased counting frame counts [1]_, whose forbidden
        lines are the left and the bottom edge of the image.
        ``<flag>_count``: flagged fibres, for each flag that the table has.
        ``avf``, ``mvf``, ``fvf``: axon, myelin and fibre area fractions of the image;
        ``avf_tissue``.. of the tissue, of whose pixels they count those that are of a fibre, so
        that none is above 1.
        ``aggregate_g_ratio``: sqrt(1 / (1 + mvf / avf)) [2]_; 1 where an image has axons and no
        myelin.
        ``density_per_mm2``: all fibres / area of the image, as other tools report it;
        ``density_per_mm2_unbiased``: unbiased count / area of the image;
        ``density_per_mm2_tissue``: unbiased count in the tissue / area of the tissue; each None
        without a pixel size.
        ``<column>_n``, ``_mean``, ``_sd``, ``_median``: of the table's columns, with their units.
        ``caliber_bins``: as of :func:`ranvier.figures.caliber_bins`, empty where there are no edges in this unit.

    Raises
    ------
    MaskError
        The shape is not that of the label images, there is more tissue than image, or
        ``in_tissue`` has not one value per fibre, or more pixels of fibres than tissue.

    References
    ----------
    .. [1] Gundersen H.J.G. (1977). Notes on the estimation of the numerical density of arbitrary
       profiles: the edge effect. J Microsc 111, 219-223.
    .. [2] Stikov N. et al. (2015). In vivo histology of the myelin g-ratio with magnetic
       resonance imaging. NeuroImage 118, 397-405.
    """
    _check(fibres, shape, tissue_px, in_tissue)
    table, size = fibres.table, fibres.pixel_size
    unit = "px" if size is None else "um"
    used = counted(table, include_border=settings.include_border)
    bins = settings.caliber_bins_px if size is None else settings.caliber_bins_um
    return {
        "length_unit": unit,
        "pixel_size_um": None if size is None else size.um,
        "pixel_size_source": None if size is None else size.source,
        **counts(table, shape),
        "small_axons_left_out": fibres.instances.small_axons,
        **_of_image(fibres, shape),
        **_of_tissue(fibres, tissue_px, tissue_source, shape, in_tissue),
        **fibre_means(table, unit, used),
        "caliber_bins": [] if bins is None else caliber_bins(table, unit, used, edges=bins),
    }


def _check(
    fibres: Fibres,
    shape: tuple[int, int],
    tissue_px: int | None,
    in_tissue: InTissue | None,
) -> None:
    if tuple(shape) != fibres.instances.fibres.shape:
        raise MaskError(
            "the image and its labels differ in shape",
            seen=f"{tuple(shape)} and {fibres.instances.fibres.shape}",
        )
    if tissue_px is not None and not 0 <= tissue_px <= shape[0] * shape[1]:
        raise MaskError(
            "more tissue than image, or less than none",
            seen=f"{tissue_px} of {shape[0] * shape[1]} pixels",
        )
    if in_tissue is None:
        return
    if in_tissue.rows.shape != (len(fibres),):
        raise MaskError(
            "in_tissue must have one value per fibre",
            seen=f"shape {in_tissue.rows.shape} for {len(fibres)} fibres",
        )
    if not 0 <= in_tissue.axon_px <= in_tissue.fibre_px <= (tissue_px or 0):
        raise MaskError(
            "more axon than fibre in the tissue, or more fibre than tissue",
            seen=f"{in_tissue.axon_px}, {in_tissue.fibre_px} and {tissue_px} pixels",
        )


def _of_image(fibres: Fibres, shape: tuple[int, int]) -> dict[str, Any]:
    size = fibres.pixel_size
    pixels = shape[0] * shape[1]
    unit = "px" if size is None else "um"
    area = pixels * (1.0 if size is None else size.um**2)
    shares = fractions(fibres.table, unit, area)
    return {
        f"image_area_{unit}2": area,
        **shares,
        "orphan_myelin_count": fibres.instances.orphan_myelin_count,
        "orphan_myelin_fraction": fibres.instances.orphan_myelin_px / pixels,
        "aggregate_g_ratio": aggregate_g_ratio(shares["avf"], shares["mvf"]),
        **densities(fibres.table, shape, None if size is None else area),
    }


def _of_tissue(
    fibres: Fibres,
    pixels: int | None,
    source: str | None,
    shape: tuple[int, int],
    part: InTissue | None,
) -> dict[str, Any]:
    size = fibres.pixel_size
    unit = "px" if size is None else "um"
    area = (pixels or 0) * (1.0 if size is None else size.um**2)
    shares = (
        fractions(fibres.table, unit, area)
        if part is None
        else pixel_shares(pixels or 0, part.axon_px, part.fibre_px)
    )
    frame = in_frame(fibres.table, shape)
    density = None
    if size is not None and area > 0 and frame is not None:
        inside = frame if part is None else frame & part.rows
        density = int(np.count_nonzero(inside)) / area * UM2_PER_MM2
    return {
        "tissue_px": pixels,
        f"tissue_area_{unit}2": None if pixels is None else area,
        "tissue_share": None if pixels is None else pixels / (shape[0] * shape[1]),
        "tissue_source": None if pixels is None else source,
        **{f"{name}_tissue": share for name, share in shares.items()},
        "density_per_mm2_tissue": density,
    }
