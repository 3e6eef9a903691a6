"""Where a pixel size comes from, in which order, and when it is ignored or refused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from ranvier._pixel_size import um_per
from ranvier.calibration import PixelSize, checked
from ranvier.errors import PixelSizeError
from ranvier.reading import read

G8 = np.arange(200, dtype=np.uint8).reshape(10, 20)
TEXT = "pixel_size_in_micrometer.txt"


def tiff(path: Path, **options: Any) -> Path:
    tifffile.imwrite(path, G8, **options)
    return path


def ome(path: Path, **sizes: Any) -> Path:
    return tiff(path, ome=True, metadata={"axes": "YX", **sizes})


def imagej(path: Path, unit: str, per_unit: tuple[float, float] = (8.0, 8.0)) -> Path:
    """As ImageJ writes it, which escapes what is not ASCII."""
    description = f"ImageJ=1.54f\nimages=1\nunit={unit}\n"
    return tiff(path, description=description, resolution=per_unit, metadata=None)


def found(path: Path, **options: Any) -> tuple[float, str]:
    size = read(path, **options).pixel_size
    assert size is not None
    return size.um, size.source


def ignored(path: Path) -> str:
    image = read(path)
    assert image.pixel_size is None
    return " ".join(image.notes)


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan, math.inf, 9e-5, 10.1])
def test_checked_refuses_absurd_sizes(bad: float) -> None:
    for pair in ((bad, 0.1), (0.1, bad), (bad, bad)):
        with pytest.raises(PixelSizeError, match=f"{bad:g}"):
            checked(*pair, "option")


def test_checked_accepts_one_percent() -> None:
    assert checked(0.1, 0.1, "option") == PixelSize(0.1, "option")
    assert checked(0.1, 0.1009, "option").um == pytest.approx(math.sqrt(0.1 * 0.1009))
    with pytest.raises(PixelSizeError, match=r"0\.1 x 0\.102 um"):
        checked(0.1, 0.102, "option")


@pytest.mark.parametrize(
    ("unit", "um"),
    [
        ("um", 1),
        ("\u00b5m", 1),
        ("\u03bcm", 1),
        ("\\u00B5m", 1),
        ("\u00c2\u00b5m", 1),
        ("Microns", 1),
        ("micron", 1),
        ("nm", 1e-3),
        ("pm", 1e-6),
        ("\u00c5", 1e-4),
        ("\u212b", 1e-4),
        ("mm", 1e3),
        ("cm", 1e4),
        ("m", 1e6),
        ("inch", 25400),
        ("pixel", None),
        ("reference frame", None),
        ("Mm", None),
        ("Pm", None),
        ("", None),
    ],
)
def test_units(unit: str, um: float | None) -> None:
    assert um_per(unit) == um


@pytest.mark.parametrize(
    ("value", "unit"),
    [(0.125, None), (125, "nm"), (0.125, "\u00b5m"), (1.25e-4, "mm"), (1250, "\u00c5")],
)
def test_ome(tmp_path: Path, value: float, unit: str | None) -> None:
    sizes: dict[str, Any] = {"PhysicalSizeX": value, "PhysicalSizeY": value}
    if unit:
        sizes |= {"PhysicalSizeXUnit": unit, "PhysicalSizeYUnit": unit}
    um, source = found(ome(tmp_path / "a.tif", **sizes))
    assert (um, source) == (pytest.approx(0.125), "ome-xml")


def test_ome_units_may_differ(tmp_path: Path) -> None:
    path = ome(
        tmp_path / "a.tif",
        PhysicalSizeX=100,
        PhysicalSizeXUnit="nm",
        PhysicalSizeY=0.1,
        PhysicalSizeYUnit="\u00b5m",
    )
    assert found(path)[0] == pytest.approx(0.1)


def test_ome_that_says_nothing(tmp_path: Path) -> None:
    pixel = {"PhysicalSizeXUnit": "pixel", "PhysicalSizeYUnit": "pixel"}
    assert "unit is 'pixel'" in ignored(
        ome(tmp_path / "a.tif", PhysicalSizeX=1, PhysicalSizeY=1, **pixel)
    )
    assert "only one axis" in ignored(ome(tmp_path / "b.tif", PhysicalSizeX=1))
    assert ignored(ome(tmp_path / "c.tif")) == ""


@pytest.mark.parametrize(("x", "y"), [(0.1, 0.2), (0, 0), (-1, -1), (1e9, 1e9), ("nan", "nan")])
def test_ome_that_lies(tmp_path: Path, x: Any, y: Any) -> None:
    path = ome(tmp_path / "a.tif", PhysicalSizeX=x, PhysicalSizeY=y)
    with pytest.raises(PixelSizeError, match="ome-xml"):
        read(path)
    assert found(path, pixel_size=0.3) == (0.3, "option")


def test_each_ome_image_has_its_own(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "a.ome.tif") as writer:
        for um in (0.1, 0.2):
            writer.write(G8, metadata={"axes": "YX", "PhysicalSizeX": um, "PhysicalSizeY": um})
    assert found(tmp_path / "a.ome.tif", page=1) == (0.2, "ome-xml")


@pytest.mark.parametrize(
    ("unit", "per_unit"),
    [
        ("um", 8),
        ("micron", 8),
        ("microns", 8),
        ("\\u00B5m", 8),
        ("nm", 0.008),
        ("mm", 8e3),
        ("cm", 8e4),
    ],
)
def test_imagej(tmp_path: Path, unit: str, per_unit: float) -> None:
    path = imagej(tmp_path / "a.tif", unit, (per_unit, per_unit))
    assert found(path) == (pytest.approx(0.125), "imagej")


def test_imagej_inch(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", "inch", (254_000, 254_000))
    assert found(path) == (pytest.approx(0.1), "imagej")


def test_imagej_that_says_nothing(tmp_path: Path) -> None:
    assert "unit is 'pixel'" in ignored(imagej(tmp_path / "a.tif", "pixel"))


@pytest.mark.parametrize("per_unit", [(8.0, 4.0), (1e-3, 1e-3)])
def test_imagej_that_lies(tmp_path: Path, per_unit: tuple[float, float]) -> None:
    with pytest.raises(PixelSizeError, match="imagej"):
        read(imagej(tmp_path / "a.tif", "um", per_unit))


def test_tiff_resolution(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", resolution=(1e5, 1e5), resolutionunit="centimeter")
    assert found(path) == (pytest.approx(0.1), "tiff-resolution")
    path = tiff(tmp_path / "b.tif", resolution=(254_000, 254_000), resolutionunit="inch")
    assert found(path) == (pytest.approx(0.1), "tiff-resolution")


@pytest.mark.parametrize("dpi", [72, 96, 300, 2400])
def test_print_resolutions_are_ignored(tmp_path: Path, dpi: int) -> None:
    note = ignored(tiff(tmp_path / "a.tif", resolution=(dpi, dpi), resolutionunit="inch"))
    assert "print resolution" in note


def test_resolution_without_unit_is_ignored(tmp_path: Path) -> None:
    assert ignored(tiff(tmp_path / "a.tif", resolution=(1e5, 1e5), resolutionunit="none")) == ""


def test_anisotropic_resolution_is_refused(tmp_path: Path) -> None:
    path = tiff(tmp_path / "a.tif", resolution=(1e5, 2e5), resolutionunit="centimeter")
    with pytest.raises(PixelSizeError, match=r"0\.1 x 0\.05"):
        read(path)


@pytest.mark.parametrize("text", ["0.07", " 0,07\n", "\ufeff0.07", "7e-2"])
def test_text_file(tmp_path: Path, text: str) -> None:
    (tmp_path / TEXT).write_text(text, encoding="utf-8")
    assert found(tiff(tmp_path / "a.tif")) == (0.07, TEXT)


@pytest.mark.parametrize(
    "text", ["", "about 0.1", "0.1 0.2", "0", "nan", "-1", "1,000.5", "\x00\xff"]
)
def test_text_file_with_garbage(tmp_path: Path, text: str) -> None:
    (tmp_path / TEXT).write_bytes(text.encode("latin-1"))
    with pytest.raises(PixelSizeError, match=TEXT):
        read(tiff(tmp_path / "a.tif"))
    assert found(tiff(tmp_path / "a.tif"), pixel_size=0.2) == (0.2, "option")


@pytest.mark.parametrize(
    "sidecar",
    [
        {"PixelSize": [0.07, 0.07], "PixelSizeUnits": "um"},
        {"PixelSize": [70, 70, 70], "PixelSizeUnits": "nm"},
        {"PixelSize": 7e-5, "PixelSizeUnits": "mm"},
    ],
)
@pytest.mark.parametrize("name", ["a.tif", "a.ome.tif"])
def test_bids_sidecar(tmp_path: Path, sidecar: dict[str, Any], name: str) -> None:
    (tmp_path / "a.json").write_text(json.dumps(sidecar))
    um, source = found(tiff(tmp_path / name))
    assert (um, source) == (pytest.approx(0.07), "bids-sidecar")


@pytest.mark.parametrize("text", ["[]", "{}", '{"shapes": []}'])
def test_other_json_is_not_a_sidecar(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    assert ignored(tiff(tmp_path / "a.tif")) == ""


@pytest.mark.parametrize(
    "text",
    [
        "{",
        "[" * 100_000,
        '{"PixelSize": 0.1}',
        '{"PixelSize": "0.1", "PixelSizeUnits": "um"}',
        '{"PixelSize": [0.1], "PixelSizeUnits": "um"}',
        '{"PixelSize": true, "PixelSizeUnits": "um"}',
        '{"PixelSize": [0.1, 0.2], "PixelSizeUnits": "um"}',
        '{"PixelSize": 1' + "0" * 400 + ', "PixelSizeUnits": "um"}',
    ],
)
def test_broken_sidecar(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(PixelSizeError, match=r"a\.json"):
        read(tiff(tmp_path / "a.tif"))


def test_priority(tmp_path: Path) -> None:
    (tmp_path / TEXT).write_text("6")
    assert found(tiff(tmp_path / "a.tif"))[1] == TEXT
    (tmp_path / "a.json").write_text('{"PixelSize": 5, "PixelSizeUnits": "um"}')
    assert found(tiff(tmp_path / "a.tif"))[1] == "bids-sidecar"
    resolution = {"resolution": (2500, 2500), "resolutionunit": "centimeter"}
    assert found(tiff(tmp_path / "a.tif", **resolution)) == (4, "tiff-resolution")
    description = "ImageJ=1.54f\nimages=1\nunit=um\n"
    path = tiff(tmp_path / "a.tif", description=description, metadata=None, **resolution)
    assert found(path) == (4e-4, "imagej")
    assert found(path, pixel_size=0.5) == (0.5, "option")
    sizes = {"PhysicalSizeX": 2, "PhysicalSizeY": 2}
    path = tiff(tmp_path / "a.tif", ome=True, metadata={"axes": "YX", **sizes}, **resolution)
    assert found(path) == (2, "ome-xml")


@pytest.mark.parametrize("bad", [0.0, -0.1, math.nan, 11.0])
def test_option_is_checked(tmp_path: Path, bad: float) -> None:
    with pytest.raises(PixelSizeError, match="option"):
        read(tiff(tmp_path / "a.tif"), pixel_size=bad)


def test_an_imagej_print_resolution_is_ignored_with_a_note(tmp_path: Path) -> None:
    path = imagej(tmp_path / "a.tif", "inch", (72.0, 72.0))
    found = read(path)
    assert found.pixel_size is None
    assert any("print resolution" in note for note in found.notes)
    (tmp_path / "pixel_size_in_micrometer.txt").write_text("0.2")
    size = read(path).pixel_size
    assert size is not None
    assert size.um == 0.2
