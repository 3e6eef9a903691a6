"""Slides and stacks: CZI, and what readers of the extra ``[slides]`` open: MRXS and others, ND2."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np

from ranvier.errors import MissingExtraError, RanvierError, SettingsError
from ranvier.micrograph import Array
from ranvier.streaming.czi_source import CziSource
from ranvier.streaming.slide_base import Slide, unreadable
from ranvier.streaming.sources import (
    Pick,
    WindowSource,
    at_level,
    chosen_plane,
    no_such_level,
    stated_size,
)
from ranvier.tiling import Box

__all__ = ["Nd2Source", "OpenSlideSource", "open_slide"]


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
        raise unreadable(path, error) from error


class OpenSlideSource(Slide):
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


class Nd2Source(Slide):
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
