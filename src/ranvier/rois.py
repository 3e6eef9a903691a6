"""Fibres as polygons for other programs: GeoJSON for QuPath, regions of interest for ImageJ."""

from __future__ import annotations

import io
import json
import math
import uuid
import zipfile
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.contours import trace
from ranvier.micrograph import Array, Fibres
from ranvier.pictures import AXON_COLOUR, MYELIN_COLOUR
from ranvier.polygons import Polygon, Ring, rings

__all__ = ["geojson", "imagej_rois"]

_NAMESPACE = uuid.UUID("6f1c8a5e-2b0d-5b52-9d0b-6b0f5a3c7e11")
"""Of the fibres' UUIDs."""
_ZIP_TIME = (1980, 1, 1, 0, 0, 0)
_MOVE, _LINE, _CLOSE = 0.0, 1.0, 4.0
"""Segments of a path, as java.awt.geom.PathIterator numbers them."""


def geojson(fibres: Fibres, *, nested: bool = True) -> bytes:
    """Every fibre and its axon as polygons, in GeoJSON (RFC 7946) as QuPath reads it.

    Coordinates are (column, row) in pixels of the full image, from its top left corner; polygons run along
    the edges of pixels. Each fibre is a Feature of QuPath's type "detection" with class "Fibre", its id as
    name and the table's values as measurements: booleans as 0 and 1, none for a missing value. Its axon is
    another, of class "Axon" and the same name, whose metadata name the fibre's UUID as ``parent``.

    QuPath nests an object in another only where it stands in the other's ``properties.childObjects``: it does
    not nest detections by where they lie. General readers, on the other hand, see only the Features of the
    collection. Hence the two forms.

    Parameters
    ----------
    fibres
        What was measured.
    nested
        True puts each axon into its fibre's ``childObjects``, so that it is nested in QuPath (0.4 or later)
        and general readers see the fibres. False lists it after its fibre, so that general readers see both
        and QuPath shows both side by side.

    Returns
    -------
    bytes
        UTF-8, a line per Feature. UUIDs are made from id and outline (version 5), so that the same fibres
        have the same UUIDs and those of different images differ.

    Notes
    -----
    QuPath's importer (``qupath.lib.io.PathObjectTypeAdapters``) takes from a Feature its ``id`` (a UUID),
    ``geometry``, and of ``properties`` the members ``objectType``, ``name``, ``classification`` (``name``,
    ``color``), ``measurements`` (name to number), ``metadata`` (name to text) and ``childObjects``.
    """
    fibre_shapes, axon_shapes = _shapes(fibres)
    names = list(fibres.table)
    columns = [_numbers(np.asarray(values)) for values in fibres.table.values()]
    features: list[str] = []
    for row, label in enumerate(_ids(fibres)):
        if label not in fibre_shapes:
            continue
        values = [column[row] for column in columns]
        measured = {n: v for n, v in zip(names, values, strict=True) if v is not None}
        fibre = _feature("Fibre", label, fibre_shapes[label])
        fibre["properties"]["measurements"] = measured
        listed = [fibre]
        if label in axon_shapes:
            axon = _feature("Axon", label, axon_shapes[label])
            axon["properties"]["metadata"] = {"parent": fibre["id"]}
            if nested:
                fibre["properties"]["childObjects"] = [axon]
            else:
                listed.append(axon)
        features += (json.dumps(f, separators=(",", ":"), allow_nan=False) for f in listed)
    return ('{"type":"FeatureCollection","features":[\n' + ",\n".join(features) + "\n]}\n").encode()


def _shapes(fibres: Fibres) -> tuple[dict[int, list[Polygon]], dict[int, list[Polygon]]]:
    """Polygons of the fibres and of their axons, by id."""
    instances = fibres.instances
    fibre, axon = (rings(trace(x, instances.count)) for x in (instances.fibres, instances.axons))
    return fibre, axon


def _ids(fibres: Fibres) -> list[int]:
    return [int(label) for label in fibres.table["id"]]


def _numbers(values: Array) -> list[float | int | None]:
    """Values as JSON has them; None for what it has not."""
    if values.dtype.kind == "b":
        return [int(v) for v in values.tolist()]
    if values.dtype.kind in "iu":
        return list(values.tolist())
    if values.dtype.kind == "f":
        return [v if math.isfinite(v) else None for v in values.tolist()]
    return [None] * values.size


def _feature(kind: str, label: int, parts: list[Polygon]) -> dict[str, Any]:
    polygons = [[_closed(ring) for ring in polygon] for polygon in parts]
    single = len(polygons) == 1
    geometry = {
        "type": "Polygon" if single else "MultiPolygon",
        "coordinates": polygons[0] if single else polygons,
    }
    colour = MYELIN_COLOUR if kind == "Fibre" else AXON_COLOUR
    return {
        "type": "Feature",
        "id": str(uuid.uuid5(_NAMESPACE, f"{kind} {label} {geometry}")),
        "geometry": geometry,
        "properties": {
            "objectType": "detection",
            "name": str(label),
            "classification": {"name": kind, "color": list(colour)},
            "isLocked": False,
        },
    }


def _closed(ring: Ring) -> list[list[int]]:
    """Corners as x and y, the first once more at the end."""
    points: list[list[int]] = ring[:, ::-1].tolist()
    return [*points, points[0]]


def imagej_rois(fibres: Fibres) -> bytes:
    """Outlines of every fibre and of its axon, as a zip that ImageJ's ROI manager opens.

    ``0001_axon.roi`` and ``0001_fibre.roi`` are those of id 1; the number has more digits where ids need
    them. An outline without holes is what ImageJ's wand makes (a traced ROI): whole corners of pixels, the
    origin at the image's top left. One with holes or in several parts is a composite ROI of all its rings,
    inside which is what an odd number of them encloses; nothing is left out.

    Returns
    -------
    bytes
        The same for the same fibres: the files bear the time 1980-01-01.
    """
    fibre_shapes, axon_shapes = _shapes(fibres)
    ids = _ids(fibres)
    digits = max(4, len(str(max(ids, default=0))))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for label in ids:
            for kind, shapes, colour in (
                ("axon", axon_shapes, AXON_COLOUR),
                ("fibre", fibre_shapes, MYELIN_COLOUR),
            ):
                if label in shapes:
                    name = f"{label:0{digits}d}_{kind}"
                    entry = zipfile.ZipInfo(f"{name}.roi", date_time=_ZIP_TIME)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    entry.create_system, entry.external_attr = 3, 0o644 << 16
                    archive.writestr(entry, _roi(name, shapes[label], colour=colour))
    return buffer.getvalue()


def _roi(name: str, parts: list[Polygon], *, colour: tuple[int, int, int]) -> bytes:
    """One ROI in ImageJ's format."""
    from roifile import ROI_TYPE, ImagejRoi

    outlines = [ring[:, ::-1] for polygon in parts for ring in polygon]
    if len(outlines) == 1:
        roi = ImagejRoi.frompoints(outlines[0], name=name)
        roi.roitype = ROI_TYPE.TRACED
        roi.right, roi.bottom = roi.right - 1, roi.bottom - 1  # corners, not pixels, are counted
    else:
        roi = ImagejRoi()
        roi.name, roi.roitype = name, ROI_TYPE.RECT
        corners = np.concatenate(outlines)
        (roi.left, roi.top), (roi.right, roi.bottom) = (
            corners.min(axis=0).tolist(),
            corners.max(axis=0).tolist(),
        )
        path = np.concatenate([_path(outline) for outline in outlines])
        roi.multi_coordinates, roi.shape_roi_size = path, path.size
    roi.stroke_color = bytes((255, *colour))
    return roi.tobytes()


def _path(outline: Ring) -> NDArray[np.float32]:
    """One ring of a composite ROI."""
    segments = np.full((len(outline), 3), _LINE, dtype=np.float32)
    segments[0, 0] = _MOVE
    segments[:, 1:] = outline
    return np.append(segments.ravel(), np.float32(_CLOSE))
