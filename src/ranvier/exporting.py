"""Results as files: masks, instances, tables and pictures. Every write is atomic."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.calibration import PixelSize
from ranvier.errors import OutputExistsError, SettingsError
from ranvier.micrograph import AXON, MYELIN, Fibres, Segmentation
from ranvier.pictures import instance_map_png, overlay_png, png
from ranvier.rois import geojson, imagej_rois
from ranvier.tables import table_csv, table_parquet, table_xlsx
from ranvier.writing import make_folder, write_atomically

__all__ = [
    "EXPORT_ENDINGS",
    "MASK_LEVELS",
    "export_files",
    "geojson",
    "imagej_rois",
    "instance_map_png",
    "instances_tiff",
    "json_bytes",
    "mask_files",
    "overlay_png",
    "png",
    "save",
    "table_csv",
    "table_files",
    "table_parquet",
    "table_xlsx",
]

MASK_LEVELS = (0, 127, 255)
"""Grey levels of background, myelin and axon in a combined mask."""
EXPORT_ENDINGS: Mapping[str, str] = {
    "xlsx": "_morphometrics.xlsx",
    "parquet": "_morphometrics.parquet",
    "geojson": "_fibres.geojson",
    "rois": "_rois.zip",
    "colours": "_instances.png",
}
"""Kinds of export, and the ending of each one's name."""


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
    """The label image as uint32 OME-TIFF, its values the ids of the table, with the pixel size where it is known."""
    import tifffile

    metadata: dict[str, Any] = {"axes": "YX"}
    if pixel_size is not None:
        for axis in "XY":
            metadata |= {f"PhysicalSize{axis}": pixel_size.um, f"PhysicalSize{axis}Unit": "µm"}
    buffer = io.BytesIO()
    tifffile.imwrite(
        buffer,
        np.ascontiguousarray(labels, dtype=np.int32).view(
            np.uint32
        ),  # signed samples are rare in OME readers
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


_WRITERS: Mapping[str, Callable[[Fibres, Mapping[str, Any] | None], bytes]] = {
    "xlsx": table_xlsx,
    "parquet": lambda fibres, _: table_parquet(fibres),
    "geojson": lambda fibres, _: geojson(fibres),
    "rois": lambda fibres, _: imagej_rois(fibres),
    "colours": lambda fibres, _: instance_map_png(fibres.instances, pixel_size=fibres.pixel_size),
}


def export_files(
    fibres: Fibres, kinds: Iterable[str], *, summary: Mapping[str, Any] | None = None
) -> dict[str, bytes]:
    """Measured fibres in the forms that other programs read: name's ending to content.

    Parameters
    ----------
    fibres
        What was measured.
    kinds
        Which forms, of ``EXPORT_ENDINGS``.
    summary
        The image's figures, for the workbook's sheet "Image".

    Raises
    ------
    SettingsError
        There is no such kind.
    OutputError
        There are more fibres than the workbook has rows.
    MissingExtraError
        Parquet was asked for and PyArrow is not installed.
    """
    wanted = tuple(dict.fromkeys(kinds))
    unknown = [kind for kind in wanted if kind not in EXPORT_ENDINGS]
    if unknown:
        raise SettingsError(
            "no such export",
            seen=", ".join(map(str, unknown)),
            fix=f"Choose from {', '.join(EXPORT_ENDINGS)}",
        )
    return {EXPORT_ENDINGS[kind]: _WRITERS[kind](fibres, summary) for kind in wanted}


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
