"""Results as files: masks, instances, tables and pictures. Every write is atomic."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.calibration import PixelSize
from ranvier.errors import OutputExistsError
from ranvier.micrograph import AXON, MYELIN, Array, Fibres, Segmentation
from ranvier.writing import make_folder, write_atomically

MASK_LEVELS = (0, 127, 255)
"""Grey levels of background, myelin and axon in a combined mask."""
AXON_COLOUR = (30, 110, 255)
MYELIN_COLOUR = (255, 60, 40)
OUTLINE_COLOUR = (255, 220, 0)
_OPACITY = 0.4
_STRETCH_PERCENT = (0.5, 99.5)
_ROWS_AT_A_TIME = 512


def mask_files(classes: NDArray[np.uint8]) -> dict[str, bytes]:
    """The three masks as PNG: name's ending to content.

    ``_seg-axon.png`` and ``_seg-myelin.png`` are 0 / 255, ``_seg-axonmyelin.png`` is 0 / 127 / 255.
    """
    levels = np.array(MASK_LEVELS, dtype=np.uint8)
    return {
        "_seg-axon.png": png((classes == AXON).astype(np.uint8) * np.uint8(255)),
        "_seg-myelin.png": png((classes == MYELIN).astype(np.uint8) * np.uint8(255)),
        "_seg-axonmyelin.png": png(levels[classes]),
    }


def instances_tiff(labels: NDArray[np.int32], pixel_size: PixelSize | None) -> bytes:
    """The label image as int32 OME-TIFF, its values the ids of the table, with the pixel size where it is known."""
    import tifffile

    metadata: dict[str, Any] = {"axes": "YX"}
    if pixel_size is not None:
        for axis in "XY":
            metadata |= {f"PhysicalSize{axis}": pixel_size.um, f"PhysicalSize{axis}Unit": "µm"}
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        labels,
        ome=True,
        compression="zlib",
        predictor=True,
        tile=(512, 512),
        bigtiff=labels.nbytes > 2**31,
        metadata=metadata,
    )
    return _without_random_uuid(buffer.getvalue())


def _without_random_uuid(content: bytes) -> bytes:
    """Blank the random UUID that tifffile writes, so that equal labels give equal bytes."""
    start = content.find(b'UUID="urn:uuid:')
    if start < 0:
        return content
    start += len(b'UUID="urn:uuid:')
    end = content.index(b'"', start)
    zeros = b"00000000-0000-4000-8000-000000000000"
    return content[:start] + zeros[: end - start] + content[end:]


def table_files(fibres: Fibres) -> dict[str, bytes]:
    """The label image and the table: name's ending to content."""
    return {
        "_instances.tif": instances_tiff(fibres.instances.fibres, fibres.pixel_size),
        "_morphometrics.csv": table_csv(fibres.table),
    }


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
    return ["" if math.isnan(v) else repr(v) for v in values.tolist()]


def overlay_png(
    pixels: Array, classes: NDArray[np.uint8], fibres: NDArray[np.int32] | None
) -> bytes:
    """The micrograph with axons in blue, myelin in red and each fibre's outline in yellow, as PNG.

    Parameters
    ----------
    pixels
        Grey levels, shape (rows, columns); shown from their 0.5th to their 99.5th percentile.
    classes
        uint8, the same shape.
    fibres
        Label image whose borders are drawn, or None for no outlines.
    """
    low, high = _shown_range(pixels)
    out = np.empty((*pixels.shape, 3), dtype=np.uint8)
    for top in range(0, pixels.shape[0], _ROWS_AT_A_TIME):
        rows = slice(top, top + _ROWS_AT_A_TIME)
        grey = np.clip((pixels[rows].astype(np.float32) - low) * (255 / (high - low)), 0, 255)
        colour = np.repeat(grey[..., None], 3, axis=2)
        for value, paint in ((MYELIN, MYELIN_COLOUR), (AXON, AXON_COLOUR)):
            where = classes[rows] == value
            colour[where] = colour[where] * (1 - _OPACITY) + np.array(paint, np.float32) * _OPACITY
        out[rows] = colour.round()
    if fibres is not None:
        out[_outlines(fibres)] = OUTLINE_COLOUR
    return png(out)


def _shown_range(pixels: Array) -> tuple[float, float]:
    step = max(1, int(math.sqrt(pixels.size / 4e6)))
    low, high = np.percentile(pixels[::step, ::step], _STRETCH_PERCENT)
    return float(low), float(high) if high > low else float(low) + 1.0


def _outlines(labels: NDArray[np.int32]) -> NDArray[np.bool_]:
    """Find the border pixels of fibres; between two touching fibres, only those of the one above or to the left."""
    edge = np.zeros(labels.shape, dtype=bool)
    edge[:, :-1] |= (labels[:, :-1] != labels[:, 1:]) & (labels[:, :-1] > 0)
    edge[:-1] |= (labels[:-1] != labels[1:]) & (labels[:-1] > 0)
    edge[:, 1:] |= (labels[:, :-1] == 0) & (labels[:, 1:] > 0)
    edge[1:] |= (labels[:-1] == 0) & (labels[1:] > 0)
    return edge


def png(pixels: NDArray[np.uint8]) -> bytes:
    """8-bit grey (rows, columns) or RGB (rows, columns, 3) as PNG."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def json_bytes(value: Any) -> bytes:
    """Indented JSON with a final line feed. NaN is refused: JSON has none."""
    return (json.dumps(value, indent=1, allow_nan=False) + "\n").encode()


def save(
    result: Segmentation | Fibres, folder: Path | str, stem: str, *, overwrite: bool = False
) -> list[Path]:
    """Write a segmentation's masks, or a table with its label image.

    Parameters
    ----------
    result
        From :func:`ranvier.segment` or :func:`ranvier.measure`.
    folder
        Made if it is missing.
    stem
        First part of the files' names.
    overwrite
        Replace files that are there already.

    Returns
    -------
    paths
        What was written.

    Raises
    ------
    OutputError
        The folder cannot be written.
    OutputExistsError
        A file is there already and ``overwrite`` is False; nothing was written.
    """
    folder = make_folder(Path(folder))
    files = mask_files(result.classes) if isinstance(result, Segmentation) else table_files(result)
    paths = [folder / f"{stem}{ending}" for ending in files]
    present = [path for path in paths if path.exists()]
    if present and not overwrite:
        raise OutputExistsError(
            "a file is there already", where=present[0], fix="Pass overwrite=True to replace it"
        )
    for path, content in zip(paths, files.values(), strict=True):
        write_atomically(path, content)
    return paths
