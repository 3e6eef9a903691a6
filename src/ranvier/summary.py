"""From the fibres of one image to its figures."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import MaskError
from ranvier.micrograph import Fibres

__all__ = ["summarise"]

UM2_PER_MM2 = 1e6


def summarise(fibres: Fibres, *, shape: tuple[int, int]) -> dict[str, float | int | str | None]:
    """Sum up one image.

    Area fractions are shares of the image and count every fibre, those cut by its border too;
    myelin that no axon reaches is reported apart and is in none of the others. Means, standard
    deviations (n - 1 in the denominator) and medians leave out fibres that touch the border; those
    of the g-ratio also leave out axons without myelin, whose thickness of myelin is 0.

    Parameters
    ----------
    fibres
        What was measured.
    shape
        Rows and columns of the image.

    Returns
    -------
    dict
        Plain numbers and strings, in a fixed order; a figure that would be 0/0 is None.
        ``avf``, ``mvf``, ``fvf``: axon, myelin and fibre area fractions.
        ``aggregate_g_ratio``: sqrt(1 / (1 + mvf / avf)) (Stikov et al. 2015); 1 where an image
        has axons and no myelin.
        ``density_per_mm2``: fibres per mm2; None without a pixel size.
        ``<column>_mean``, ``_sd``, ``_median``: of the table's columns, with their units.

    Raises
    ------
    MaskError
        The shape is not that of the label images.

    References
    ----------
    Stikov N. et al. (2015). In vivo histology of the myelin g-ratio with magnetic resonance
    imaging. NeuroImage 118, 397-405.
    """
    if tuple(shape) != fibres.instances.fibres.shape:
        raise MaskError(
            "the image and its labels differ in shape",
            seen=f"{tuple(shape)} and {fibres.instances.fibres.shape}",
        )
    table = fibres.table
    size = fibres.pixel_size
    unit = "px" if size is None else "um"
    image_px = shape[0] * shape[1]
    image_area = image_px * (1.0 if size is None else size.um**2)
    avf = float(np.sum(table[f"axon_area_{unit}2"])) / image_area
    mvf = float(np.sum(table[f"myelin_area_{unit}2"])) / image_area
    inner = ~table["touches_border"]
    result: dict[str, float | int | str | None] = {
        "length_unit": unit,
        "pixel_size_um": None if size is None else size.um,
        "pixel_size_source": None if size is None else size.source,
        "fibre_count": len(fibres),
        "border_fibre_count": int(np.count_nonzero(~inner)),
        "small_axons_left_out": fibres.instances.small_axons,
        "myelinated_count": int(np.count_nonzero(table["myelinated"])),
        "avf": avf,
        "mvf": mvf,
        "fvf": avf + mvf,
        "orphan_myelin_fraction": fibres.instances.orphan_myelin_px / image_px,
        "aggregate_g_ratio": math.sqrt(1 / (1 + mvf / avf)) if avf > 0 else None,
        "density_per_mm2": None if size is None else len(fibres) / image_area * UM2_PER_MM2,
    }
    for name in (f"axon_diameter_{unit}", f"myelin_thickness_{unit}", "g_ratio"):
        result |= _spread(name, table[name][inner])
    return result


def _spread(name: str, values: NDArray[np.float64]) -> dict[str, float | int | str | None]:
    values = values[np.isfinite(values)]
    return {
        f"{name}_n": int(values.size),
        f"{name}_mean": float(values.mean()) if values.size else None,
        f"{name}_sd": float(values.std(ddof=1)) if values.size > 1 else None,
        f"{name}_median": float(np.median(values)) if values.size else None,
    }
