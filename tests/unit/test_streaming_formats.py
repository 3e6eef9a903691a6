"""OME-Zarr and slides, read box by box.

OME-Zarr and slides for OpenSlide are written here where their libraries are installed. ND2 cannot be written: a
module that stands for the reader gives what it would. So do others where the libraries are missing.
"""

from __future__ import annotations

import json
import sys
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import tifffile
from PIL import Image

from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.errors import (
    AmbiguousImageError,
    CorruptImageError,
    MissingExtraError,
    SettingsError,
    UnsupportedFormatError,
)
from ranvier.streaming.opening import kind_of, open_source
from ranvier.streaming.slide_sources import OpenSlideSource
from ranvier.streaming.sources import Pick
from ranvier.tiling import Box

BOX = Box(11, 7, 90, 131)


@pytest.fixture(scope="module")
def drawn():
    return draw(PhantomSettings(shape=(140, 160), look="BF", seed=2)).image.pixels


def opened(path, **pick):
    source = open_source(path, Pick(**pick))
    try:
        return source.read(BOX), source.shape, source.pixel_size, source.notes
    finally:
        source.close()


# OME-Zarr


def write_zarr(folder, stack, *, version=2, axes="cyx", unit="micrometer", names=(), image=""):
    """An OME-Zarr with two levels; NGFF 0.4 in Zarr 2, 0.5 in Zarr 3."""
    zarr = pytest.importorskip("zarr")
    group = zarr.open_group(str(folder / image), mode="w", zarr_format=version)
    datasets = []
    for level in range(2):
        pixels = stack[..., :: 2**level, :: 2**level]
        chunks = (1,) * (stack.ndim - 2) + (50, 60)
        array = group.create_array(
            str(level), shape=pixels.shape, chunks=chunks, dtype=pixels.dtype
        )
        array[...] = pixels
        scale = [1.0] * (stack.ndim - 2) + [0.25 * 2**level] * 2
        datasets.append(
            {
                "path": str(level),
                "coordinateTransformations": [{"type": "scale", "scale": scale}],
            }
        )
    kinds = {"c": "channel", "t": "time"}
    listed = [{"name": a, "type": kinds.get(a, "space")} for a in axes]
    if unit:
        listed[-2]["unit"] = listed[-1]["unit"] = unit
    about = {"multiscales": [{"axes": listed, "datasets": datasets, "version": "0.4"}]}
    if names:
        about["omero"] = {"channels": [{"label": name} for name in names]}
    group.attrs.update(about if version == 2 else {"ome": {**about, "version": "0.5"}})
    return folder


@pytest.mark.parametrize("version", [2, 3])
def test_a_plane_of_an_ome_zarr(tmp_path, drawn, version):
    folder = write_zarr(tmp_path / "x.ome.zarr", drawn[None], version=version)
    assert kind_of(folder) == "zarr"
    pixels, shape, size, _ = opened(folder)
    assert np.array_equal(pixels, drawn[11:90, 7:131])
    assert pixels.dtype == np.uint8
    assert shape == drawn.shape
    assert (size.um, size.source) == (0.25, "ome-zarr")
    source = open_source(folder, Pick(level=1))
    assert np.array_equal(source.read(Box(0, 0, *source.shape)), drawn[::2, ::2])
    assert source.pixel_size.um == 0.5
    with pytest.raises(SettingsError, match="no such level"):
        open_source(folder, Pick(level=2))


def test_pages_and_channels_of_an_ome_zarr(tmp_path):
    stack = np.random.default_rng(0).integers(0, 2**12, (2, 2, 3, 140, 160)).astype(np.uint16)
    folder = write_zarr(
        tmp_path / "x.zarr", stack, axes="tczyx", names=("DAPI", "FluoroMyelin"), unit="nanometer"
    )
    with pytest.raises(AmbiguousImageError, match="6 pages"):
        open_source(folder)
    with pytest.raises(AmbiguousImageError, match="FluoroMyelin"):
        open_source(folder, Pick(page=4))
    pixels, _, size, notes = opened(folder, page=4, channel="FluoroMyelin")
    assert np.array_equal(pixels, stack[1, 1, 1, 11:90, 7:131])
    assert size.um == pytest.approx(0.00025)
    assert "channel 1 (FluoroMyelin) read" in notes
    for wrong in (Pick(page=6, channel=0), Pick(page=0, channel=2), Pick(page=0, channel="GFP")):
        with pytest.raises(SettingsError, match="no such"):
            open_source(folder, wrong)


def test_an_image_inside_of_a_converted_file(tmp_path, drawn):
    zarr = pytest.importorskip("zarr")
    zarr.open_group(str(tmp_path / "x.zarr"), mode="w", zarr_format=2)
    write_zarr(tmp_path / "x.zarr", drawn, axes="yx", image="0", unit=None)
    pixels, _, size, _ = opened(tmp_path / "x.zarr")
    assert np.array_equal(pixels, drawn[11:90, 7:131])
    assert size is None
    write_zarr(tmp_path / "x.zarr", drawn, axes="yx", image="1")
    with pytest.raises(AmbiguousImageError, match="2 images"):
        open_source(tmp_path / "x.zarr")


def test_a_zarr_that_is_no_image_and_one_that_is_damaged(tmp_path, drawn):
    zarr = pytest.importorskip("zarr")
    zarr.open_group(str(tmp_path / "n.zarr"), mode="w", zarr_format=2)
    with pytest.raises(UnsupportedFormatError, match="no multiscales"):
        open_source(tmp_path / "n.zarr")
    folder = write_zarr(tmp_path / "x.zarr", drawn, axes="yx")
    chunk = next(p for p in (folder / "0").rglob("*") if p.is_file() and p.name[0].isdigit())
    chunk.write_bytes(b"nothing")
    with pytest.raises(CorruptImageError):
        source = open_source(folder)
        source.read(Box(0, 0, *source.shape))
    (folder / ".zgroup").write_text("{")
    with pytest.raises(CorruptImageError):
        open_source(folder)


def test_zarr_is_an_extra(tmp_path, monkeypatch):
    (tmp_path / ".zgroup").write_text(json.dumps({"zarr_format": 2}))
    monkeypatch.setitem(sys.modules, "zarr", None)
    with pytest.raises(MissingExtraError, match=r"ranvier\[zarr\]"):
        open_source(tmp_path)


# OpenSlide


def test_a_slide_that_openslide_opens(tmp_path, drawn):
    pytest.importorskip("openslide")
    path = tmp_path / "s.tif"
    colour = np.repeat(np.kron(drawn, np.ones((2, 2), np.uint8))[..., None], 3, axis=2)
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2):
            writer.write(
                np.ascontiguousarray(colour[::step, ::step]),
                tile=(64, 64),
                photometric="rgb",
                subfiletype=int(step > 1),
                metadata=None,
            )
    for level, expected in ((0, colour[..., 0]), (1, drawn)):
        source = OpenSlideSource(path, Pick(level=level))
        assert source.shape == expected.shape
        assert np.array_equal(source.read(BOX), expected[11:90, 7:131])
        source.close()
    with pytest.raises(SettingsError, match="no such level"):
        OpenSlideSource(path, Pick(level=2))


class FakeSlide:
    """What OpenSlide gives of a slide of which only the left part was scanned."""

    def __init__(self, path):
        pixels = np.load(path)
        if pixels.ndim != 2:
            raise ValueError("no slide")
        self.pixels, self.closed = pixels, False
        rows, columns = pixels.shape
        self.level_dimensions = ((columns, rows), (columns // 4, rows // 4))
        self.level_downsamples = (1.0, 4.0)
        self.properties = {
            "openslide.mpp-x": "0.25",
            "openslide.mpp-y": "0.25",
            "openslide.background-color": "F0F0F0",
            "openslide.vendor": "mirax",
        }

    def read_region(self, corner, level, size):
        step = int(self.level_downsamples[level])
        top, left = corner[1], corner[0]
        part = self.pixels[top : top + size[1] * step : step, left : left + size[0] * step : step]
        region = np.repeat(part[..., None], 4, axis=2)
        region[..., 3] = 255
        region[:, max(0, 100 - left) // step :] = 0
        return Image.fromarray(region)

    def close(self):
        self.closed = True


def fake_module(monkeypatch, name, **content):
    module = ModuleType(name)
    for key, value in content.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


def test_parts_that_were_not_scanned_take_the_background_colour(tmp_path, drawn, monkeypatch):
    fake_module(monkeypatch, "openslide", OpenSlide=FakeSlide)
    path = tmp_path / "s.mrxs"
    with path.open("wb") as file:
        np.save(file, drawn)
    pixels, shape, size, notes = opened(path)
    expected = drawn.copy()
    expected[:, 100:] = 0xF0
    assert np.array_equal(pixels, expected[11:90, 7:131])
    assert shape == drawn.shape
    assert (size.um, size.source) == (0.25, "slide")
    assert "read by OpenSlide (mirax)" in notes
    source = open_source(path, Pick(level=1, pixel_size=0.3))
    assert source.pixel_size.um == pytest.approx(1.2)
    assert np.array_equal(source.read(Box(2, 3, 9, 11)), drawn[8:36:4, 12:44:4])
    source.close()
    with path.open("wb") as file:
        np.save(file, drawn[None])
    with pytest.raises(CorruptImageError, match="no slide"):
        open_source(path)


@pytest.mark.parametrize(("name", "module"), [("s.mrxs", "openslide"), ("s.nd2", "nd2")])
def test_readers_of_slides_are_an_extra(tmp_path, monkeypatch, name, module):
    (tmp_path / name).write_bytes(b"slide")
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"ranvier\[slides\]"):
        open_source(tmp_path / name)


# ND2


@pytest.mark.parametrize("calibrated", [True, False])
def test_a_frame_of_an_nd2(tmp_path, monkeypatch, calibrated):
    stack = np.random.default_rng(0).integers(0, 2**16, (4, 2, 140, 160)).astype(np.uint16)

    class File:
        sizes = {"T": 2, "Z": 2, "C": 2, "Y": 140, "X": 160}  # noqa: RUF012
        metadata = SimpleNamespace(
            channels=[
                SimpleNamespace(
                    volume=SimpleNamespace(
                        axesCalibrated=(calibrated, calibrated, False),
                        axesCalibration=(0.1, 0.1, 1.0),
                    )
                )
            ]
        )

        def __init__(self, _):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def read_frame(self, index):
            return stack[index]

    fake_module(monkeypatch, "nd2", ND2File=File)
    path = tmp_path / "x.nd2"
    path.write_bytes(b"nd2")
    pixels, shape, size, _ = opened(path, page=3, channel=1)
    assert np.array_equal(pixels, stack[3, 1, 11:90, 7:131])
    assert shape == (140, 160)
    assert (None if size is None else size.um) == (0.1 if calibrated else None)
    with pytest.raises(AmbiguousImageError, match="4 pages"):
        open_source(path)
    with pytest.raises(SettingsError, match="level"):
        open_source(path, Pick(page=0, channel=0, level=1))
