"""The table of fibres as CSV, Excel workbook and Parquet. The same table gives the same bytes."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import numpy as np

from ranvier.calibration import PixelSize
from ranvier.errors import MissingExtraError, OutputError
from ranvier.measures import measure_of
from ranvier.micrograph import Array, Fibres
from ranvier.provenance import own_version

__all__ = ["XLSX_ROWS", "table_csv", "table_parquet", "table_xlsx", "unit_of"]

XLSX_ROWS = 1_048_575
"""Rows of a sheet in Excel, without the header."""
_CREATED = datetime(1980, 1, 1)
_UNITS = {"_um2": "um2", "_px2": "px2", "_um": "um", "_px": "px", "_rad": "rad"}
_WIDEST = 60


def table_csv(table: Mapping[str, Array]) -> bytes:
    """The table as CSV: UTF-8, one header line, a comma between values, an empty cell where there is no value."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(table)
    columns = [_cells(values) for values in table.values()]
    writer.writerows(zip(*columns, strict=True))
    return buffer.getvalue().encode()


def _cells(values: Array) -> list[Any]:
    if values.dtype.kind != "f":
        return list(values.tolist())
    return ["" if text == "nan" else text for text in map(repr, values.tolist())]


def unit_of(column: str) -> str:
    """Unit that a column's name ends in: um, um2, px, px2, rad or nothing."""
    return next((unit for ending, unit in _UNITS.items() if column.endswith(ending)), "")


def _described(column: str) -> tuple[str, str, str]:
    """Unit and meaning of a column, and AxonDeepSeg's name of it; the last two may be empty."""
    try:
        measure = measure_of(column)
    except KeyError:
        return unit_of(column), "", ""
    return unit_of(column), measure.meaning, measure.axondeepseg or ""


def _calibration(pixel_size: PixelSize | None) -> tuple[float | None, str]:
    """Pixel size and its source, in words where there is none."""
    if pixel_size is None:
        return None, "unknown: lengths are in pixels"
    return pixel_size.um, pixel_size.source


def table_xlsx(fibres: Fibres, summary: Mapping[str, Any] | None = None) -> bytes:
    """The table as an Excel workbook, which spreadsheets of any language read without mistaking a decimal point.

    Sheet "Fibres" has one row per fibre below a fixed bold header; a cell without a value is empty. Sheet
    "README" tells each column's unit, meaning and name in AxonDeepSeg, the pixel size with its source and
    Ranvier's version. Sheet "Image" lists the image's figures.

    Parameters
    ----------
    fibres
        What was measured.
    summary
        The image's figures, or None for no sheet "Image"; nested values are listed as ``a.b`` and ``a[0]``.

    Raises
    ------
    OutputError
        There are more fibres than a sheet has rows (``XLSX_ROWS``).
    """
    import xlsxwriter  # type: ignore[import-untyped]

    columns = {name: np.asarray(values) for name, values in fibres.table.items()}
    rows = max((values.size for values in columns.values()), default=0)
    if rows > XLSX_ROWS:
        raise OutputError(
            f"a sheet of Excel has room for {XLSX_ROWS} fibres",
            seen=rows,
            fix="Use CSV or Parquet",
        )
    buffer = io.BytesIO()
    # Rows go to a temporary file as they come: a million cells would fill memory.
    book = xlsxwriter.Workbook(buffer, {"constant_memory": True})
    book.set_properties({"title": "Ranvier", "created": _CREATED})
    bold = book.add_format({"bold": True})
    widths = [max(9, len(name) + 1) for name in columns]
    sheet = _sheet(book, "Fibres", widths)
    _write(sheet, list(columns), _rows(columns.values()), bold=bold)
    if rows and columns:
        sheet.autofilter(0, 0, rows, len(columns) - 1)
    _readme(book, fibres, bold=bold)
    if summary is not None:
        figures = list(_flat("", summary))
        sheet = _sheet(book, "Image", [max((len(n) for n, _ in figures), default=8) + 1, 24])
        _write(sheet, ("name", "value"), figures, bold=bold)
    book.close()
    return buffer.getvalue()


def _sheet(book: Any, name: str, widths: Sequence[int]) -> Any:
    """Add a sheet whose first row and column stay in view."""
    sheet = book.add_worksheet(name)
    sheet.freeze_panes(1, 1)
    for column, width in enumerate(widths):
        sheet.set_column(column, column, min(width, _WIDEST))
    return sheet


def _readme(book: Any, fibres: Fibres, *, bold: Any) -> None:
    """Write what the columns mean and where the numbers come from."""
    um, source = _calibration(fibres.pixel_size)
    rows: list[tuple[Any, ...]] = [(name, *_described(name)) for name in fibres.table]
    rows += [
        (),
        ("pixel size", "um", um),
        ("source of the pixel size", "", source),
        ("Ranvier", "", own_version()),
    ]
    longest = max(len(name) for name in (*fibres.table, "source of the pixel size"))
    sheet = _sheet(book, "README", (longest + 1, 6, _WIDEST, 28))
    _write(sheet, ("name", "unit", "meaning", "name in AxonDeepSeg"), rows, bold=bold)


def _rows(columns: Iterable[Array]) -> Iterator[tuple[Any, ...]]:
    return zip(*(values.tolist() for values in columns), strict=True)


def _write(sheet: Any, header: Sequence[str], rows: Iterable[Sequence[Any]], *, bold: Any) -> None:
    """Fill a sheet from the top; None, NaN and infinity leave a cell empty."""
    for column, name in enumerate(header):
        sheet.write_string(0, column, name, bold)
    for row, values in enumerate(rows, start=1):
        for column, value in enumerate(values):
            if isinstance(value, bool):
                sheet.write_boolean(row, column, value)
            elif isinstance(value, int | float):
                if math.isfinite(value):
                    sheet.write_number(row, column, value)
            elif value is not None and value != "":
                sheet.write_string(row, column, str(value))


def _flat(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """Names and values of nested figures."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            yield from _flat(f"{name}.{key}" if name else str(key), inner)
    elif isinstance(value, list | tuple | np.ndarray):
        for index, inner in enumerate(value):
            yield from _flat(f"{name}[{index}]", inner)
    else:
        yield name, value.item() if isinstance(value, np.generic) else value


def table_parquet(fibres: Fibres) -> bytes:
    """The table as Parquet, with each column's own type and null where there is no value.

    The schema's metadata hold, under ``ranvier``, JSON with the version, the pixel size in um and its source;
    each field's metadata hold its ``unit`` and ``meaning``.

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
    um, source = _calibration(fibres.pixel_size)
    origin = {"version": own_version(), "pixel_size_um": um, "pixel_size_source": source}
    fields, columns = [], []
    for name, values in fibres.table.items():
        column = pa.array(np.asarray(values), from_pandas=True)
        unit, meaning, _ = _described(name)
        fields.append(pa.field(name, column.type, metadata={"unit": unit, "meaning": meaning}))
        columns.append(column)
    schema = pa.schema(fields, metadata={"ranvier": json.dumps(origin)})
    sink = pa.BufferOutputStream()
    parquet.write_table(pa.Table.from_arrays(columns, schema=schema), sink, compression="zstd")
    content: bytes = sink.getvalue().to_pybytes()
    return content
