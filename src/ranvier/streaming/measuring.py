"""The table of fibres on disk, the same as :func:`ranvier.morphometrics.measure` makes of an image in memory."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ranvier._fits import fitted_diameters
from ranvier._membranes import Membranes, _covered, _outer, _share, _statistics
from ranvier._shapes import _moments, _runs, shapes_of
from ranvier.contours import OUTSIDE, trace
from ranvier.measures import MEASURES
from ranvier.micrograph import Array, Instances
from ranvier.morphometrics import MeasureSettings, _flags, _mean_confidence, _outlines, _sizes
from ranvier.streaming.crops import LARGEST_PX, Crop, crops, placed
from ranvier.streaming.disk_table import DiskTable
from ranvier.streaming.planes import Plane, cores
from ranvier.streaming.separating import Separated
from ranvier.tiling import Box

__all__ = ["measure_streamed"]

_SUM = 4096
"""Edge of the parts in which the area of a fibre that is too large for a crop is summed up."""


def measure_streamed(
    found: Separated,
    table: DiskTable,
    *,
    settings: MeasureSettings,
    confidence: Plane | None = None,
    window: int = 1024,
    largest: int = LARGEST_PX,
) -> int:
    """Measure every fibre, crop by crop.

    Parameters
    ----------
    found
        Fibres on disk.
    table
        Filled, one row per fibre.
    settings
        As for ``measure``.
    confidence
        Probability of the class chosen for each pixel, times 255.
    window, largest
        Size of crops; see :func:`ranvier.streaming.crops.crops`.

    Returns
    -------
    too_large
        Number of fibres whose box is larger than ``largest``. They have a place, areas, what follows from areas
        in the circle model, and the flag ``merged``; their other measures are missing.
    """
    centres = np.zeros((found.count, 2))
    too_large = 0
    for crop in crops(found, window=window, largest=largest):
        if isinstance(crop, int):
            values = _by_area(found, crop, confidence)
            too_large += 1
        else:
            values = _measured(found, crop, settings, confidence)
        centres[np.asarray(values["id"]) - 1] = np.column_stack(
            (values["centroid_row"], values["centroid_col"])
        )
        table.write(_in_units(values, table))
    if found.count > 1:
        nearest = cKDTree(centres).query(centres, k=2)[0][:, 1]
        scale = 1.0 if table.pixel_size is None else table.pixel_size.um
        entry = next(m for m in MEASURES if m.name == "nearest_neighbour_distance")
        table.replace(entry.column(table.pixel_size), nearest * scale)
    return too_large


def _in_units(values: Mapping[str, Array], table: DiskTable) -> dict[str, Array]:
    """Columns by their names, in micrometres where the pixel size is known."""
    columns, size = {}, table.pixel_size
    for entry in MEASURES:
        power = {"length": 1, "area": 2}.get(entry.kind, 0)
        scale = 1.0 if size is None else size.um**power
        value = values[entry.name]
        columns[entry.column(size)] = value * scale if power else value
    return columns


def _at_edge(boxes: NDArray[np.int32], shape: tuple[int, int]) -> NDArray[np.bool_]:
    at_edge: NDArray[np.bool_] = (boxes[:, :2] == 0).any(axis=1)
    at_edge |= (boxes[:, 2] == shape[0]) | (boxes[:, 3] == shape[1])
    return at_edge


def _measured(
    found: Separated, crop: Crop, settings: MeasureSettings, confidence: Plane | None
) -> dict[str, Array]:
    """Measures of the fibres of a crop, in pixels; the nearest neighbour is not known yet."""
    count, own = crop.ids.size, crop.own
    axon, fibre = shapes_of(crop.axons, count), shapes_of(own, count)
    membranes = _membranes(crop, ellipse=settings.axon_shape == "ellipse")
    cut = _at_edge(found.axon_boxes[crop.ids - 1], found.fibres.shape)
    # From the corner of each axon's own box, so that not even the last digit depends on the crop.
    _, row, col, *_ = _moments(_runs(crop.axons), axon.box[0], axon.box[1])
    corner = found.axon_boxes[crop.ids - 1].astype(np.int64)
    values = {
        **_place(found, crop.ids, (corner[:, 0] + row, corner[:, 1] + col)),
        **_sizes(axon, fibre, membranes, settings=settings, cut=cut),
        **_outlines(axon, fibre, membranes),
        "confidence": _mean_confidence(
            Instances(crop.axons, own, count),
            None if confidence is None else confidence.read(crop.box),
            fibre.area,
        ),
    }
    return values | _flags(axon, values, settings)


def _place(
    found: Separated, ids: NDArray[np.int64], centre: tuple[Array, Array]
) -> dict[str, Array]:
    axon, fibre = (boxes[ids - 1] for boxes in (found.axon_boxes, found.fibre_boxes))
    shape = found.fibres.shape
    top, left, bottom, right = fibre.astype(np.int64).T
    return {
        "id": ids.astype(np.int32),
        "centroid_row": centre[0],
        "centroid_col": centre[1],
        "bbox_top": top,
        "bbox_left": left,
        "bbox_bottom": bottom,
        "bbox_right": right,
        "touches_border": _at_edge(fibre, shape),
        "in_frame": (axon[:, 1] > 0) & (axon[:, 2] < shape[0]),
        "nearest_neighbour_distance": np.full(ids.size, np.nan),
    }


def _membranes(crop: Crop, *, ellipse: bool) -> Membranes:
    """As :func:`ranvier._membranes.membranes_of`, of the fibres of a crop."""
    instances = Instances(crop.axons, crop.fibres, crop.ids.size + 1)
    count = instances.count
    axon, fibre = (placed(trace(x, count), crop.box) for x in (crop.axons, crop.fibres))
    outer = _outer(axon, fibre, instances)
    inside = np.flatnonzero(axon.other != OUTSIDE)
    found = (
        _share(axon, _covered(axon, instances), count),
        _share(fibre, fibre.other > 0, count),
        *_statistics(fibre, outer, count=count),
        fitted_diameters(axon, inside, count, ellipse=ellipse),
        fitted_diameters(fibre, outer.edge, count, ellipse=ellipse),
    )
    return Membranes(*(values[:-1] for values in found))


def _by_area(found: Separated, label: int, confidence: Plane | None) -> dict[str, Array]:
    """What the pixels of one fibre tell that is too large for a crop."""
    box = Box(*(int(n) for n in found.fibre_boxes[label - 1]))
    axon_px = fibre_px = row_sum = col_sum = sure = 0
    for inner_box in cores(box.shape, _SUM):
        part = Box(
            inner_box.top + box.top,
            inner_box.left + box.left,
            inner_box.bottom + box.top,
            inner_box.right + box.left,
        )
        axon, fibre = found.axons.read(part) == label, found.fibres.read(part) == label
        by_row, by_col = axon.sum(axis=1, dtype=np.int64), axon.sum(axis=0, dtype=np.int64)
        axon_px += int(by_row.sum())
        fibre_px += int(np.count_nonzero(fibre))
        row_sum += int(by_row @ np.arange(part.top, part.bottom))
        col_sum += int(by_col @ np.arange(part.left, part.right))
        if confidence is not None:
            sure += int(confidence.read(part)[fibre].sum(dtype=np.int64))
    inner, outer = np.array([float(axon_px)]), np.array([float(fibre_px)])
    values: dict[str, Array] = {m.name: np.array([np.nan]) for m in MEASURES}
    ids = np.array([label], dtype=np.int64)
    centre = np.array([row_sum / axon_px]), np.array([col_sum / axon_px])
    has_myelin = outer > inner
    g_ratio = np.where(has_myelin, np.sqrt(inner / outer), np.nan)
    diameters = 2 * np.sqrt(inner / np.pi), 2 * np.sqrt(outer / np.pi)
    no = np.zeros(1, dtype=bool)
    return values | {
        **_place(found, ids, centre),
        "axon_area": inner,
        "myelin_area": outer - inner,
        "fibre_area": outer,
        "axon_diameter": diameters[0],
        "fibre_diameter": diameters[1],
        "myelin_thickness": (diameters[1] - diameters[0]) / 2,
        "g_ratio": g_ratio,
        "g_ratio_by_area": g_ratio,
        "confidence": np.array([np.nan]) if confidence is None else sure / (255 * outer),
        "myelinated": has_myelin,
        "merged": ~no,
        "open_sheath": no,
        "implausible_g_ratio": no,
        "tiny": no,
    }
