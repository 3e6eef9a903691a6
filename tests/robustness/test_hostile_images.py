"""Files that are broken, lying or strange end in one clear error or in the right pixels."""

from __future__ import annotations

import logging
import re
import struct
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ranvier.errors import (
    AmbiguousImageError,
    CorruptImageError,
    ImageTooLargeError,
    InputError,
    ReadError,
    UnsupportedFormatError,
)
from ranvier.reading import read

RNG = np.random.default_rng(3)
NOISE = RNG.integers(0, 256, (64, 64), dtype=np.uint8)


@pytest.fixture(autouse=True)
def nothing_leaks(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Fail a test that logs, or that leaves tifffile's logger changed."""
    filters = list(logging.getLogger("tifffile").filters)
    yield
    assert logging.getLogger("tifffile").filters == filters
    assert not caplog.records


def saved(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(header: bytes, *chunks: bytes) -> bytes:
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(chunks)


def classic_tiff(
    tags: dict[int, tuple[int, int, int]], *, next_at: int = 0, data: bytes = b""
) -> bytes:
    """A little-endian TIFF: tag to (type, count, value); the data follow the directory."""
    entries = b"".join(struct.pack("<HHII", tag, *tags[tag]) for tag in sorted(tags))
    return (
        b"II*\0\x08\0\0\0"
        + struct.pack("<H", len(tags))
        + entries
        + struct.pack("<I", next_at)
        + data
    )


def grey_tags(rows: int, columns: int, offset: int, count: int) -> dict[int, tuple[int, int, int]]:
    return {
        256: (4, 1, columns),
        257: (4, 1, rows),
        258: (3, 1, 8),
        259: (3, 1, 1),
        262: (3, 1, 1),
        273: (4, 1, offset),
        277: (3, 1, 1),
        278: (4, 1, rows),
        279: (4, 1, count),
    }


DATA_AT = 8 + 2 + 9 * 12 + 4

ENCODERS = {
    "png": lambda p: Image.fromarray(NOISE).save(p, format="PNG"),
    "jpeg": lambda p: Image.fromarray(NOISE).save(p, format="JPEG"),
    "progressive jpeg": lambda p: Image.fromarray(NOISE).save(p, format="JPEG", progressive=True),
    "tiff": lambda p: tifffile.imwrite(p, NOISE),
    "tiff strips": lambda p: tifffile.imwrite(p, NOISE, compression="zlib", rowsperstrip=8),
    "tiff tiles": lambda p: tifffile.imwrite(p, NOISE, compression="lzw", tile=(16, 16)),
    "tiff jpeg": lambda p: tifffile.imwrite(p, NOISE, compression="jpeg", tile=(16, 16)),
    "bigtiff": lambda p: tifffile.imwrite(p, NOISE, bigtiff=True),
    "imagej": lambda p: tifffile.imwrite(p, NOISE, imagej=True),
    "ome": lambda p: tifffile.imwrite(p, NOISE, ome=True, metadata={"axes": "YX"}),
}


@pytest.mark.parametrize("kind", ENCODERS)
def test_truncated_anywhere(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a"
    ENCODERS[kind](path)
    whole = path.read_bytes()
    reference = read(path).pixels
    step = max(1, len(whole) // 97)
    for length in [*range(9, len(whole) - 1, step), len(whole) - 1]:
        path.write_bytes(whole[:length])
        try:
            pixels = read(path).pixels
        except CorruptImageError as error:
            assert "\n" not in str(error)
            assert str(path) in str(error)
        else:
            # Only what follows the picture may be missing: padding, or a description's last byte.
            assert np.array_equal(pixels, reference)
            assert length > len(whole) - 3


def test_truncated_tails_are_named(tmp_path: Path) -> None:
    for kind in ("png", "jpeg", "tiff"):
        ENCODERS[kind](tmp_path / "a")
        whole = (tmp_path / "a").read_bytes()
        with pytest.raises(CorruptImageError, match="truncated"):
            read(saved(tmp_path / "a", whole[: len(whole) // 2]))


def test_bomb_headers_are_refused_before_decoding(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 200_000, 200_000, 8, 0, 0, 0, 0)
    bomb = png(header, chunk(b"IDAT", zlib.compress(bytes(1000))), chunk(b"IEND", b""))
    jpeg = bytearray(imagecodecs.jpeg8_encode(NOISE))
    frame = jpeg.index(b"\xff\xc0")
    jpeg[frame + 5 : frame + 9] = struct.pack(">HH", 65000, 65000)
    tiff = classic_tiff(grey_tags(200_000, 200_000, DATA_AT, 100), data=bytes(100))
    tracemalloc.start()
    for content in (bomb, bytes(jpeg), tiff):
        with pytest.raises(ImageTooLargeError, match=r"limit of 400,000,000 pixels.*--max-pixels"):
            read(saved(tmp_path / "bomb", content))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_bomb_below_the_limit_costs_no_memory(tmp_path: Path) -> None:
    """A TIFF that claims 361 million pixels and holds 100 bytes."""
    tiff = classic_tiff(grey_tags(19_000, 19_000, DATA_AT, 100), data=bytes(100))
    tracemalloc.start()
    with pytest.raises(CorruptImageError, match="too few bytes"):
        read(saved(tmp_path / "a.tif", tiff))
    assert tracemalloc.get_traced_memory()[1] < 20e6
    tracemalloc.stop()


def test_big_but_allowed_png_neither_warns_nor_fails(tmp_path: Path) -> None:
    """Above the 89 million pixels from which some decoders warn; a 1-bit image keeps it quick."""
    rows, columns = 10_000, 9_000
    header = struct.pack(">IIBBBBB", columns, rows, 1, 0, 0, 0, 0)
    lines = zlib.compress(bytes((1 + columns // 8) * rows), 1)
    path = saved(tmp_path / "a.png", png(header, chunk(b"IDAT", lines), chunk(b"IEND", b"")))
    assert read(path).shape == (rows, columns)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (40, 40), (30_000, 200)])
@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
def test_odd_sizes(tmp_path: Path, rows: int, columns: int, suffix: str) -> None:
    pixels = np.resize(NOISE, (rows, columns))
    Image.fromarray(pixels).save(tmp_path / f"a{suffix}")
    image = read(tmp_path / f"a{suffix}")
    assert image.shape == (rows, columns)
    assert suffix == ".jpg" or np.array_equal(image.pixels, pixels)


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"Subject,g-ratio\n1,0.7\n", "text that begins 'Subject,g-ratio"),
        (b"GIF89a" + bytes(20), "a GIF image"),
        (b"BM" + bytes(20), "a BMP image"),
        (b"%PDF-1.7\n", "a PDF document"),
        (b"\x89HDF\r\n\x1a\n", "an HDF5 file"),
        (bytes(128) + b"DICM", "a DICOM file"),
        (b"ZISRAWFILE", "a Zeiss CZI file"),
        (b"\x01\x02\xfe", "01 02 fe"),
        (b"\xff\xd8", "unknown bytes"),
    ],
)
def test_other_files_named_png(tmp_path: Path, head: bytes, words: str) -> None:
    with pytest.raises(UnsupportedFormatError, match=re.escape(words)):
        read(saved(tmp_path / "a.png", head))


def test_other_colour_spaces(tmp_path: Path) -> None:
    picture = Image.merge("CMYK", [Image.fromarray(NOISE)] * 4)
    picture.save(tmp_path / "a.jpg")
    picture.save(tmp_path / "a.tif")
    Image.merge("LAB", [Image.fromarray(NOISE)] * 3).save(tmp_path / "b.tif")
    for name in ("a.jpg", "a.tif", "b.tif"):
        with pytest.raises(UnsupportedFormatError, match=r"neither grey nor RGB.*Convert it"):
            read(tmp_path / name)


def test_two_pages_and_float_channels_are_not_guessed(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.stack([NOISE, NOISE]), photometric="minisblack")
    with pytest.raises(AmbiguousImageError, match="2 pages"):
        read(tmp_path / "a.tif")
    channels = np.stack([NOISE] * 3).astype(np.float32)
    tifffile.imwrite(tmp_path / "b.tif", channels, imagej=True, metadata={"axes": "CYX"})
    with pytest.raises(AmbiguousImageError, match="3 channels"):
        read(tmp_path / "b.tif")


@pytest.mark.parametrize(
    "header",
    [
        struct.pack(">IIBBBBB", 0, 5, 8, 0, 0, 0, 0),
        struct.pack(">IIBBBBB", 5, 0, 8, 0, 0, 0, 0),
        struct.pack(">IIBBBBB", 5, 5, 7, 0, 0, 0, 0),
        struct.pack(">IIBBBBB", 5, 5, 8, 1, 0, 0, 0),
        struct.pack(">IIBBBBB", 5, 5, 8, 0, 9, 0, 0),
        struct.pack(">IIBBBBB", 5, 5, 8, 0, 0, 0, 9),
    ],
)
def test_impossible_png_headers(tmp_path: Path, header: bytes) -> None:
    data = png(header, chunk(b"IDAT", zlib.compress(bytes(30))), chunk(b"IEND", b""))
    with pytest.raises(CorruptImageError):
        read(saved(tmp_path / "a.png", data))


def test_png_with_too_few_rows(tmp_path: Path) -> None:
    header = struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)
    data = png(header, chunk(b"IDAT", zlib.compress(bytes(10))), chunk(b"IEND", b""))
    with pytest.raises(CorruptImageError, match="cannot be decoded"):
        read(saved(tmp_path / "a.png", data))


def test_png_with_a_flipped_bit(tmp_path: Path) -> None:
    Image.fromarray(NOISE).save(tmp_path / "a.png")
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[len(data) // 2] ^= 1
    with pytest.raises(CorruptImageError, match="checksum"):
        read(saved(tmp_path / "a.png", bytes(data)))


def test_circular_directories(tmp_path: Path) -> None:
    tags = grey_tags(8, 8, DATA_AT, 64)
    with pytest.raises(CorruptImageError, match="circle"):
        read(saved(tmp_path / "a.tif", classic_tiff(tags, next_at=8, data=bytes(64))))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({273: (4, 1, 10**9)}, "truncated or its header lies"),
        ({279: (4, 1, 10**9)}, "truncated or its header lies"),
        ({279: (4, 1, 10)}, "too few bytes"),
        ({256: (4, 1, 0)}, "empty image"),
        ({257: (4, 1, 0)}, "empty image"),
        ({273: (4, 1, 0)}, "empty"),
        ({259: (3, 1, 8)}, "cannot be decoded"),
        ({259: (3, 1, 5)}, "cannot be decoded"),
        ({259: (3, 1, 999)}, "cannot be decoded"),
        ({258: (3, 1, 77)}, "."),
        ({277: (3, 1, 60000)}, "."),
        ({277: (3, 1, 0)}, "."),
    ],
)
def test_lying_tiff_tags(
    tmp_path: Path, change: dict[int, tuple[int, int, int]], words: str
) -> None:
    tags = grey_tags(8, 8, DATA_AT, 64) | change
    with pytest.raises(ReadError, match=words):
        read(saved(tmp_path / "a.tif", classic_tiff(tags, data=bytes(range(64)))))


def test_tile_bomb(tmp_path: Path) -> None:
    tags = grey_tags(8, 8, 0, 0)
    for tag in (273, 278, 279):
        del tags[tag]
    tags |= {322: (4, 1, 65536), 323: (4, 1, 65536), 259: (3, 1, 8)}
    tags |= {324: (4, 1, 200), 325: (4, 1, 20)}
    with pytest.raises(CorruptImageError, match="tiles are far larger"):
        read(saved(tmp_path / "a.tif", classic_tiff(tags, data=bytes(200))))


def test_missing_tiles(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, NOISE, tile=(16, 16), compression="zlib")
    with tifffile.TiffFile(path) as tiff:
        tag = tiff.pages[0].tags[325]
        offset, count = tag.valueoffset, tag.count
        width = {3: 2, 4: 4}[int(tag.dtype)]
    data = bytearray(path.read_bytes())
    data[offset : offset + width] = bytes(width)
    with pytest.raises(CorruptImageError, match=f"1 of {count}"):
        read(saved(path, bytes(data)))


def ome_tiff(path: Path, pixels: str) -> Path:
    xml = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">'
        f'<Image ID="Image:0">{pixels}</Image></OME>'
    )
    tifffile.imwrite(path, NOISE, description=xml, metadata=None)
    return path


def test_ome_that_counts_more_planes_than_bytes(tmp_path: Path) -> None:
    pixels = (
        '<Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="64" SizeY="64" SizeZ="1" SizeC="1" '
        'SizeT="{t}"><TiffData {d}/></Pixels>'
    )
    for t, d in ((4_000_000_000, ""), (1, 'IFD="0" PlaneCount="4000000000"')):
        with pytest.raises(CorruptImageError, match="more planes"):
            read(ome_tiff(tmp_path / "a.ome.tif", pixels.format(t=t, d=d)))


def test_ome_with_entities_or_broken_xml(tmp_path: Path) -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><OME xmlns="x">&a;</OME>'
    tifffile.imwrite(tmp_path / "a.tif", NOISE, description=bomb, metadata=None)
    with pytest.raises(CorruptImageError, match="entities"):
        read(tmp_path / "a.tif")
    with pytest.raises(CorruptImageError, match="malformed"):
        read(ome_tiff(tmp_path / "b.tif", "<Pixels>"))


def test_companion_files_are_not_opened(tmp_path: Path) -> None:
    """A plane that lives in another file is refused, though the other file is there."""
    tifffile.imwrite(tmp_path / "other.ome.tif", NOISE + 1, metadata=None)
    pixels = (
        '<Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="64" SizeY="64" SizeZ="1" '
        'SizeC="1" SizeT="2"><TiffData IFD="0" FirstT="0" PlaneCount="1">'
        '<UUID FileName="a.ome.tif">urn:uuid:1</UUID></TiffData>'
        '<TiffData IFD="0" FirstT="1" PlaneCount="1">'
        '<UUID FileName="other.ome.tif">urn:uuid:2</UUID></TiffData></Pixels>'
    )
    path = ome_tiff(tmp_path / "a.ome.tif", pixels)
    assert np.array_equal(read(path, page=0).pixels, NOISE)
    with pytest.raises(CorruptImageError, match="another file"):
        read(path, page=1)


@pytest.mark.parametrize("kind", ["png", "jpeg", "tiff tiles", "tiff strips", "ome", "imagej"])
@settings(
    max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=6))
def test_any_damage_ends_in_an_input_error_or_an_image(
    tmp_path: Path, kind: str, flips: list[tuple[float, int]]
) -> None:
    path = tmp_path / "a"
    ENCODERS[kind](path)
    data = bytearray(path.read_bytes())
    for place, value in flips:
        # Most of the damage goes to the first bytes, where the headers are.
        data[int(place**3 * len(data))] = value
    try:
        image = read(saved(path, bytes(data)))
    except InputError:
        return
    assert image.pixels.ndim == 2
    assert image.pixels.dtype in (np.uint8, np.uint16, np.float32)
