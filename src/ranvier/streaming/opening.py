"""From a path to a source of windows, by what the file is."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from ranvier._raster import Limits
from ranvier._signature import HEAD_BYTES, sniff
from ranvier.errors import SettingsError
from ranvier.reading import read
from ranvier.streaming.czi_file import MAGIC
from ranvier.streaming.sources import ArraySource, Pick, WindowSource
from ranvier.streaming.tiff_source import TiffSource

__all__ = ["SLIDE_ENDINGS", "Kind", "kind_of", "open_source"]

Kind = Literal["zarr", "openslide", "czi", "nd2", "tiff", "image"]
SLIDE_ENDINGS: dict[str, Kind] = {
    ".mrxs": "openslide",
    ".vms": "openslide",
    ".czi": "czi",
    ".nd2": "nd2",
}
"""Formats of slides, by the endings of names: no one signature tells most of them."""
_ZARR_FILES = (".zattrs", ".zgroup", "zarr.json")


def kind_of(path: Path) -> Kind:
    """What reads a path: ``image`` for what has no better reader, and for what is not there."""
    try:
        if path.is_dir():
            return "zarr" if any((path / name).is_file() for name in _ZARR_FILES) else "image"
        ending = SLIDE_ENDINGS.get(path.suffix.lower())
        if ending is not None and path.is_file():
            return ending
        with path.open("rb") as file:
            head = file.read(HEAD_BYTES)
        if head.startswith(MAGIC):
            return "czi"
        return "tiff" if sniff(head) == "TIFF" else "image"
    except (OSError, ValueError):  # nobody can open it, as whoever reads it will say
        return "image"


def open_source(
    path: Path,
    pick: Pick = Pick(),  # noqa: B008  # frozen
    *,
    limits: Limits = Limits(),  # noqa: B008  # frozen
) -> WindowSource:
    """Open an image of any size.

    TIFF of all kinds, among them OME-TIFF, SVS and NDPI, is read by tifffile, CZI by Ranvier itself; OME-Zarr, MRXS and
    ND2 by the readers of the extras ``[zarr]`` and ``[slides]``. PNG and JPEG are read whole, within the limits.

    Parameters
    ----------
    path
        A file, or an OME-Zarr folder.
    pick
        Page, channel and level.
    limits
        For formats that cannot be read in parts.

    Returns
    -------
    WindowSource
        To be closed.

    Raises
    ------
    ReadError
        The file cannot be used.
    SettingsError
        There is no such page, channel or level.
    MissingExtraError
        A reader is not installed.
    """
    kind = kind_of(path)
    if kind == "tiff":
        return TiffSource(path, pick)
    if kind == "zarr":
        from ranvier.streaming.zarr_source import ZarrSource

        return ZarrSource(path, pick)
    if kind == "image":
        if pick.level:
            raise SettingsError("only pyramids have levels", where=path, seen=pick.level)
        image = read(
            path,
            pixel_size=pick.pixel_size,
            page=pick.page,
            channel=pick.channel,
            limits=limits,
        )
        return ArraySource(image.pixels, image.pixel_size, image.notes)
    from ranvier.streaming.slide_sources import open_slide

    return open_slide(path, kind, pick)
