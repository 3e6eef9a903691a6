"""The size of a pixel, looked up where images and their folders keep it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Final
from xml.etree import ElementTree

from ranvier._raster import TiffHints
from ranvier.calibration import LARGEST_UM, SMALLEST_UM, PixelSize, checked
from ranvier.errors import PixelSizeError

TEXT_NAME: Final = "pixel_size_in_micrometer.txt"
_LONGEST_TEXT = 1024
_LONGEST_SIDECAR = 16 * 1024**2
_REPAIR = "Repair or remove that file, or give --pixel-size"

_UM_PER_UNIT = {
    "pm": 1e-6,
    "Å": 1e-4,
    "angstrom": 1e-4,
    "nm": 1e-3,
    "nanometer": 1e-3,
    "nanometre": 1e-3,
    "um": 1.0,
    "micron": 1.0,
    "microns": 1.0,
    "micrometer": 1.0,
    "micrometers": 1.0,
    "micrometre": 1.0,
    "micrometres": 1.0,
    "mm": 1e3,
    "cm": 1e4,
    "m": 1e6,
    "in": 25_400.0,
    "inch": 25_400.0,
    "inches": 25_400.0,
}
_MICRO_SPELLINGS = ("\\u00b5", "\\u00B5", "\u00c2\u00b5", "\u00b5", "\u03bc")


def find_pixel_size(
    path: Path, hints: TiffHints, option: float | None
) -> tuple[PixelSize | None, tuple[str, ...]]:
    """Look the pixel size up, from the most to the least trusted place.

    The order: the option, OME-XML, ImageJ's description, the TIFF resolution tags, a BIDS sidecar
    (same stem, ``.json``), ``pixel_size_in_micrometer.txt`` in the image's folder.

    Parameters
    ----------
    path
        The image.
    hints
        What its metadata says.
    option
        Micrometres per pixel given by the user; then nothing else is even judged.

    Returns
    -------
    tuple
        The size, or None when nothing tells it; and notes about what was ignored.

    Raises
    ------
    PixelSizeError
        A number that was meant as a pixel size is anisotropic or absurd, or a file that should
        hold one is unreadable.
    """
    if option is not None:
        return checked(option, option, "option", where=path), ()
    notes: list[str] = []
    for look in (_from_ome, _from_imagej, _from_tags):
        size, note = look(hints, path)
        notes += [note] if note else []
        if size is not None:
            return size, tuple(notes)
    return _from_sidecar(path) or _from_text(path), tuple(notes)


def um_per(unit: str) -> float | None:
    """Micrometres in one unit of length; None for a unit that is not a length known here."""
    text = unit.strip().strip('"')
    for spelling in _MICRO_SPELLINGS:
        text = text.replace(spelling, "u")
    text = text.replace("\u212b", "Å").replace("A\u030a", "Å")
    # "Mm" is not "mm": only words lose their capitals.
    return _UM_PER_UNIT.get(text if len(text) < 4 else text.lower())


def _from_ome(hints: TiffHints, path: Path) -> tuple[PixelSize | None, str | None]:
    """PhysicalSizeX and PhysicalSizeY (OME schema 2016-06; the default unit is um)."""
    if hints.ome_xml is None:
        return None, None
    root = ElementTree.fromstring(hints.ome_xml.encode("utf-8", "replace"))
    images = [e for e in root if e.tag.rpartition("}")[2] == "Image"]
    if hints.image_index >= len(images):
        return None, None
    pixels = [e for e in images[hints.image_index] if e.tag.rpartition("}")[2] == "Pixels"]
    if not pixels:
        return None, None
    values = [pixels[0].get("PhysicalSize" + axis) for axis in "XY"]
    if None in values:
        incomplete = any(v is not None for v in values)
        return None, "OME pixel size ignored: only one axis is given" if incomplete else None
    units = [pixels[0].get(f"PhysicalSize{axis}Unit", "um") for axis in "XY"]
    factors = [um_per(unit) for unit in units]
    if None in factors:
        return None, f"OME pixel size ignored: its unit is {units[factors.index(None)]!r}"
    try:
        x, y = (float(v or "") * (f or 0.0) for v, f in zip(values, factors, strict=True))
    except ValueError as error:
        raise PixelSizeError(
            "the OME pixel size is not a number",
            where=path,
            seen=f"{values[0]!r} x {values[1]!r}",
            fix="Give the true pixel size with --pixel-size, in micrometres",
        ) from error
    return checked(x, y, "ome-xml", where=path), None


def _from_imagej(hints: TiffHints, path: Path) -> tuple[PixelSize | None, str | None]:
    """Join the unit of ImageJ's description with the resolution tags."""
    unit = hints.imagej_unit
    if not unit or hints.resolution is None:
        return None, None
    factor = um_per(unit)
    if factor is None:
        return None, f"ImageJ pixel size ignored: its unit is {unit!r}"
    x, y = (factor / per_unit for per_unit in hints.resolution)
    if factor >= _UM_PER_UNIT["cm"] and max(x, y) > LARGEST_UM:
        return None, f"ImageJ pixel size ignored: {x:g} x {y:g} um is a print resolution"
    return checked(x, y, "imagej", where=path), None


def _from_tags(hints: TiffHints, path: Path) -> tuple[PixelSize | None, str | None]:
    """XResolution and YResolution with a real ResolutionUnit; print resolutions are ignored."""
    factor = {2: 25_400.0, 3: 10_000.0}.get(hints.resolution_unit or 0)
    if hints.resolution is None or factor is None:
        return None, None
    x, y = (factor / per_unit for per_unit in hints.resolution)
    if not all(math.isfinite(v) and SMALLEST_UM <= v <= LARGEST_UM for v in (x, y)):
        unit = "inch" if hints.resolution_unit == 2 else "cm"
        per_x, per_y = hints.resolution
        return None, (
            f"TIFF resolution ignored: {per_x:g} x {per_y:g} per {unit} is a print resolution or "
            f"absurd ({x:g} x {y:g} um per pixel)"
        )
    return checked(x, y, "tiff-resolution", where=path), None


def _from_sidecar(path: Path) -> PixelSize | None:
    """PixelSize and PixelSizeUnits of a BIDS microscopy sidecar (BIDS 1.8, microscopy)."""
    stem = path.stem[:-4] if path.stem.lower().endswith(".ome") else path.stem
    sidecar = path.with_name(stem + ".json")
    if not sidecar.is_file():
        return None
    try:
        if sidecar.stat().st_size > _LONGEST_SIDECAR:
            return None
        content = json.loads(sidecar.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise PixelSizeError(
            "the JSON sidecar cannot be read", where=sidecar, seen=str(error)[:200], fix=_REPAIR
        ) from error
    if not isinstance(content, dict) or "PixelSize" not in content:
        return None
    value, unit = content["PixelSize"], content.get("PixelSizeUnits")
    sizes: list[Any] = value[:2] if isinstance(value, list) else [value, value]
    factor = um_per(unit) if isinstance(unit, str) else None
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) for v in sizes)
    if factor is None or len(sizes) != 2 or not numeric:
        raise PixelSizeError(
            "PixelSize or PixelSizeUnits make no sense",
            where=sidecar,
            seen=f"{value!r}, {unit!r}"[:200],
            fix=_REPAIR,
        )
    x, y = (_as_float(v) * factor for v in sizes)
    return checked(x, y, "bids-sidecar", where=sidecar)


def _from_text(path: Path) -> PixelSize | None:
    """One number, in micrometres, in a text file beside the image."""
    file = path.with_name(TEXT_NAME)
    if not file.is_file():
        return None
    try:
        with file.open("rb") as stream:
            text = stream.read(_LONGEST_TEXT).decode("utf-8-sig").strip()
        value = float(text.replace(",", "."))
    except (OSError, ValueError) as error:
        raise PixelSizeError(
            "the file does not hold one number", where=file, seen=str(error)[:100], fix=_REPAIR
        ) from error
    return checked(value, value, TEXT_NAME, where=file)


def _as_float(value: int | float) -> float:
    """Convert; an integer past the range of floats is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf
