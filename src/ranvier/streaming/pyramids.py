"""Planes on disk -> tiled, compressed OME BigTIFF with a pyramid."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike

from ranvier.calibration import PixelSize
from ranvier.errors import OutputError
from ranvier.micrograph import Array
from ranvier.streaming.planes import Plane, cores, strips

__all__ = ["halved", "write_pyramid"]

_SMALLEST = 1024
"""The smallest level has no edge longer than this."""
_NO_UUID = b"00000000-0000-4000-8000-000000000000"
Change = Callable[[Array], Array]


def halved(plane: Plane, path: Path) -> Plane:
    """Every second pixel of every second row, from the first: a plane of its own. Labels stay labels."""
    shape = (-(-plane.shape[0] // 2), -(-plane.shape[1] // 2))
    small = Plane(path, shape, plane.dtype, tile=plane.tile)
    for strip in strips(plane.shape, 2 * plane.tile):
        if plane.any_stored(strip):
            part = plane.read(strip)[::2, ::2]
            top = strip.top // 2
            where = strips(shape, plane.tile)[top // plane.tile]
            small.write(where, part)
    small.commit()
    return small


def write_pyramid(
    plane: Plane,
    path: Path,
    *,
    folder: Path,
    dtype: DTypeLike,
    pixel_size: PixelSize | None,
    change: Change | None = None,
) -> None:
    """Write a plane as an OME-TIFF of tiles (BigTIFF, deflate), its pyramid in sub-images.

    The same plane gives the same bytes. Each level takes every second pixel of the one before, so that labels and
    classes are never mixed.

    Parameters
    ----------
    plane
        Committed.
    path
        The file.
    folder
        For smaller levels, while the file is written.
    dtype
        Type of the samples in the file.
    pixel_size
        Written where it is known.
    change
        From a tile's values to those that are written.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    import tifffile

    with ExitStack() as until:
        levels = [plane]
        while max(levels[-1].shape) > _SMALLEST:
            name = folder / f"{path.name}.{len(levels)}.level"
            levels.append(until.enter_context(halved(levels[-1], name)))
        try:
            with tifffile.TiffWriter(path, bigtiff=True, ome=True) as writer:
                for number, level in enumerate(levels):
                    um = None if pixel_size is None else pixel_size.um * 2**number
                    writer.write(
                        _tiles(level, np.dtype(dtype), change),
                        shape=level.shape,
                        dtype=dtype,
                        tile=(plane.tile, plane.tile),
                        compression="zlib",
                        predictor=np.dtype(dtype).itemsize > 1,
                        photometric="minisblack",
                        subfiletype=1 if number else 0,
                        subifds=None if number else len(levels) - 1,
                        metadata=None if number else _metadata(um),
                    )
            _blank_uuid(path)
        except OSError as error:
            raise OutputError("cannot write", where=path, seen=error.strerror) from error


def _metadata(um: float | None) -> dict[str, Any]:
    metadata: dict[str, Any] = {"axes": "YX"}
    if um is not None:
        for axis in "XY":
            metadata |= {f"PhysicalSize{axis}": um, f"PhysicalSize{axis}Unit": "µm"}
    return metadata


def _tiles(plane: Plane, dtype: np.dtype[Any], change: Change | None) -> Iterator[Array]:
    """Tiles in raster order, those at the right and bottom filled up with 0."""
    for box in cores(plane.shape, plane.tile):
        part = plane.read(box)
        tile = np.zeros((plane.tile, plane.tile), dtype=dtype)
        tile[: part.shape[0], : part.shape[1]] = part if change is None else change(part)
        yield tile


def _blank_uuid(path: Path) -> None:
    """Blank the random UUID that tifffile writes, so that equal planes give equal bytes."""
    import tifffile

    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages.first.tags[270]
        start, size = int(tag.valueoffset), int(tag.count)
    with path.open("r+b") as file:
        file.seek(start)
        text = file.read(size)
        blank = re.sub(rb'(UUID="urn:uuid:)[0-9a-fA-F-]{36}', rb"\g<1>" + _NO_UUID, text)
        file.seek(start)
        file.write(blank)
