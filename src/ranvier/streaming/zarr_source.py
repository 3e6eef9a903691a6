"""OME-Zarr (NGFF 0.1 to 0.5, Zarr v2 and v3), box by box, read by zarr-python."""

from __future__ import annotations

import importlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranvier._pixel_size import um_per
from ranvier._raster import Raster, to_grey
from ranvier.calibration import PixelSize
from ranvier.errors import (
    AmbiguousImageError,
    CorruptImageError,
    MissingExtraError,
    RanvierError,
    UnsupportedFormatError,
)
from ranvier.micrograph import Array
from ranvier.streaming.sources import Pick, at_level, chosen_plane, no_such_level, stated_size
from ranvier.tiling import Box

__all__ = ["ZarrSource"]

_LARGEST_CHUNK = 256 << 20
_AXES = "tczyx"


class ZarrSource:
    """One plane of an OME-Zarr image in a folder.

    Time points and z planes are pages, in the order of their axes.

    Parameters
    ----------
    path
        The folder of the image, or of a file that Bio-Formats converted, if it holds one image.
    pick
        Page, channel and level.

    Raises
    ------
    MissingExtraError
        zarr-python is not installed.
    ReadError
        It is no OME-Zarr, is damaged, or its chunks are too large.
    SettingsError
        There is no such page, channel or level.
    """

    def __init__(self, path: Path, pick: Pick = Pick()) -> None:  # noqa: B008  # frozen
        try:
            zarr = importlib.import_module("zarr")
        except ImportError as error:
            raise MissingExtraError(
                "OME-Zarr needs zarr-python", fix="Install it with: pip install 'ranvier[zarr]'"
            ) from error
        self._where = path
        try:
            group = zarr.open_group(str(path), mode="r")
            attributes, group = _image_of(group, path)
            self._begin(group, attributes, pick)
        except RanvierError:
            raise
        except Exception as error:
            raise CorruptImageError(
                "the OME-Zarr cannot be read",
                where=path,
                seen=" ".join(f"{type(error).__name__}: {error}".split())[:200],
            ) from error

    def _begin(self, group: Any, attributes: Mapping[str, Any], pick: Pick) -> None:
        scales = attributes["multiscales"]
        levels = scales[0]["datasets"]
        if pick.level >= len(levels):
            raise no_such_level(pick.level, len(levels), self._where)
        self._array = group[levels[pick.level]["path"]]
        axes = scales[0].get("axes") or list(_AXES[-self._array.ndim :])
        names = [a["name"] if isinstance(a, Mapping) else a for a in axes]
        if (
            names[-2:] != ["y", "x"]
            or len(names) != self._array.ndim
            or not set(names) <= set(_AXES)
        ):
            raise UnsupportedFormatError(
                "rows and columns must be the last axes", where=self._where, seen=names
            )
        chunk = math.prod(self._array.chunks) * self._array.dtype.itemsize
        if chunk > _LARGEST_CHUNK:
            raise UnsupportedFormatError(
                "the chunks of this OME-Zarr are too large to be read in parts",
                where=self._where,
                seen=f"chunks of {self._array.chunks}",
            )
        sizes = dict(zip(names[:-2], self._array.shape[:-2], strict=True))
        channels = _channels(attributes, sizes.get("c", 1))
        pages = {name: size for name, size in sizes.items() if name != "c"}
        page, channel = chosen_plane(math.prod(pages.values()), channels, pick, self._where)
        at: dict[str, int] = {"c": channel}
        for name in reversed(pages):
            page, at[name] = divmod(page, pages[name])
        self._index = tuple(at[name] for name in sizes)
        first = group[levels[0]["path"]]
        um = _um(levels[0], scales[0], axes)
        size = stated_size(um, pick, self._where, source="ome-zarr")
        factor = first.shape[-1] / self._array.shape[-1]
        self._size = at_level(size, factor)
        _, grey = self._grey(Box(0, 0, 1, 1))
        said = [f"channel {channel} ({channels[channel]}) read"] if len(channels) > 1 else []
        if pick.page is not None:
            said.append(f"page {pick.page} read")
        if pick.level:
            said.append(f"level {pick.level} read, {factor:g} times smaller")
        self._notes = (*said, *grey)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return (int(self._array.shape[-2]), int(self._array.shape[-1]))

    @property
    def pixel_size(self) -> PixelSize | None:
        """Edge of a pixel of this level."""
        return self._size

    @property
    def notes(self) -> tuple[str, ...]:
        """What reading decided."""
        return self._notes

    def read(self, box: Box) -> Array:
        """Grey levels of a box."""
        return self._grey(box)[0]

    def close(self) -> None:
        """Nothing stays open."""

    def _grey(self, box: Box) -> tuple[Array, tuple[str, ...]]:
        where = (*self._index, slice(box.top, box.bottom), slice(box.left, box.right))
        try:
            samples = self._array[where]
        except Exception as error:
            raise CorruptImageError(
                "a chunk of the OME-Zarr cannot be decoded",
                where=self._where,
                seen=" ".join(f"{type(error).__name__}: {error}".split())[:200],
            ) from error
        return to_grey(Raster(samples), None, str(self._where))


def _image_of(group: Any, path: Path) -> tuple[Mapping[str, Any], Any]:
    """Attributes and group of the image, which may lie one level below."""
    attributes = _ome(group)
    if attributes.get("multiscales"):
        return attributes, group
    inner = [g for _, g in sorted(group.groups()) if _ome(g).get("multiscales")]
    if len(inner) == 1:
        return _ome(inner[0]), inner[0]
    if inner:
        raise AmbiguousImageError(
            f"the folder holds {len(inner)} images",
            where=path,
            fix=f"Give the folder of one of them, such as {path / inner[0].basename}",
        )
    raise UnsupportedFormatError(
        "this Zarr is not an OME-Zarr image: it has no multiscales", where=path
    )


def _ome(group: Any) -> Mapping[str, Any]:
    """OME's attributes, which are one level deeper from version 0.5 on."""
    attributes = dict(group.attrs)
    inner = attributes.get("ome")
    return inner if isinstance(inner, Mapping) else attributes


def _channels(attributes: Mapping[str, Any], count: int) -> list[str]:
    """One name for each channel: that of the rendering settings where it has one."""
    settings = attributes.get("omero")
    found = settings.get("channels", []) if isinstance(settings, Mapping) else []
    labels = [str(c.get("label") or "") for c in found if isinstance(c, Mapping)]
    return [(labels[i] if i < len(labels) else "") or f"channel {i}" for i in range(count)]


def _um(
    level: Mapping[str, Any], image: Mapping[str, Any], axes: list[Any]
) -> tuple[float, float] | None:
    """Micrometres along x and y; None where scale or unit is missing."""
    units = [a.get("unit") if isinstance(a, Mapping) else None for a in axes]
    factors = [um_per(unit) if unit else None for unit in units[-2:]]
    changes = [
        *level.get("coordinateTransformations", ()),
        *image.get("coordinateTransformations", ()),
    ]
    scales = [c["scale"] for c in changes if c.get("type") == "scale"]
    if not scales or None in factors:
        return None
    y, x = (
        math.prod(float(s[place]) for s in scales) * (factor or 0.0)
        for place, factor in ((-2, factors[0]), (-1, factors[1]))
    )
    return x, y
