"""What is measured of every fibre: one entry per column of the table, with its unit and its meaning.

The table, its exports and the documentation all take names, units and descriptions from here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ranvier.calibration import PixelSize

__all__ = ["MEASURES", "Measure", "column_names", "measure_of"]

Kind = Literal["plain", "pixels", "length", "area"]


@dataclass(frozen=True)
class Measure:
    """One column.

    Attributes
    ----------
    name
        Without the unit.
    kind
        ``length`` and ``area`` are in um and um2 where the pixel size is known and in px and px2
        elsewhere; ``pixels`` always in pixels; ``plain`` has no unit (or names it).
    meaning
        In one sentence.
    axondeepseg
        The column of AxonDeepSeg's table that holds the same, or None.
    """

    name: str
    kind: Kind
    meaning: str
    axondeepseg: str | None = None

    def column(self, pixel_size: PixelSize | None) -> str:
        """Name of the column, with its unit."""
        unit = "px" if pixel_size is None else "um"
        ending = {"plain": "", "pixels": "_px", "length": f"_{unit}", "area": f"_{unit}2"}
        return self.name + ending[self.kind]


MEASURES = (
    Measure("id", "plain", "Value of the fibre's pixels in the instance image", None),
    Measure("centroid_row", "pixels", "Row of the axon's centroid", "y0 (px)"),
    Measure("centroid_col", "pixels", "Column of the axon's centroid", "x0 (px)"),
    Measure("bbox_top", "pixels", "First row of the fibre", "bbox_min_y"),
    Measure("bbox_left", "pixels", "First column of the fibre", "bbox_min_x"),
    Measure("bbox_bottom", "pixels", "Row after the fibre's last", "bbox_max_y"),
    Measure("bbox_right", "pixels", "Column after the fibre's last", "bbox_max_x"),
    Measure("axon_area", "area", "Area of the axon", "axon_area (um^2)"),
    Measure("myelin_area", "area", "Area of the fibre's own myelin", "myelin_area (um^2)"),
    Measure("fibre_area", "area", "Axon and myelin together", "axonmyelin_area (um^2)"),
    Measure(
        "axon_diameter", "length", "Diameter of the axon by the chosen model", "axon_diam (um)"
    ),
    Measure("fibre_diameter", "length", "Diameter of the fibre by the chosen model", None),
    Measure(
        "myelin_thickness",
        "length",
        "Half the difference of fibre and axon diameter",
        "myelin_thickness (um)",
    ),
    Measure("axon_perimeter", "length", "Length of the axon's outline", "axon_perimeter (um)"),
    Measure(
        "fibre_perimeter", "length", "Length of the fibre's outline", "axonmyelin_perimeter (um)"
    ),
    Measure("axon_feret_max", "length", "Largest distance between parallel tangents of the axon"),
    Measure("axon_feret_min", "length", "Smallest distance between parallel tangents of the axon"),
    Measure("fibre_feret_max", "length", "Largest distance between parallel tangents of the fibre"),
    Measure(
        "fibre_feret_min", "length", "Smallest distance between parallel tangents of the fibre"
    ),
    Measure("sheath_thickness_mean", "length", "Mean thickness between the membranes, all around"),
    Measure(
        "sheath_thickness_sd", "length", "Standard deviation of the thickness around the sheath"
    ),
    Measure("sheath_thickness_min", "length", "Smallest thickness around the sheath"),
    Measure("sheath_thickness_max", "length", "Largest thickness around the sheath"),
    Measure(
        "nearest_neighbour_distance", "length", "From the axon's centroid to the nearest other one"
    ),
    Measure(
        "conduction_velocity_proxy",
        "length",
        "Axon diameter times sqrt(-ln g): proportional to conduction velocity",
    ),
    Measure("g_ratio", "plain", "Axon diameter / fibre diameter, by the chosen model", "gratio"),
    Measure("g_ratio_by_area", "plain", "sqrt(axon area / fibre area)"),
    Measure("g_ratio_by_thickness", "plain", "d / (d + 2 mean sheath thickness), d of equal area"),
    Measure(
        "axon_diameter_fitted",
        "length",
        "Diameter of the circle, or minor axis of the ellipse, fitted to the axon's outline inside the image",
    ),
    Measure(
        "fibre_diameter_fitted",
        "length",
        "Diameter of the circle, or minor axis of the ellipse, fitted to the fibre's outline inside the image",
    ),
    Measure(
        "g_ratio_fitted",
        "plain",
        "Fitted axon diameter / fitted fibre diameter, also of fibres that the border cuts",
    ),
    Measure("axon_eccentricity", "plain", "Of the ellipse of equal moments, axon", "eccentricity"),
    Measure(
        "fibre_eccentricity",
        "plain",
        "Of the ellipse of equal moments, fibre",
        "fiber_eccentricity",
    ),
    Measure(
        "axon_orientation_rad", "plain", "Major axis of the axon, from the row axis", "orientation"
    ),
    Measure(
        "fibre_orientation_rad",
        "plain",
        "Major axis of the fibre, from the row axis",
        "fiber_orientation",
    ),
    Measure("axon_solidity", "plain", "Axon area / area of its convex hull", "solidity"),
    Measure("fibre_solidity", "plain", "Fibre area / area of its convex hull"),
    Measure("axon_circularity", "plain", "4 pi area / perimeter squared of the axon, at most 1"),
    Measure("fibre_circularity", "plain", "4 pi area / perimeter squared of the fibre, at most 1"),
    Measure("sheath_coverage", "plain", "Share of the axon's boundary that its own myelin covers"),
    Measure("contact_share", "plain", "Share of the fibre's boundary that touches other fibres"),
    Measure("confidence", "plain", "Mean probability of the classes chosen inside the fibre"),
    Measure("myelinated", "plain", "Whether the axon has a sheath"),
    Measure(
        "touches_border",
        "plain",
        "Whether the image's border cuts the fibre",
        "image_border_touching",
    ),
    Measure("in_frame", "plain", "Whether the unbiased counting frame counts the fibre"),
    Measure("merged", "plain", "Flag: the axon's outline suggests that several were joined"),
    Measure("open_sheath", "plain", "Flag: myelin leaves part of the axon bare"),
    Measure(
        "implausible_g_ratio", "plain", "Flag: a g-ratio that is rare in healthy and sick tissue"
    ),
    Measure("tiny", "plain", "Flag: an axon of too few pixels for an accurate g-ratio"),
)
"""Every column, in order."""


_SOME_SIZE = PixelSize(1.0, "option")


def column_names(pixel_size: PixelSize | None = None) -> tuple[str, ...]:
    """Names of the table's columns, in order, with their units.

    Parameters
    ----------
    pixel_size
        With one, lengths are in um and areas in um2; without, in px and px2.
    """
    return tuple(m.column(pixel_size) for m in MEASURES)


def measure_of(column: str) -> Measure:
    """The measure that a column holds.

    Raises
    ------
    KeyError
        No measure has a column of that name.
    """
    for measure in MEASURES:
        names = {measure.column(None)}
        if measure.kind in ("length", "area"):
            names.add(measure.column(_SOME_SIZE))
        if column in names:
            return measure
    raise KeyError(column)
