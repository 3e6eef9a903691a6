"""The table and the outlines of streamed fibres as files, written as they come."""

from __future__ import annotations

import importlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ranvier.contours import trace
from ranvier.errors import MissingExtraError, OutputError
from ranvier.micrograph import Fibres, Instances
from ranvier.pictures import AXON_COLOUR, MYELIN_COLOUR
from ranvier.polygons import Polygon, rings
from ranvier.provenance import own_version
from ranvier.rois import _ZIP_TIME, _feature, _numbers, _roi
from ranvier.streaming.crops import Crop, crops
from ranvier.streaming.disk_table import DiskTable
from ranvier.streaming.separating import Separated
from ranvier.tables import _calibration, _described, table_csv, table_xlsx

__all__ = [
    "MOST_IN_MEMORY",
    "write_csv",
    "write_geojson",
    "write_parquet",
    "write_rois",
    "write_xlsx",
]

MOST_IN_MEMORY = 100_000
"""Workbooks and archives of ROIs are not made of more fibres: they are built in memory."""


def write_csv(table: DiskTable, path: Path) -> None:
    """The table as CSV, the bytes of :func:`ranvier.tables.table_csv`."""
    with path.open("wb") as file:
        empty = {name: np.zeros(0) for name in table.columns}
        file.write(table_csv(empty))
        for chunk in table.chunks():
            file.write(table_csv(chunk).partition(b"\n")[2])


def write_parquet(table: DiskTable, path: Path) -> None:
    """The table as Parquet, in as many row groups as it has chunks; types and metadata as of one in memory.

    Raises
    ------
    MissingExtraError
        PyArrow is not installed.
    """
    try:
        pa, parquet = (importlib.import_module(name) for name in ("pyarrow", "pyarrow.parquet"))
    except ImportError as error:
        raise MissingExtraError(
            "Parquet needs PyArrow", fix="Install it with: pip install 'ranvier[parquet]'"
        ) from error
    um, source = _calibration(table.pixel_size)
    origin = {"version": own_version(), "pixel_size_um": um, "pixel_size_source": source}
    none = {name: np.zeros(0, dtype=table.dtype_of(name)) for name in table.columns}
    fields = []
    for name in table.columns:
        unit, meaning, _ = _described(name)
        kind = pa.array(none[name], from_pandas=True).type
        fields.append(pa.field(name, kind, metadata={"unit": unit, "meaning": meaning}))
    schema = pa.schema(fields, metadata={"ranvier": json.dumps(origin)})
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for chunk in table.chunks() if table.count else (none,):
            columns = [pa.array(values, from_pandas=True) for values in chunk.values()]
            writer.write_table(pa.Table.from_arrays(columns, schema=schema))


def write_xlsx(table: DiskTable, path: Path, summary: Mapping[str, Any]) -> None:
    """The table as a workbook; only for tables that fit into memory."""
    columns = {name: table.column(name) for name in table.columns}
    none = np.zeros((1, 1), dtype=np.int32)
    fibres = Fibres(columns, Instances(none, none, table.count), table.pixel_size)
    path.write_bytes(table_xlsx(fibres, summary))


class _InOrder:
    """Pieces of bytes that are made in any order and read in order of their ids."""

    def __init__(self, path: Path, count: int) -> None:
        self._path = path
        self._file = path.open("w+b", buffering=1 << 20)
        self._at = np.zeros((count + 1, 2), dtype=np.int64)
        self._end = 0

    def __enter__(self) -> _InOrder:
        return self

    def __exit__(self, *exc: object) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, label: int, piece: bytes) -> None:
        self._file.write(piece)
        self._at[label] = self._end, len(piece)
        self._end += len(piece)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        self._file.flush()
        for label, (start, size) in enumerate(self._at.tolist()):
            if size:
                yield label, os.pread(self._file.fileno(), size, start)


def write_geojson(found: Separated, table: DiskTable, path: Path, *, folder: Path) -> None:
    """Fibres as polygons, the bytes of :func:`ranvier.rois.geojson`; without fibres too large to be cut out."""

    def feature(
        row: dict[str, Any], label: int, fibre: list[Polygon], axon: list[Polygon]
    ) -> bytes:
        whole = _feature("Fibre", label, fibre)
        whole["properties"]["measurements"] = {n: v for n, v in row.items() if v is not None}
        if axon:
            inner = _feature("Axon", label, axon)
            inner["properties"]["metadata"] = {"parent": whole["id"]}
            whole["properties"]["childObjects"] = [inner]
        return json.dumps(whole, separators=(",", ":"), allow_nan=False).encode()

    with _InOrder(folder / "geojson.pieces", found.count) as pieces:
        _outlined(found, table, pieces, feature)
        with path.open("wb") as file:
            file.write(b'{"type":"FeatureCollection","features":[\n')
            for nth, (_, piece) in enumerate(pieces):
                file.write((b",\n" if nth else b"") + piece)
            file.write(b"\n]}\n")


def write_rois(found: Separated, table: DiskTable, path: Path, *, folder: Path) -> None:
    """Outlines as ImageJ ROIs, the bytes of :func:`ranvier.rois.imagej_rois`; without fibres that are too large."""
    digits = max(4, len(str(found.count)))

    def rois(_: dict[str, Any], label: int, fibre: list[Polygon], axon: list[Polygon]) -> bytes:
        both = [
            _roi(f"{label:0{digits}d}_{kind}", shapes, colour=colour) if shapes else b""
            for kind, shapes, colour in (
                ("axon", axon, AXON_COLOUR),
                ("fibre", fibre, MYELIN_COLOUR),
            )
        ]
        return b"".join(len(part).to_bytes(8, "little") + part for part in both)

    with (
        _InOrder(folder / "rois.pieces", found.count) as pieces,
        zipfile.ZipFile(path, "w") as archive,
    ):
        _outlined(found, table, pieces, rois)
        for label, piece in pieces:
            left = piece
            for kind in ("axon", "fibre"):
                size = int.from_bytes(left[:8], "little")
                content, left = left[8 : 8 + size], left[8 + size :]
                if content:
                    name = f"{label:0{digits}d}_{kind}.roi"
                    entry = zipfile.ZipInfo(name, date_time=_ZIP_TIME)
                    entry.compress_type = zipfile.ZIP_DEFLATED
                    entry.create_system, entry.external_attr = 3, 0o644 << 16
                    archive.writestr(entry, content)


Outlined = Callable[[dict[str, Any], int, list[Polygon], list[Polygon]], bytes]


def _outlined(found: Separated, table: DiskTable, pieces: _InOrder, make: Outlined) -> None:
    """Make a piece of each fibre, of its row and the polygons of fibre and axon."""
    for crop in crops(found):
        if isinstance(crop, int):
            continue
        rows = table.picked(crop.ids)
        columns = {name: _numbers(values) for name, values in rows.items()}
        fibre, axon = (_moved(crop, labels) for labels in (crop.own, crop.axons))
        for nth, label in enumerate(crop.ids.tolist()):
            if nth + 1 in fibre:
                row = {name: values[nth] for name, values in columns.items()}
                pieces.add(label, make(row, label, fibre[nth + 1], axon.get(nth + 1, [])))


def _moved(crop: Crop, labels: Any) -> dict[int, list[Polygon]]:
    """Polygons in the image, by label in the crop."""
    offset = np.array((crop.box.top, crop.box.left), dtype=np.int32)
    found = rings(trace(labels, crop.ids.size))
    return {
        label: [[ring + offset for ring in polygon] for polygon in parts]
        for label, parts in found.items()
    }


def check_room_in_memory(kind: str, count: int) -> None:
    """Refuse files that are built in memory for more fibres than fit there.

    Raises
    ------
    OutputError
        There are more than ``MOST_IN_MEMORY``.
    """
    if count > MOST_IN_MEMORY:
        raise OutputError(
            f"{kind} of so many fibres does not fit into memory",
            seen=f"{count} fibres, at most {MOST_IN_MEMORY}",
            fix="Use CSV, Parquet or GeoJSON",
        )
