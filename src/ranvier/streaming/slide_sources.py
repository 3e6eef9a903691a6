"""Slides and stacks that readers of the extra ``[slides]`` open: MRXS and others, CZI, ND2."""

from __future__ import annotations

import importlib
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np

from ranvier._raster import Raster, to_grey
from ranvier.calibration import PixelSize
from ranvier.errors import CorruptImageError, MissingExtraError, RanvierError, SettingsError
from ranvier.micrograph import Array
from ranvier.streaming.sources import (
    Pick,
    WindowSource,
    at_level,
    chosen_plane,
    no_such_level,
    stated_size,
)
from ranvier.tiling import Box

__all__ = ["CziSource", "Nd2Source", "OpenSlideSource", "open_slide"]

_UM_PER_M = 1e6


def _reader(name: str, package: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(
            f"this format needs {package}", fix="Install it with: pip install 'ranvier[slides]'"
        ) from error


def open_slide(path: Path, kind: str, pick: Pick) -> WindowSource:
    """Open a slide with the reader of its kind: ``openslide``, ``czi`` or ``nd2``.

    Raises
    ------
    MissingExtraError
        The reader is not installed.
    ReadError
        The reader cannot open the file.
    SettingsError
        There is no such page, channel or level.
    """
    make = {"openslide": OpenSlideSource, "czi": CziSource, "nd2": Nd2Source}[kind]
    try:
        return make(path, pick)
    except (RanvierError, MemoryError):
        raise
    except Exception as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> CorruptImageError:
    seen = " ".join(f"{type(error).__name__}: {error}".split())[:200]
    return CorruptImageError("the slide cannot be read", where=path, seen=seen)


class _Slide:
    """What all of them share."""

    def __init__(self, path: Path) -> None:
        self._path, self._open = path, ExitStack()
        self._shape = (0, 0)
        self._size: PixelSize | None = None
        self._notes: tuple[str, ...] = ()
        self._channel: int | str | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self._shape

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
        try:
            samples = self._samples(box)
        except Exception as error:
            raise _unreadable(self._path, error) from error
        return to_grey(Raster(samples), self._channel, str(self._path))[0]

    def close(self) -> None:
        """Close the file."""
        self._open.close()

    def _samples(self, box: Box) -> Array:
        raise NotImplementedError

    def _note_grey(self, *more: str) -> None:
        """Keep the notes of turning pixels into grey, and others."""
        samples = self._samples(Box(0, 0, 1, 1))
        self._notes = (*more, *to_grey(Raster(samples), self._channel, str(self._path))[1])


class OpenSlideSource(_Slide):
    """A slide that OpenSlide reads (MRXS, SVS, NDPI, SCN, generic tiled TIFF).

    What was not scanned takes the slide's background colour, white where it names none.
    """

    def __init__(self, path: Path, pick: Pick = Pick()) -> None:  # noqa: B008  # frozen
        super().__init__(path)
        openslide = _reader("openslide", "OpenSlide")
        self._slide = openslide.OpenSlide(str(path))
        self._open.callback(self._slide.close)
        levels = self._slide.level_dimensions
        if pick.level >= len(levels) or pick.page not in (None, 0):
            self.close()
            if pick.level >= len(levels):
                raise no_such_level(pick.level, len(levels), path)
            raise SettingsError("a slide has one page", where=path, seen=f"page {pick.page}")
        self._level, self._channel = pick.level, pick.channel
        self._factor = float(self._slide.level_downsamples[pick.level])
        width, height = levels[pick.level]
        self._shape = (int(height), int(width))
        about = self._slide.properties
        um = [about.get(f"openslide.mpp-{axis}") for axis in "xy"]
        colour = about.get("openslide.background-color", "FFFFFF")
        self._behind = tuple(int(colour[i : i + 2], 16) for i in (0, 2, 4))
        stated = None if None in um else (float(um[0]), float(um[1]))
        self._size = at_level(stated_size(stated, pick, path, source="slide"), self._factor)
        level = (f"level {pick.level} read, {self._factor:g} times smaller",) if pick.level else ()
        self._note_grey(f"read by OpenSlide ({about.get('openslide.vendor', 'unknown')})", *level)

    def _samples(self, box: Box) -> Array:
        rows, columns = box.shape
        corner = (round(box.left * self._factor), round(box.top * self._factor))
        region = np.asarray(self._slide.read_region(corner, self._level, (columns, rows)))
        # OpenSlide gives colours that are not multiplied by the alpha, which is 0 where nothing was scanned.
        alpha = region[..., 3:].astype(np.uint16)
        mixed = region[..., :3] * alpha + np.array(self._behind, np.uint16) * (255 - alpha)
        samples: Array = ((mixed + 127) // 255).astype(np.uint8)
        return samples


class CziSource(_Slide):
    """A plane of a Zeiss CZI, read by pylibCZIrw; all scenes lie in one image. Levels halve the image."""

    def __init__(self, path: Path, pick: Pick = Pick()) -> None:  # noqa: B008  # frozen
        super().__init__(path)
        czi = _reader("pylibCZIrw.czi", "pylibCZIrw")
        self._document = self._open.enter_context(czi.open_czi(str(path)))
        extent = self._document.total_bounding_box
        counts = {axis: extent[axis][1] - extent[axis][0] for axis in "TZC" if axis in extent}
        names = [f"channel {i}" for i in range(counts.get("C", 1))]
        pages = counts.get("T", 1) * counts.get("Z", 1)
        is_colour = len(names) == 1 and "Bgr" in str(self._document.get_channel_pixel_type(0))
        asked = Pick(pick.page, None if is_colour else pick.channel, pick.level)
        try:
            page, channel = chosen_plane(pages, names, asked, path)
        except RanvierError:
            self.close()
            raise
        self._channel = pick.channel if is_colour else None
        at = {"T": page // counts.get("Z", 1), "Z": page % counts.get("Z", 1), "C": channel}
        self._plane = {axis: extent[axis][0] + at[axis] for axis in counts}
        whole = self._document.total_bounding_rectangle
        self._corner, self._factor = (int(whole.x), int(whole.y)), 2**pick.level
        self._shape = (int(whole.h) // self._factor, int(whole.w) // self._factor)
        if min(self._shape) < 1:
            self.close()
            raise SettingsError("the level is too small", where="--level", seen=pick.level)
        um = _czi_um(self._document.raw_metadata)
        self._size = at_level(stated_size(um, pick, path, source="slide"), self._factor)
        level = (f"level {pick.level} read, {self._factor} times smaller",) if pick.level else ()
        chosen = (f"channel {channel} read",) if len(names) > 1 else ()
        self._note_grey("read by pylibCZIrw", *chosen, *level)

    def _samples(self, box: Box) -> Array:
        factor, (left, top) = self._factor, self._corner
        rows, columns = box.shape
        samples = self._document.read(
            roi=(left + box.left * factor, top + box.top * factor, columns * factor, rows * factor),
            plane=self._plane,
            zoom=1 / factor,
        )
        kept: Array = np.ascontiguousarray(samples[:rows, :columns, ::-1])  # stored blue first
        return kept if kept.shape[2] > 1 else kept[..., 0]


def _czi_um(xml: str) -> tuple[float, float] | None:
    """Micrometres along x and y (Metadata/Scaling/Items/Distance, in metres)."""
    if "<!ENTITY" in xml or "<!DOCTYPE" in xml:
        return None
    found: dict[str | None, float] = {}
    for distance in ElementTree.fromstring(xml).iter("Distance"):
        value = distance.findtext("Value")
        if value:
            found.setdefault(distance.get("Id"), float(value) * _UM_PER_M)
    um = found.get("X", 0.0), found.get("Y", 0.0)
    return um if min(um) > 0 else None


class Nd2Source(_Slide):
    """A plane of a Nikon ND2, read by nd2. A frame is read as a whole; mosaics that are one frame are mapped."""

    def __init__(self, path: Path, pick: Pick = Pick()) -> None:  # noqa: B008  # frozen
        super().__init__(path)
        if pick.level:
            raise no_such_level(pick.level, 1, path)
        nd2 = _reader("nd2", "nd2")
        self._file = self._open.enter_context(nd2.ND2File(str(path)))
        sizes = dict(self._file.sizes)
        pages = 1
        for axis, size in sizes.items():
            pages *= size if axis not in "CSYX" else 1
        names = [f"channel {i}" for i in range(sizes.get("C", 1))]
        try:
            self._page, picked = chosen_plane(
                pages, names, Pick(pick.page, None if "S" in sizes else pick.channel), path
            )
        except RanvierError:
            self.close()
            raise
        self._channel = pick.channel if "S" in sizes else None
        self._picked = picked if sizes.get("C", 1) > 1 else None
        self._shape = (int(sizes["Y"]), int(sizes["X"]))
        self._size = stated_size(_nd2_um(self._file), pick, path, source="slide")
        chosen = (f"channel {picked} read",) if self._picked is not None else ()
        self._note_grey("read by nd2", *chosen)

    def _samples(self, box: Box) -> Array:
        frame = self._file.read_frame(self._page)
        if self._picked is not None:
            frame = frame[self._picked]
        part: Array = np.ascontiguousarray(frame[box.top : box.bottom, box.left : box.right])
        return part


def _nd2_um(file: Any) -> tuple[float, float] | None:
    """Micrometres along x and y, where the file says that they were calibrated; without, it says 1."""
    channels = getattr(file.metadata, "channels", None) or ()
    volume = channels[0].volume if channels else None
    if volume is None or not all(volume.axesCalibrated[:2]):
        return None
    x, y = (float(um) for um in volume.axesCalibration[:2])
    return (x, y) if min(x, y) > 0 else None
