"""Every mode in every format becomes the same grey levels, with notes on what was decided."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ranvier.errors import (
    AmbiguousImageError,
    CorruptImageError,
    ImageTooLargeError,
    PixelSizeError,
    ReadError,
    SettingsError,
    UnsupportedFormatError,
)
from ranvier.reading import Limits, from_array, is_image, read

RNG = np.random.default_rng(7)
G8 = RNG.integers(0, 256, (40, 50), dtype=np.uint8)
G16 = RNG.integers(0, 65536, (40, 50), dtype=np.uint16)
RGB8 = RNG.integers(0, 256, (40, 50, 3), dtype=np.uint8)
RGB16 = RNG.integers(0, 65536, (40, 50, 3), dtype=np.uint16)


def luma(rgb: np.ndarray) -> np.ndarray:
    """An independent oracle: Python integers, one pixel at a time."""
    flat = [
        (299 * int(r) + 587 * int(g) + 114 * int(b) + 500) // 1000 for r, g, b in rgb.reshape(-1, 3)
    ]
    return np.array(flat, rgb.dtype).reshape(rgb.shape[:2])


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bytes(
    samples: np.ndarray, colour: int, *, depth: int | None = None, extra: bytes = b""
) -> bytes:
    """A PNG written by hand, so that no encoder stands between the pixels and the test."""
    depth = depth or samples.itemsize * 8
    rows, columns = samples.shape[:2]
    header = struct.pack(">IIBBBBB", columns, rows, depth, colour, 0, 0, 0)
    if depth < 8:
        bits = np.unpackbits(samples[..., None], axis=2)[..., 8 - depth :].reshape(rows, -1)
        lines = np.packbits(bits, axis=1)
    else:
        lines = samples.astype(samples.dtype.newbyteorder(">")).reshape(rows, -1).view(np.uint8)
    raw = b"".join(b"\0" + line.tobytes() for line in lines)
    body = chunk(b"IHDR", header) + extra + chunk(b"IDAT", zlib.compress(raw, 1))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def with_alpha(samples: np.ndarray, alpha: int) -> np.ndarray:
    return np.dstack([samples, np.full(samples.shape[:2], alpha, samples.dtype)])


PNG_MODES: dict[str, tuple[np.ndarray, int, dict[str, Any], np.ndarray]] = {
    "grey 1": (G8 >> 7, 0, {"depth": 1}, (G8 >> 7) * np.uint8(255)),
    "grey 2": (G8 >> 6, 0, {"depth": 2}, (G8 >> 6) * np.uint8(85)),
    "grey 4": (G8 >> 4, 0, {"depth": 4}, (G8 >> 4) * np.uint8(17)),
    "grey 8": (G8, 0, {}, G8),
    "grey 16": (G16, 0, {}, G16),
    "rgb 8": (RGB8, 2, {}, luma(RGB8)),
    "rgb 16": (RGB16, 2, {}, luma(RGB16)),
    "grey+alpha 8": (with_alpha(G8, 255), 4, {}, G8),
    "grey+alpha 16": (with_alpha(G16, 9), 4, {}, G16),
    "rgba 8": (with_alpha(RGB8, 0), 6, {}, luma(RGB8)),
    "rgba 16": (with_alpha(RGB16, 65535), 6, {}, luma(RGB16)),
    "grey 16 + tRNS": (G16, 0, {"extra": chunk(b"tRNS", G16[:1, :1].tobytes()[::-1])}, G16),
    "rgb 8 + tRNS": (RGB8, 2, {"extra": chunk(b"tRNS", bytes(6))}, luma(RGB8)),
    "grey 8 + gAMA": (G8, 0, {"extra": chunk(b"gAMA", struct.pack(">I", 100000))}, G8),
}


@pytest.mark.parametrize("mode", PNG_MODES)
def test_png_keeps_every_grey_level(tmp_path: Path, mode: str) -> None:
    samples, colour, options, expected = PNG_MODES[mode]
    image = read(saved(tmp_path / "a.png", png_bytes(samples, colour, **options)))
    assert image.pixels.dtype == expected.dtype
    assert np.array_equal(image.pixels, expected)
    assert image.pixels.flags.c_contiguous
    assert any("alpha" in note for note in image.notes) == (
        samples.shape[-1] in (2, 4) or "tRNS" in mode
    )


TIFF_MODES: dict[str, tuple[np.ndarray, dict[str, Any], np.ndarray]] = {
    "grey 1": (G8 > 127, {}, np.where(G8 > 127, 255, 0).astype(np.uint8)),
    "grey 2": (G8 >> 6, {"bitspersample": 2}, (G8 >> 6) * np.uint8(85)),
    "grey 4": (G8 >> 4, {"bitspersample": 4}, (G8 >> 4) * np.uint8(17)),
    "grey 8": (G8, {}, G8),
    "grey 12 packed": (G16 >> 4, {"bitspersample": 12}, G16 >> 4),
    "grey 12 in 16": (G16 >> 4, {}, G16 >> 4),
    "grey 16": (G16, {"byteorder": ">"}, G16),
    "grey 16 big-endian compressed": (
        G16,
        {"byteorder": ">", "compression": "zlib", "predictor": True},
        G16,
    ),
    "grey 16 lzw tiles": (G16, {"compression": "lzw", "tile": (16, 16)}, G16),
    "bigtiff": (G16, {"bigtiff": True}, G16),
    "int8": (G8.view(np.int8), {}, G8.view(np.int8).astype(np.float32)),
    "int16": (G16.view(np.int16), {}, G16.view(np.int16).astype(np.float32)),
    "int32": (-G16.astype(np.int32), {}, -G16.astype(np.float32)),
    "uint32": (G16.astype(np.uint32), {}, G16.astype(np.float32)),
    "float16": (G8.astype(np.float16), {}, G8.astype(np.float32)),
    "float32": (G16.astype(np.float32) / 3, {}, G16.astype(np.float32) / 3),
    "float64": (G16 / 3, {}, (G16 / 3).astype(np.float32)),
    "rgb 8": (RGB8, {"photometric": "rgb"}, luma(RGB8)),
    "rgb 16 planar": (
        np.moveaxis(RGB16, -1, 0).copy(),
        {"photometric": "rgb", "planarconfig": "separate"},
        luma(RGB16),
    ),
    "rgba 8": (with_alpha(RGB8, 7), {"photometric": "rgb"}, luma(RGB8)),
    "grey+alpha 16": (
        with_alpha(G16, 7),
        {"photometric": "minisblack", "extrasamples": ["unassalpha"], "planarconfig": "contig"},
        G16,
    ),
    "white is zero 1": (
        G8 > 127,
        {"photometric": "miniswhite"},
        np.where(G8 > 127, 0, 255).astype(np.uint8),
    ),
    "white is zero 8": (G8, {"photometric": "miniswhite"}, 255 - G8),
    "white is zero 12": (
        G16 >> 4,
        {"photometric": "miniswhite", "bitspersample": 12},
        4095 - (G16 >> 4),
    ),
}


@pytest.mark.parametrize("mode", TIFF_MODES)
def test_tiff_keeps_every_grey_level(tmp_path: Path, mode: str) -> None:
    samples, options, expected = TIFF_MODES[mode]
    tifffile.imwrite(tmp_path / "a.tif", samples, **({"photometric": "minisblack"} | options))
    image = read(tmp_path / "a.tif")
    assert image.pixels.dtype == expected.dtype
    assert np.array_equal(image.pixels, expected)
    assert image.pixels.flags.c_contiguous


@pytest.mark.parametrize("alpha", [None, 255, 8])
@pytest.mark.parametrize(
    ("grey", "colours"), [(G8, 0), (G16, 0), (RGB8, 2), (RGB16, 2)], ids=["g8", "g16", "c8", "c16"]
)
def test_png_and_tiff_agree(
    tmp_path: Path, grey: np.ndarray, colours: int, alpha: int | None
) -> None:
    samples = grey if alpha is None else with_alpha(grey, alpha)
    options: dict[str, Any] = {"photometric": "rgb" if colours else "minisblack"}
    if alpha is not None:
        options |= {"extrasamples": ["unassalpha"], "planarconfig": "contig"}
    tifffile.imwrite(tmp_path / "a.tif", samples, **options)
    png = read(saved(tmp_path / "a.png", png_bytes(samples, colours + 4 * (alpha is not None))))
    tiff = read(tmp_path / "a.tif")
    assert png.pixels.dtype == tiff.pixels.dtype
    assert np.array_equal(png.pixels, tiff.pixels)
    assert png.notes == tiff.notes


@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    samples=st.sampled_from([np.uint8, np.uint16]).flatmap(
        lambda dtype: hnp.arrays(
            dtype,
            st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 2, 3, 4])),
        )
    )
)
def test_round_trip_of_any_pixels(tmp_path: Path, samples: np.ndarray) -> None:
    count = samples.shape[2]
    png = saved(tmp_path / "a.png", png_bytes(samples, {1: 0, 2: 4, 3: 2, 4: 6}[count]))
    options: dict[str, Any] = {"photometric": "rgb" if count > 2 else "minisblack"}
    if count in (2, 4):
        options["extrasamples"] = ["unassalpha"]
    stored = samples[..., 0] if count == 1 else samples
    tifffile.imwrite(
        tmp_path / "a.tif", stored, planarconfig="contig" if count > 1 else None, **options
    )
    expected = samples[..., 0] if count < 3 else luma(samples[..., :3])
    made = from_array(samples)
    for image in (read(png), read(tmp_path / "a.tif"), made):
        assert image.pixels.dtype == samples.dtype
        assert np.array_equal(image.pixels, expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64])
def test_equal_channels_give_exactly_that_channel(dtype: type) -> None:
    grey = np.arange(65536).astype(dtype).reshape(256, 256)
    if np.dtype(dtype).kind == "f":
        grey = np.nextafter(grey / dtype(7), dtype(0))
    image = from_array(np.dstack([grey] * 3))
    assert np.array_equal(image.pixels, grey.astype(image.pixels.dtype))


def test_colour_is_converted_in_blocks_of_rows() -> None:
    rgb = RNG.integers(0, 65536, (3000, 700, 3), dtype=np.uint16)
    blocked = from_array(rgb).pixels
    wide = rgb.astype(np.uint64)
    whole = (299 * wide[..., 0] + 587 * wide[..., 1] + 114 * wide[..., 2] + 500) // 1000
    assert np.array_equal(blocked, whole)


def test_float_colour(tmp_path: Path) -> None:
    rgb = RNG.random((20, 30, 3)).astype(np.float32)
    for samples, planar in ((rgb, "contig"), (np.moveaxis(rgb, -1, 0).copy(), "separate")):
        tifffile.imwrite(tmp_path / "a.tif", samples, photometric="rgb", planarconfig=planar)
        pixels = read(tmp_path / "a.tif").pixels
        assert pixels.dtype == np.float32
        assert np.allclose(pixels, rgb @ [0.299, 0.587, 0.114], rtol=1e-6)


def test_palettes_give_the_same_grey(tmp_path: Path) -> None:
    colours = RNG.integers(0, 256, (256, 3), dtype=np.uint8)
    expected = luma(colours[G8])
    png = png_bytes(G8, 3, extra=chunk(b"PLTE", colours.tobytes()))
    assert np.array_equal(read(saved(tmp_path / "a.png", png)).pixels, expected)
    for factor in (256, 257):
        table = colours.T.astype(np.uint16) * np.uint16(factor)
        tifffile.imwrite(tmp_path / "a.tif", G8, photometric="palette", colormap=table)
        image = read(tmp_path / "a.tif")
        assert image.pixels.dtype == np.uint8
        assert np.array_equal(image.pixels, expected)
        assert "palette expanded" in image.notes
    deep = RNG.integers(0, 65536, (3, 256), dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", G8, photometric="palette", colormap=deep)
    assert np.array_equal(read(tmp_path / "a.tif").pixels, luma(deep.T[G8]))


def test_palette_written_by_pillow(tmp_path: Path) -> None:
    picture = Image.fromarray(RGB8).quantize(16)
    picture.save(tmp_path / "a.png")
    picture.save(tmp_path / "a.tif")
    expected = luma(np.asarray(picture.convert("RGB")))
    assert np.array_equal(read(tmp_path / "a.png").pixels, expected)
    assert np.array_equal(read(tmp_path / "a.tif").pixels, expected)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_jpeg(tmp_path: Path, options: dict[str, Any]) -> None:
    rows, columns = np.mgrid[:64, :80]
    rgb = np.dstack([columns * 3, rows * 3, rows + columns]).astype(np.uint8)
    Image.fromarray(rgb).save(tmp_path / "c.jpg", quality=95, **options)
    Image.fromarray(luma(rgb)).save(tmp_path / "g.jpg", quality=95, **options)
    for name in ("c.jpg", "g.jpg"):
        pixels = read(tmp_path / name).pixels
        assert pixels.dtype == np.uint8
        assert np.abs(pixels.astype(int) - luma(rgb)).max() <= 4


def test_jpeg_of_12_bits(tmp_path: Path) -> None:
    rows, columns = np.mgrid[:40, :40]
    grey = (rows * 50 + columns * 50).astype(np.uint16)
    data = bytes(imagecodecs.jpeg8_encode(grey, bitspersample=12, level=98))
    pixels = read(saved(tmp_path / "a.jpg", data)).pixels
    assert pixels.dtype == np.uint16
    assert np.abs(pixels.astype(int) - grey).max() < 20


def test_lossless_jpeg(tmp_path: Path) -> None:
    data = bytes(imagecodecs.jpeg8_encode(G8, lossless=True))
    assert np.array_equal(read(saved(tmp_path / "a.jpg", data)).pixels, G8)


def test_exif_orientation_is_noted_and_not_applied(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(G8).save(tmp_path / "a.jpg", exif=exif)
    image = read(tmp_path / "a.jpg")
    assert image.shape == G8.shape
    assert any("orientation 6 not applied" in note for note in image.notes)


def test_multi_picture_jpeg_and_animated_png_give_their_first_picture(tmp_path: Path) -> None:
    first, second = Image.fromarray(np.full_like(G8, 9)), Image.fromarray(np.full_like(G8, 200))
    first.save(tmp_path / "a.mpo", format="MPO", save_all=True, append_images=[second])
    first.save(tmp_path / "a.png", save_all=True, append_images=[second])
    for name in ("a.mpo", "a.png"):
        image = read(tmp_path / name)
        assert (image.pixels == 9).all()
        assert any("picture was read" in note for note in image.notes)


def test_transparent_pixels_are_counted(tmp_path: Path) -> None:
    samples = with_alpha(G8, 255)
    samples[:2, :3, 1] = 0
    image = read(saved(tmp_path / "a.png", png_bytes(samples, 4)))
    assert image.notes == ("alpha dropped (6 pixels are not fully opaque)",)


def test_the_bytes_decide_and_not_the_name(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", G8)
    image = read((tmp_path / "a.tif").rename(tmp_path / "a.png"))
    assert np.array_equal(image.pixels, G8)
    assert image.notes == ("named .png but its bytes are TIFF",)


def test_provenance(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", png_bytes(G8, 0))
    image = read(str(path))
    assert image.path == path
    assert image.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    tifffile.imwrite(tmp_path / "a.tif", G8)
    image = read(tmp_path / "a.tif")
    assert image.sha256 == hashlib.sha256((tmp_path / "a.tif").read_bytes()).hexdigest()


def write_pages(path: Path) -> None:
    tifffile.imwrite(path, np.stack([G8, G8 + 1]), photometric="minisblack")


def write_mixed_pages(path: Path) -> None:
    with tifffile.TiffWriter(path) as writer:
        for picture in (G16[:9], G8 + 1, G8):
            writer.write(picture, metadata=None)


def write_imagej_stack(path: Path) -> None:
    tifffile.imwrite(path, np.stack([G8, G8 + 1]), imagej=True, metadata={"axes": "ZYX"})


def write_virtual_stack(path: Path) -> None:
    """ImageJ's way past 4 GB: one directory, the planes one after the other."""
    tifffile.imwrite(
        path,
        np.stack([G16, (G8 + 1).astype(np.uint16)]),
        imagej=True,
        truncate=True,
        metadata={"axes": "TYX"},
    )


def write_ome_times(path: Path) -> None:
    tifffile.imwrite(path, np.stack([G8, G8 + 1]), ome=True, metadata={"axes": "TYX"})


def write_two_ome_images(path: Path) -> None:
    with tifffile.TiffWriter(path, ome=True) as writer:
        writer.write(G16, metadata={"axes": "YX"})
        writer.write(G8 + 1, metadata={"axes": "YX"})


@pytest.mark.parametrize(
    "write",
    [
        write_pages,
        write_mixed_pages,
        write_imagej_stack,
        write_virtual_stack,
        write_ome_times,
        write_two_ome_images,
    ],
)
def test_pages_only_on_request(tmp_path: Path, write: Callable[[Path], None]) -> None:
    path = tmp_path / "a.tif"
    write(path)
    with pytest.raises(AmbiguousImageError, match=r"pages and none was chosen.*40 x 50.*--page 0"):
        read(path)
    image = read(path, page=1)
    assert np.array_equal(image.pixels, G8 + 1)
    assert "page 1 read" in image.notes
    with pytest.raises(SettingsError, match="no such page"):
        read(path, page=3)
    with pytest.raises(SettingsError, match="counted from 0"):
        read(path, page=-1)


@pytest.mark.parametrize("kind", ["ome", "imagej", "contig", "separate"])
def test_channels_only_on_request(tmp_path: Path, kind: str) -> None:
    path, planes = tmp_path / "a.tif", np.stack([G8, G8 + 1, G8 + 2])
    name: int | str = 1
    if kind == "ome":
        names = {"axes": "CYX", "Channel": {"Name": ["DAPI", "MBP", "NF"]}}
        tifffile.imwrite(path, planes, ome=True, metadata=names)
        name = "MBP"
    elif kind == "imagej":
        tifffile.imwrite(path, planes, imagej=True, metadata={"axes": "CYX"})
    else:
        planes = np.moveaxis(planes, 0, -1).copy() if kind == "contig" else planes
        tifffile.imwrite(path, planes, photometric="minisblack", planarconfig=kind)
    with pytest.raises(AmbiguousImageError, match="3 channels and none was chosen"):
        read(path)
    for chosen in (1, name):
        assert np.array_equal(read(path, channel=chosen).pixels, G8 + 1)
    for wrong in (3, "nothing"):
        with pytest.raises(SettingsError, match="no such channel"):
            read(path, channel=wrong)


def test_pages_and_channels_together(tmp_path: Path) -> None:
    planes = RNG.integers(0, 256, (3, 2, 2, 12, 15), dtype=np.uint8)
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, planes, metadata={"axes": "TCZYX", "Channel": {"Name": ["A", "B"]}})
    with pytest.raises(AmbiguousImageError, match="6 pages"):
        read(path, channel="B")
    with pytest.raises(AmbiguousImageError, match="2 channels"):
        read(path, page=3)
    assert np.array_equal(read(path, page=3, channel="B").pixels, planes[1, 1, 1])


def test_one_channel_by_its_name(tmp_path: Path) -> None:
    path = tmp_path / "a.ome.tif"
    tifffile.imwrite(path, G8, metadata={"axes": "YX", "Channel": {"Name": "TEM"}})
    assert np.array_equal(read(path, channel="TEM", page=0).pixels, G8)
    with pytest.raises(SettingsError, match="no such channel"):
        read(path, channel="SEM")


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_one_colour_alone(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(RGB8).save(tmp_path / f"a{suffix}")
    for chosen in (1, "green"):
        image = read(tmp_path / f"a{suffix}", channel=chosen)
        assert np.array_equal(image.pixels, RGB8[..., 1])
        assert "channel 1 (green) taken alone" in image.notes
    with pytest.raises(SettingsError, match="no such channel"):
        read(tmp_path / f"a{suffix}", channel=3)


def test_page_of_a_png(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", png_bytes(G8, 0))
    assert read(path, page=0, channel=0).shape == G8.shape
    with pytest.raises(SettingsError, match="one page"):
        read(path, page=1)


def test_pyramids_are_one_image(tmp_path: Path) -> None:
    big = np.kron(G8, np.ones((8, 8), np.uint8))
    with tifffile.TiffWriter(tmp_path / "sub.ome.tif") as writer:
        writer.write(big, subifds=2, tile=(64, 64), metadata={"axes": "YX"})
        for step in (2, 4):
            writer.write(big[::step, ::step], subfiletype=1, tile=(64, 64))
    with tifffile.TiffWriter(tmp_path / "flat.tif") as writer:
        for step in (1, 2, 4):
            writer.write(
                big[::step, ::step], subfiletype=int(step > 1), tile=(64, 64), metadata=None
            )
    for name in ("sub.ome.tif", "flat.tif"):
        assert np.array_equal(read(tmp_path / name).pixels, big)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38])
@pytest.mark.parametrize("colour", [False, True])
def test_non_finite_pixels_are_counted(tmp_path: Path, value: float, colour: bool) -> None:
    pixels = np.zeros((9, 9, 3) if colour else (9, 9), np.float32)
    pixels[2, 3:6] = value
    tifffile.imwrite(tmp_path / "a.tif", pixels, photometric="rgb" if colour else "minisblack")
    with pytest.raises(CorruptImageError, match="3 of 81 pixels"):
        read(tmp_path / "a.tif")


def test_values_that_would_change_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", G16.astype(np.uint32) * 65537)
    with pytest.raises(UnsupportedFormatError, match="do not fit"):
        read(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", np.full((4, 4), 1e300))
    with pytest.raises(CorruptImageError, match="16 of 16"):
        read(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", G8.astype(np.complex64))
    with pytest.raises(UnsupportedFormatError, match="complex64"):
        read(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", G8.astype(np.float32), photometric="miniswhite")
    with pytest.raises(UnsupportedFormatError, match="white as zero"):
        read(tmp_path / "a.tif")


def test_limits(tmp_path: Path) -> None:
    Image.fromarray(G8).save(tmp_path / "a.jpg")
    Image.fromarray(G8).save(tmp_path / "a.png")
    Image.fromarray(G8).save(tmp_path / "a.tif")
    for name in ("a.jpg", "a.png", "a.tif"):
        with pytest.raises(
            ImageTooLargeError, match=r"1,999 pixels.*40 x 50 = 2,000.*--max-pixels"
        ):
            read(tmp_path / name, limits=Limits(max_pixels=1999))
        with pytest.raises(ImageTooLargeError, match="limit of 10 bytes"):
            read(tmp_path / name, limits=Limits(max_bytes=10))
        assert read(tmp_path / name, limits=Limits(max_pixels=2000)).shape == (40, 50)
    with pytest.raises(SettingsError):
        Limits(max_pixels=0)


def test_is_image(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.png", "c.tif"):
        Image.fromarray(G8).save(tmp_path / name)
    tifffile.imwrite(tmp_path / "d.dat", G8, bigtiff=True)
    (tmp_path / "e.png").write_text("not a picture")
    (tmp_path / "f.png").touch()
    (tmp_path / "g.png").mkdir()
    assert [is_image(tmp_path / name) for name in ("a.jpg", "b.png", "c.tif", "d.dat")] == [
        True
    ] * 4
    assert not any(is_image(tmp_path / name) for name in ("e.png", "f.png", "g.png", "h.png", "\0"))


def test_from_array() -> None:
    image = from_array(G8, pixel_size=0.1)
    assert image.path is None
    assert image.pixel_size is not None
    assert (image.pixel_size.um, image.pixel_size.source) == (0.1, "option")
    assert image.sha256 == from_array(G8.copy(order="F")).sha256
    assert len({from_array(a).sha256 for a in (G8, G8.T, G8.astype(np.uint16), G8 + 1)}) == 4
    source = G8.copy()
    kept = from_array(source)
    source[:] = 0
    assert np.array_equal(kept.pixels, G8)
    big_endian = from_array(G16.astype(">u2"))
    assert big_endian.pixels.dtype.isnative
    assert big_endian.sha256 == from_array(G16).sha256
    assert from_array([[True, False]]).pixels.tolist() == [[255, 0]]


@pytest.mark.parametrize(
    ("pixels", "error"),
    [
        (np.zeros(5), UnsupportedFormatError),
        (np.zeros((4, 4, 5)), UnsupportedFormatError),
        (np.zeros((0, 4)), CorruptImageError),
        (np.full((4, 4), np.nan), CorruptImageError),
        (np.array([["a"]]), UnsupportedFormatError),
    ],
)
def test_from_array_refuses(pixels: np.ndarray, error: type[Exception]) -> None:
    with pytest.raises(error):
        from_array(pixels)


def test_from_array_refuses_an_absurd_pixel_size() -> None:
    with pytest.raises(PixelSizeError):
        from_array(G8, pixel_size=-1)


def test_paths_that_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "empty.png").touch()
    for path, words in (
        (tmp_path, "folder"),
        (tmp_path / "missing.png", "no such file"),
        (tmp_path / "pipe.png", "regular"),
        (tmp_path / "empty.png", "empty"),
    ):
        with pytest.raises(ReadError, match=words):
            read(path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", png_bytes(G8, 0))
    path.chmod(0)
    with pytest.raises(ReadError, match="may not be read"):
        read(path)
