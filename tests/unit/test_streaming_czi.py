"""Zeiss CZI files, read subblock by subblock. The files are written here, segment by segment."""

from __future__ import annotations

import struct
import tracemalloc

import imagecodecs
import numpy as np
import pytest

from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.errors import (
    AmbiguousImageError,
    CorruptImageError,
    ReadError,
    SettingsError,
    UnsupportedFormatError,
)
from ranvier.streaming.opening import kind_of, open_source
from ranvier.streaming.sources import Pick
from ranvier.tiling import Box

BOX = Box(11, 7, 90, 131)
KINDS = {
    ("uint8", 1): 0,
    ("uint16", 1): 1,
    ("float32", 1): 2,
    ("uint8", 3): 3,
    ("uint16", 3): 4,
    ("float32", 3): 8,
    ("uint8", 4): 9,
    ("int32", 1): 12,
}
RAW, JPEG, LZW, JPEG_XR, ZSTD, ZSTD_HEADER = 0, 1, 2, 4, 5, 6


def segment(name, data):
    """A segment of the container, a multiple of 32 bytes."""
    room = -(-len(data) // 32) * 32
    return struct.pack("<16sqq", name, room, len(data)) + data.ljust(room, b"\0")


def entry(kind, compression, position, axes, *, part=0):
    """An entry of the directory; axes are (letter, start, size, stored)."""
    head = struct.pack("<2siqii", b"DV", kind, position, part, compression) + bytes(6)
    dims = [struct.pack("<4siifi", a.encode(), s, n, 0.0, stored) for a, s, n, stored in axes]
    return head + struct.pack("<i", len(axes)) + b"".join(dims)


def packed(pixels, compression, *, hilo=True):
    """Pixels, red first, as a subblock stores them."""
    stored = pixels if pixels.ndim == 2 else pixels[..., [2, 1, 0, *range(3, pixels.shape[2])]]
    plain = np.ascontiguousarray(stored).tobytes()
    if compression == JPEG:
        return imagecodecs.jpeg8_encode(np.ascontiguousarray(pixels), level=95)
    if compression == JPEG_XR:
        return imagecodecs.jpegxr_encode(np.ascontiguousarray(pixels), level=1.0)
    if compression == LZW:
        return imagecodecs.lzw_encode(plain)
    if compression == ZSTD:
        return imagecodecs.zstd_encode(plain)
    if compression == ZSTD_HEADER:
        if not hilo or pixels.dtype.itemsize != 2:
            return b"\1" + imagecodecs.zstd_encode(plain)
        return bytes((3, 1, 1)) + imagecodecs.zstd_encode(plain[0::2] + plain[1::2])
    return plain


def write_czi(path, blocks, *, um=0.25, names=(), xml=None, directory=True, part=0):
    """A CZI of subblocks (pixels, {letter: start}, options): ``factor``, ``compression``, ``size``, ``data``."""
    header = 32 + 512
    body, listed = b"", b""
    for pixels, at, *more in blocks:
        options = more[0] if more else {}
        factor, compression = options.get("factor", 1), options.get("compression", RAW)
        samples = 1 if pixels.ndim == 2 else pixels.shape[2]
        kind = options.get("kind", KINDS.get((pixels.dtype.name, samples)))
        rows, columns = options.get("stored", pixels.shape[:2])
        size = options.get("size", (rows * factor, columns * factor))
        axes = [
            ("X", at.get("X", 0), size[1], columns),
            ("Y", at.get("Y", 0), size[0], rows),
            *((letter, start, 1, 1) for letter, start in at.items() if letter not in "XY"),
        ]
        data = options.get("data", packed(pixels, compression, hilo=options.get("hilo", True)))
        known = entry(kind, compression, header + len(body), axes, part=part)
        about = b"<METADATA/>"
        start = struct.pack("<iiq", len(about), 0, len(data)) + known
        body += segment(b"ZISRAWSUBBLOCK", start.ljust(max(256, len(start)), b"\0") + about + data)
        listed += known
    if xml is None:
        scale = "".join(
            f'<Distance Id="{axis}"><Value>{um * 1e-6}</Value></Distance>'
            for axis in "XY"
            if um is not None
        )
        channels = "".join(f'<Channel Id="Channel:{i}" Name="{n}"/>' for i, n in enumerate(names))
        xml = (
            "<ImageDocument><Metadata><Information><Image><Dimensions><Channels>"
            f"{channels}</Channels></Dimensions></Image></Information>"
            f"<Scaling><Items>{scale}</Items></Scaling></Metadata></ImageDocument>"
        )
    about = segment(
        b"ZISRAWMETADATA", struct.pack("<ii", len(xml.encode()), 0) + bytes(248) + xml.encode()
    )
    found = segment(b"ZISRAWDIRECTORY", struct.pack("<i", len(blocks)) + bytes(124) + listed)
    places = (header + len(body) + len(about) if directory else 0, header + len(body))
    first = struct.pack("<iiii", 1, 0, 0, 0) + bytes(32) + struct.pack("<iqqiq", 0, *places, 0, 0)
    path.write_bytes(segment(b"ZISRAWFILE", first.ljust(512, b"\0")) + body + about + found)
    return path


def mosaic(pixels, edge, **options):
    """Subblocks that tile an image, numbered along M."""
    return [
        (
            pixels[top : top + edge, left : left + edge],
            {"X": left, "Y": top, "M": index},
            dict(options),
        )
        for index, (top, left) in enumerate(
            (top, left)
            for top in range(0, pixels.shape[0], edge)
            for left in range(0, pixels.shape[1], edge)
        )
    ]


@pytest.fixture(scope="module")
def drawn():
    return draw(PhantomSettings(shape=(140, 160), look="BF", seed=2)).image.pixels


def opened(path, box=None, **pick):
    source = open_source(path, Pick(**pick))
    try:
        return source.read(box or Box(0, 0, *source.shape)), source.pixel_size, source.notes
    finally:
        source.close()


@pytest.mark.parametrize("compression", [RAW, LZW, JPEG_XR, ZSTD, ZSTD_HEADER])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_windows_of_a_mosaic(tmp_path, drawn, compression, dtype):
    """Every depth and every compression without loss gives the pixels that were written."""
    if dtype == "float32" and compression == JPEG_XR:
        pytest.skip("no writer stores floats so")
    pixels = drawn.astype(dtype) * (257 if dtype == "uint16" else 1)
    path = write_czi(tmp_path / "x.czi", mosaic(pixels, 48, compression=compression))
    assert kind_of(path) == "czi"
    for box in (BOX, Box(0, 0, 1, 1), Box(47, 47, 97, 97), Box(139, 159, 140, 160)):
        part, size, _ = opened(path, box)
        assert np.array_equal(part, pixels[box.top : box.bottom, box.left : box.right])
        assert part.dtype == pixels.dtype
    assert (size.um, size.source) == (0.25, "slide")
    assert np.array_equal(opened(path)[0], pixels)


@pytest.mark.parametrize("compression", [RAW, LZW, JPEG_XR, ZSTD, ZSTD_HEADER])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_colours_are_stored_blue_first(tmp_path, drawn, compression, dtype):
    colour = np.stack([drawn, drawn // 2, drawn // 3], axis=2).astype(dtype)
    path = write_czi(tmp_path / "x.czi", mosaic(colour, 70, compression=compression))
    for channel in range(3):
        assert np.array_equal(opened(path, channel=channel)[0], colour[..., channel])
    luma = (colour.astype(int) @ np.array([299, 587, 114]) + 500) // 1000
    pixels, _, notes = opened(path, BOX)
    assert np.array_equal(pixels, luma[11:90, 7:131])
    assert "RGB converted to grey (BT.601 luma)" in notes


def test_jpeg_floats_alpha_and_integers(tmp_path, drawn):
    colour = np.stack([drawn, drawn // 2, drawn // 3], axis=2)
    path = write_czi(tmp_path / "j.czi", mosaic(colour, 140, compression=JPEG))
    red, blue = opened(path, channel="red")[0], opened(path, channel="blue")[0]
    assert abs(red.astype(int) - colour[..., 0]).mean() < 8
    assert abs(blue.astype(int) - colour[..., 2]).mean() < 8
    path = write_czi(tmp_path / "g.czi", mosaic(drawn, 140, compression=JPEG))
    assert abs(opened(path)[0].astype(int) - drawn).mean() < 3
    alpha = np.dstack([colour, np.full_like(drawn, 9)])
    path = write_czi(tmp_path / "a.czi", mosaic(alpha, 64))
    assert np.array_equal(opened(path, channel="green")[0], colour[..., 1])
    path = write_czi(tmp_path / "f.czi", mosaic(colour.astype(np.float32), 64, compression=ZSTD))
    assert np.array_equal(opened(path, channel=2)[0], colour[..., 2].astype(np.float32))
    path = write_czi(tmp_path / "i.czi", mosaic(drawn.astype(np.int32) * 1000, 64))
    assert np.array_equal(opened(path)[0], drawn.astype(np.float32) * 1000)


def test_a_header_of_zstd_without_halves(tmp_path, drawn):
    pixels = drawn.astype(np.uint16) * 200
    blocks = mosaic(pixels, 64, compression=ZSTD_HEADER, hilo=False)
    assert np.array_equal(opened(write_czi(tmp_path / "x.czi", blocks))[0], pixels)
    blocks[0][2]["data"] = b"\3\2\0" + imagecodecs.zstd_encode(bytes(64 * 64 * 2))
    with pytest.raises(UnsupportedFormatError, match="kind of zstd"):
        opened(write_czi(tmp_path / "y.czi", blocks))


def test_a_compressed_subblock_that_is_as_long_as_its_pixels(tmp_path, drawn):
    """Its length does not make it an uncompressed one."""
    pixels = drawn[48:96, 48:96]
    assert len(packed(pixels, LZW)) == pixels.size
    blocks = [(pixels, {"X": 0, "Y": 0}, {"compression": LZW})]
    assert np.array_equal(opened(write_czi(tmp_path / "x.czi", blocks))[0], pixels)


def test_what_is_stored_plain_though_compression_is_stated(tmp_path, drawn):
    blocks = mosaic(drawn, 70, compression=ZSTD)
    for index, (pixels, _, options) in enumerate(blocks):
        options["compression"] = (JPEG, LZW, JPEG_XR, ZSTD, ZSTD_HEADER)[index % 5]
        options["data"] = packed(pixels, RAW)
    assert np.array_equal(opened(write_czi(tmp_path / "x.czi", blocks))[0], drawn)


def test_the_higher_index_of_the_mosaic_lies_on_top(tmp_path):
    low, high = np.full((40, 40), 10, np.uint8), np.full((40, 40), 20, np.uint8)
    first = [(high, {"X": -10, "Y": 5, "M": 1}), (low, {"X": 10, "Y": -15, "M": 0})]
    expected = np.zeros((60, 60), np.uint8)
    expected[:40, 20:] = 10
    expected[20:, :40] = 20
    for blocks in (first, first[::-1]):
        assert np.array_equal(opened(write_czi(tmp_path / "x.czi", blocks))[0], expected)


def test_what_was_not_scanned_is_white_in_colour_and_black_in_grey(tmp_path):
    for samples, behind in ((3, 65535), (1, 0)):
        pixels = np.full((20, 20, samples)[: 2 + (samples > 1)], 7, np.uint16)
        blocks = [(pixels, {"X": 0, "Y": 0}), (pixels, {"X": 40, "Y": 0})]
        found = opened(write_czi(tmp_path / "x.czi", blocks))[0]
        assert found.shape == (20, 60)
        assert (found[:, 20:40] == behind).all()
        assert (found[:, :20] == 7).all()


def pyramid(pixels, *, step=2, deep=3, edge=64, **at):
    """Subblocks of a pyramid; lower levels have no index of a mosaic, as in files from ZEN."""
    blocks = [(p, {**at, **place}, o) for p, place, o in mosaic(pixels, edge)]
    top, left = at.get("Y", 0), at.get("X", 0)
    blocks = [
        (p, {**place, "X": place["X"] + left, "Y": place["Y"] + top}, o) for p, place, o in blocks
    ]
    for level in range(1, deep):
        factor = step**level
        small = pixels[::factor, ::factor]
        for part, place, _ in mosaic(small, edge):
            corner = {"X": place["X"] * factor + left, "Y": place["Y"] * factor + top}
            size = (
                min(part.shape[0] * factor, pixels.shape[0] - place["Y"] * factor),
                min(part.shape[1] * factor, pixels.shape[1] - place["X"] * factor),
            )
            others = {k: v for k, v in at.items() if k not in "XY"}
            blocks.append((part, {**others, **corner}, {"size": size, "compression": ZSTD}))
    return blocks


@pytest.mark.parametrize("step", [2, 3])
def test_levels_of_a_pyramid(tmp_path, drawn, step):
    path = write_czi(tmp_path / "x.czi", pyramid(drawn, step=step, X=1000, Y=-77))
    for level in range(3):
        pixels, size, notes = opened(path, level=level)
        assert np.array_equal(pixels, drawn[:: step**level, :: step**level])
        assert size.um == pytest.approx(0.25 * step**level)
    assert f"level 2 read, {step**2} times smaller" in notes
    assert opened(path, level=1, pixel_size=0.3)[1].um == pytest.approx(0.3 * step)
    with pytest.raises(SettingsError, match=r"no such level.*level 3 of 3"):
        open_source(path, Pick(level=3))


def test_tiles_of_a_pyramid_that_store_less_than_they_state(tmp_path):
    pixels = np.arange(64 * 66, dtype=np.uint16).reshape(64, 66) % 251
    small = pixels[::2, ::2]
    for compression in (RAW, ZSTD, JPEG_XR):
        options = {"size": (64, 67), "stored": (32, 34), "compression": compression}
        blocks = [(pixels, {"X": 0, "Y": 0, "M": 0}), (small, {"X": 0, "Y": 0}, options)]
        if compression == RAW:
            with pytest.raises(CorruptImageError, match="too short"):
                opened(write_czi(tmp_path / "x.czi", blocks), level=1)
            continue
        found = opened(write_czi(tmp_path / "x.czi", blocks), level=1)[0]
        assert np.array_equal(found[:, :33], small)
        assert np.array_equal(found[:, 33], small[:, -1])


def test_scenes_in_one_image_or_one_by_one(tmp_path, drawn):
    second = 255 - drawn[:100]
    blocks = pyramid(drawn, X=0, Y=0, S=0) + pyramid(second, X=300, Y=41, S=1, deep=2)
    path = write_czi(tmp_path / "x.czi", blocks)
    pixels, _, notes = opened(path)
    expected = np.zeros((141, 460), np.uint8)
    expected[:140, :160], expected[41:, 300:] = drawn, second
    assert np.array_equal(pixels, expected)
    assert "2 scenes in one image; --page reads one alone" in notes
    assert np.array_equal(opened(path, page=1)[0], second)
    assert np.array_equal(opened(path, page=0, level=2)[0], drawn[::4, ::4])
    assert opened(path, level=1)[0].shape == (70, 230)
    with pytest.raises(SettingsError, match="level 2 of 2"):  # the second scene lacks it
        open_source(path, Pick(level=2))
    with pytest.raises(SettingsError, match="no such page"):
        open_source(path, Pick(page=2))


def test_scenes_that_overlap_are_never_mixed(tmp_path, drawn):
    blocks = [(drawn, {"X": 0, "Y": 0, "S": 0}), (255 - drawn, {"X": 20, "Y": 0, "S": 1})]
    path = write_czi(tmp_path / "x.czi", blocks)
    with pytest.raises(AmbiguousImageError, match="2 pages"):
        open_source(path)
    assert np.array_equal(opened(path, page=1)[0], 255 - drawn)


def test_planes_and_channels_are_chosen(tmp_path):
    stack = np.random.default_rng(0).integers(0, 2**16, (2, 3, 2, 30, 40)).astype(np.uint16)
    blocks = [
        (stack[t, z, c], {"X": 0, "Y": 0, "C": c, "T": t, "Z": z})
        for z in range(3)
        for c in range(2)
        for t in range(2)
    ]
    path = write_czi(tmp_path / "x.czi", blocks, names=("DAPI", "FluoroMyelin"))
    with pytest.raises(AmbiguousImageError, match="6 pages"):
        open_source(path)
    with pytest.raises(AmbiguousImageError, match="FluoroMyelin"):
        open_source(path, Pick(page=4))
    pixels, _, notes = opened(path, page=4, channel="FluoroMyelin")
    assert np.array_equal(pixels, stack[1, 1, 1])
    assert "channel 1 (FluoroMyelin) read" in notes
    assert np.array_equal(opened(path, page=2, channel=0)[0], stack[0, 2, 0])
    for wrong in (Pick(page=6, channel=0), Pick(page=0, channel=2), Pick(page=0, channel="GFP")):
        with pytest.raises(SettingsError, match="no such"):
            open_source(path, wrong)


def test_pixel_sizes(tmp_path, drawn):
    path = write_czi(tmp_path / "x.czi", mosaic(drawn, 64), um=None)
    assert opened(path)[1] is None
    assert opened(path, pixel_size=0.5)[1].source == "option"
    other = (
        "<ImageDocument><Metadata><Experiment><Scaling><Items><Distance Id='X'><Value>1e-7</Value>"
        "</Distance><Distance Id='Y'><Value>1e-7</Value></Distance></Items></Scaling></Experiment>"
        "</Metadata></ImageDocument>"
    )
    assert opened(write_czi(tmp_path / "y.czi", mosaic(drawn, 64), xml=other))[1] is None
    hostile = '<!DOCTYPE a [<!ENTITY b "c">]><ImageDocument/>'
    assert opened(write_czi(tmp_path / "z.czi", mosaic(drawn, 64), xml=hostile))[1] is None
    with pytest.raises(CorruptImageError, match="ParseError"):
        open_source(write_czi(tmp_path / "w.czi", mosaic(drawn, 64), xml="<a>"))


def test_what_is_not_read_says_so(tmp_path, drawn):
    def refused(error, match, blocks=None, **more):
        path = write_czi(tmp_path / "x.czi", blocks or mosaic(drawn, 70), **more)
        with pytest.raises(error, match=match):
            opened(path)

    refused(CorruptImageError, "no directory", directory=False)
    refused(UnsupportedFormatError, "other files", part=1)
    refused(UnsupportedFormatError, "compression 504", mosaic(drawn, 70, compression=504))
    refused(UnsupportedFormatError, "pixel type 10", mosaic(drawn, 70, kind=10))
    mixed = [*mosaic(drawn, 160), (drawn.astype(np.uint16), {"X": 200, "Y": 0, "M": 9})]
    refused(UnsupportedFormatError, "pixel type 0, 1", mixed)
    huge = [(drawn, {"X": 0, "Y": 0}, {"stored": (20000, 20000), "compression": ZSTD})]
    refused(UnsupportedFormatError, "pieces that are too large", huge)
    for compression in (JPEG, LZW, JPEG_XR, ZSTD, ZSTD_HEADER):
        options = {"compression": compression, "data": b"\1nothing of the kind"}
        refused(CorruptImageError, "decoded|number of pixels", [(drawn, {"X": 0}, options)])
    wrong = {"compression": JPEG_XR, "data": packed(drawn[:50], JPEG_XR)}
    refused(CorruptImageError, "another size", [(drawn, {"X": 0}, wrong)])
    absurd = [(drawn, {"X": 2**31 - 1, "Y": 0})]
    refused(CorruptImageError, "absurd", absurd)


def test_a_file_that_is_cut_or_damaged_at_any_place(tmp_path, drawn):
    """Every error is one of Ranvier's own, and no damage makes memory grow."""
    path = write_czi(tmp_path / "x.czi", mosaic(drawn, 70, compression=ZSTD))
    whole = path.read_bytes()
    rng = np.random.default_rng(3)
    tracemalloc.start()
    for number in range(90):
        if number % 3 == 0:
            data = bytearray(whole[: int(rng.integers(0, len(whole)))])
        else:
            data = bytearray(whole)
            near = [0, len(whole) - 1600, 544]
            at = near[number % 3] + int(rng.integers(0, 300))
            data[at : at + 4] = rng.integers(0, 256, 4).astype(np.uint8).tobytes()
        path.write_bytes(data)
        try:
            source = open_source(path)
        except (ReadError, SettingsError):
            continue
        try:
            source.read(Box(0, 0, *(min(n, 200) for n in source.shape)))
        except ReadError:
            pass
        finally:
            source.close()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 64 << 20


def test_memory_is_that_of_the_window_and_of_a_subblock(tmp_path):
    """One uncompressed subblock of 36 megapixels, and as many in compressed tiles."""
    pixels = np.zeros((6000, 6000), np.uint8)
    pixels[3000:3010, 4000:4010] = 77
    for name, blocks in (
        ("one", [(pixels, {"X": 0, "Y": 0})]),
        ("tiles", mosaic(pixels, 500, compression=ZSTD)),
    ):
        path = write_czi(tmp_path / f"{name}.czi", blocks)
        tracemalloc.start()
        found = opened(path, Box(2990, 3990, 3490, 4490))[0]
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (found[10:20, 10:20] == 77).all()
        assert found.sum() == 7700
        assert peak < 6 << 20
