"""Images that do not fit into memory: read in parts, segmented and written window by window."""

from __future__ import annotations

import csv
import filecmp
import hashlib
import json
import os
import subprocess
import sys
import tracemalloc
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile

from ranvier._owners import owned_name
from ranvier._raster import Limits
from ranvier.bundle import Field
from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.errors import (
    CorruptImageError,
    ImageTooLargeError,
    OutputExistsError,
    SettingsError,
    UnsupportedFormatError,
)
from ranvier.inference import InferenceSettings, Model, load_model, predict
from ranvier.jobs import Options
from ranvier.pipeline import segment_file
from ranvier.preprocess import statistics
from ranvier.reading import from_array, read
from ranvier.streaming import running, suiting, tiff_source
from ranvier.streaming.classes import BlankSettings, classify_streamed, is_blank
from ranvier.streaming.grey import streamed_statistics
from ranvier.streaming.opening import open_source
from ranvier.streaming.planes import Plane, cores, grown, strips
from ranvier.streaming.pyramids import write_pyramid
from ranvier.streaming.running import MASK, segment_any, segment_streamed
from ranvier.streaming.settings import StreamSettings
from ranvier.streaming.sheaths import Rounds
from ranvier.streaming.sources import ArraySource, Pick, content_sha256, part_of
from ranvier.streaming.sparse import Sparse
from ranvier.tiling import Box

FIELD = Field(stride=16, receptive_radius=30, minimum=32)
SMALL_TILES = InferenceSettings(
    min_closure=0.0, min_confidence=0.0, min_contrast=0.0, zoom=1.0, views=2, max_tile_px=170 * 170
)
EVERYTHING = StreamSettings(
    when="always",
    blank=BlankSettings(skip=False),
    rounds=Rounds(window=110, many=30),
    crop_px=90,
)
UM = {"PhysicalSizeX": 0.1, "PhysicalSizeY": 0.1}


class ThresholdBackend:
    """Bright is axon, dark is myelin, each pixel for itself."""

    description = {"runtime": "fake", "threads": "1"}  # noqa: RUF012

    def __init__(self):
        self.windows = 0

    def logits(self, tiles):
        self.windows += 1
        x = tiles[:, 0]
        return np.stack([np.full_like(x, 0.1), -x, x - 0.8], axis=1)


def fake_model(**more):
    bundle = SimpleNamespace(
        name="fake",
        sha256="0" * 64,
        patches=None,
        classical=None,
        field=FIELD,
        normalisation="image-standardisation",
        about={},
        folder="nowhere",
    )
    return Model(SimpleNamespace(**{**vars(bundle), **more}), ThresholdBackend())


@pytest.fixture(scope="module")
def drawn():
    return draw(PhantomSettings(shape=(300, 340), look="SEM", seed=5)).image.pixels


def write_ome(path, pixels, **more):
    tifffile.imwrite(
        path,
        pixels,
        **{
            "ome": True,
            "tile": (64, 64),
            "compression": "zlib",
            "metadata": {"axes": "YX", **UM},
            **more,
        },
    )
    return path


# Planes


def test_a_plane_keeps_what_is_written_in_any_boxes(tmp_path):
    rng = np.random.default_rng(0)
    expected = np.zeros((53, 71), dtype=np.int32)
    with Plane(tmp_path / "p", expected.shape, np.int32, tile=16) as plane:
        for _ in range(40):
            top, left = rng.integers(0, 50), rng.integers(0, 70)
            box = Box(top, left, rng.integers(top + 1, 54), rng.integers(left + 1, 72))
            values = rng.integers(0, 3, box.shape).astype(np.int32)
            plane.write(box, values)
            expected[box.within(Box(0, 0, 53, 71))] = values
            if rng.random() < 0.3:
                plane.commit()
        plane.commit()
        assert np.array_equal(plane.read(Box(0, 0, 53, 71)), expected)
        assert np.array_equal(plane.read(Box(7, 15, 31, 66)), expected[7:31, 15:66])


def test_readers_see_what_the_last_pass_left(tmp_path):
    box = Box(0, 0, 5, 5)
    with Plane(tmp_path / "p", (9, 9), np.uint8, tile=4) as plane:
        plane.write(box, np.ones((5, 5), np.uint8))
        assert not plane.read(box).any()
        assert not plane.any_stored(box)
        plane.commit()
        assert plane.read(box).all()
        plane.write(box, np.zeros((5, 5), np.uint8))
        assert plane.read(box).all()
        plane.commit()
        assert not plane.any_stored(Box(0, 0, 9, 9))
    assert not (tmp_path / "p").exists()


def test_a_partly_written_tile_is_finished_after_being_put_away(tmp_path, monkeypatch):
    monkeypatch.setattr("ranvier.streaming.planes._MOST_OPEN_BYTES", 0)
    values = np.arange(1, 1 + 24 * 40, dtype=np.int32).reshape(24, 40)
    with Plane(tmp_path / "p", values.shape, np.int32, tile=10) as plane:
        for part in cores(values.shape, 7):
            plane.write(part, values[part.within(Box(0, 0, 24, 40))])
        plane.commit()
        assert np.array_equal(plane.read(Box(0, 0, 24, 40)), values)


def test_cores_and_strips_cover_once():
    seen = np.zeros((23, 31), dtype=int)
    for box in (*cores((23, 31), 7), *strips((23, 31), 5)):
        seen[box.within(Box(0, 0, 23, 31))] += 1
    assert (seen == 2).all()
    assert grown(Box(3, 0, 6, 30), 5, (23, 31)) == Box(0, 0, 11, 31)


# Sources


LAYOUTS = {
    "tiles": {"tile": (64, 64), "compression": "zlib"},
    "tiles, predictor": {"tile": (32, 48), "compression": "zstd", "predictor": True},
    "strips": {"rowsperstrip": 7, "compression": "lzw"},
    "one strip": {},
    "big endian": {"byteorder": ">", "tile": (64, 64)},
    "BigTIFF": {"bigtiff": True, "tile": (64, 64)},
    "white is zero": {"photometric": "miniswhite", "tile": (64, 64)},
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_boxes_of_a_tiff_are_those_of_the_whole(tmp_path, layout, kind):
    if kind == "float32" and ("photometric" in layout or "predictor" in layout):
        pytest.skip("not written")
    pixels = np.random.default_rng(1).integers(0, 255, (150, 170)).astype(kind)
    path = tmp_path / "x.tif"
    layout = dict(layout)
    order = {k: layout.pop(k) for k in ("byteorder", "bigtiff") if k in layout}
    with tifffile.TiffWriter(path, **order) as writer:
        writer.write(pixels, **{"photometric": "minisblack", **layout}, metadata=None)
    whole = read(path)
    source = open_source(path)
    try:
        assert source.shape == whole.shape
        assert source.notes == whole.notes
        for box in (
            Box(0, 0, 150, 170),
            Box(0, 0, 1, 1),
            Box(63, 60, 130, 170),
            Box(149, 5, 150, 6),
        ):
            part = source.read(box)
            assert part.dtype == whole.pixels.dtype
            assert np.array_equal(part, whole.pixels[box.within(Box(0, 0, 150, 170))])
    finally:
        source.close()


@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("samples", [3, 4])
def test_colour_becomes_the_same_grey(tmp_path, planar, samples):
    pixels = np.random.default_rng(1).integers(0, 255, (90, 100, samples), dtype=np.uint8)
    stored = pixels if planar == "contig" else np.moveaxis(pixels, 2, 0)
    path = tmp_path / "x.tif"
    tifffile.imwrite(
        path,
        stored,
        photometric="rgb",
        planarconfig=planar,
        tile=(32, 32),
        compression="zlib",
        extrasamples=["unassalpha"] if samples == 4 else None,
    )
    whole, box = read(path).pixels, Box(20, 30, 71, 99)
    source = open_source(path)
    assert np.array_equal(source.read(box), whole[20:71, 30:99])
    source.close()
    green = open_source(path, Pick(channel=1))
    assert np.array_equal(green.read(box), read(path, channel=1).pixels[20:71, 30:99])
    green.close()


def test_a_channel_of_a_page_of_an_ome_tiff(tmp_path):
    stack = np.random.default_rng(2).integers(0, 999, (2, 3, 80, 70)).astype(np.uint16)
    path = write_ome(
        tmp_path / "x.ome.tif", stack, metadata={"axes": "ZCYX", **UM}, photometric="minisblack"
    )
    source = open_source(path, Pick(page=1, channel=2))
    assert np.array_equal(source.read(Box(5, 6, 60, 70)), stack[1, 2, 5:60, 6:70])
    assert source.pixel_size == read(path, page=1, channel=2).pixel_size
    source.close()


def pyramid(path, pixels):
    with tifffile.TiffWriter(path, ome=True, bigtiff=True) as writer:
        layout = {"tile": (32, 32), "compression": "zlib", "photometric": "minisblack"}
        writer.write(pixels, subifds=2, metadata={"axes": "YX", **UM}, **layout)
        for step in (2, 4):
            writer.write(pixels[::step, ::step], subfiletype=1, **layout)
    return path


def test_levels_of_a_pyramid(tmp_path, drawn):
    path = pyramid(tmp_path / "p.ome.tif", drawn)
    for level, step in enumerate((1, 2, 4)):
        source = open_source(path, Pick(level=level))
        assert np.array_equal(source.read(Box(0, 0, *source.shape)), drawn[::step, ::step])
        assert source.pixel_size.um == pytest.approx(0.1 * step)
        source.close()
    with pytest.raises(SettingsError, match="no such level"):
        open_source(path, Pick(level=3))


def test_levels_that_are_pages_of_their_own(tmp_path, drawn):
    path = tmp_path / "p.tif"
    with tifffile.TiffWriter(path) as writer:
        for step in (1, 2, 4):
            writer.write(
                np.ascontiguousarray(drawn[::step, ::step]),
                tile=(64, 64),
                subfiletype=int(step > 1),
                photometric="minisblack",
                metadata=None,
            )
    source = open_source(path, Pick(level=2))
    assert np.array_equal(source.read(Box(0, 0, *source.shape)), drawn[::4, ::4])
    source.close()


def test_an_aperio_slide_is_read_by_tifffile(tmp_path, drawn):
    colour = np.repeat(drawn[..., None], 3, axis=2)
    path = tmp_path / "s.svs"
    with tifffile.TiffWriter(path) as writer:
        about = "Aperio Image Library v1\r\n340x300 |MPP = 0.25"
        for step in (1, 4):
            writer.write(
                np.ascontiguousarray(colour[::step, ::step]),
                tile=(64, 64),
                photometric="rgb",
                description=about,
                metadata=None,
            )
    source = open_source(path)
    assert source.shape == drawn.shape
    assert np.array_equal(source.read(Box(10, 20, 200, 300)), drawn[10:200, 20:300])
    source.close()


def test_a_region_is_a_part(drawn):
    part = part_of(ArraySource(drawn), (20, 10, 100, 50))
    assert part.shape == (50, 100)
    assert np.array_equal(part.read(Box(5, 6, 40, 90)), drawn[15:50, 26:110])
    assert "region 20,10,100,50 read" in part.notes
    with pytest.raises(SettingsError, match="does not lie in the image"):
        part_of(ArraySource(drawn), (300, 0, 41, 10))


def test_damaged_tiles_are_one_clear_error(tmp_path, drawn):
    path = write_ome(tmp_path / "x.ome.tif", drawn)
    with tifffile.TiffFile(path) as tiff:
        offset = tiff.pages[0].dataoffsets[7]
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(b"\0" * 20)
    source = open_source(path)
    with pytest.raises(CorruptImageError, match="piece 7"):
        source.read(Box(0, 0, *drawn.shape))
    source.close()
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(CorruptImageError):
        open_source(path)


def test_one_huge_compressed_strip_is_refused(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(tiff_source, "_LARGEST_SEGMENT", 10_000)
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, drawn, compression="zlib", rowsperstrip=drawn.shape[0])
    with pytest.raises(UnsupportedFormatError, match="too large to be read in parts"):
        open_source(path)


def test_the_hash_of_a_folder_tells_its_files(tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "0").write_bytes(b"1")
    assert content_sha256(tmp_path / "a") == content_sha256(tmp_path / "b")
    (tmp_path / "b" / "0").rename(tmp_path / "b" / "1")
    assert content_sha256(tmp_path / "a") != content_sha256(tmp_path / "b")


def test_the_hash_of_an_mrxs_tells_the_pixels_beside_it(tmp_path):
    """The slide itself is a small picture; its pixels lie in a folder."""
    slide, pixels = tmp_path / "a.mrxs", tmp_path / "a" / "Data0000.dat"
    slide.write_bytes(b"1")
    alone = content_sha256(slide)
    assert alone == hashlib.sha256(b"1").hexdigest()
    pixels.parent.mkdir()
    pixels.write_bytes(b"2")
    before = content_sha256(slide)
    pixels.write_bytes(b"3")
    assert len({alone, before, content_sha256(slide)}) == 3
    assert content_sha256(tmp_path / "none.mrxs") == ""


# Grey levels and classes


@pytest.mark.parametrize("kind", ["uint8", "uint16", "float32"])
def test_statistics_are_the_same_to_the_last_bit(drawn, kind, monkeypatch):
    monkeypatch.setattr("ranvier.preprocess._ROWS_AT_A_TIME", 1)
    monkeypatch.setattr("ranvier.streaming.grey._ROWS_AT_A_TIME", 1)
    pixels = (drawn.astype(np.float64) * (1 if kind == "uint8" else 77.7)).astype(kind)
    assert streamed_statistics(ArraySource(pixels)) == statistics(pixels)


def classified(source, model, folder, *, blank, settings=SMALL_TILES):
    full = Box(0, 0, *source.shape)
    with ExitStack() as until:
        planes = [
            until.enter_context(Plane(folder / n, source.shape, np.uint8, tile=50))
            for n in ("classes", "confidence")
        ]
        seen = classify_streamed(
            source, model, classes=planes[0], confidence=planes[1], settings=settings, blank=blank
        )
        return seen, *(plane.read(full) for plane in planes)


@pytest.mark.parametrize("normalisation", ["image-standardisation", "rescale-0-1"])
def test_classes_and_confidence_are_those_of_the_whole(tmp_path, drawn, normalisation):
    model = fake_model(normalisation=normalisation)
    whole = predict(
        from_array(drawn),
        model.backend,
        field=FIELD,
        settings=InferenceSettings(zoom=1.0),
        normalisation=normalisation,
    )
    seen, classes, confidence = classified(
        ArraySource(drawn), model, tmp_path, blank=BlankSettings(skip=False)
    )
    assert seen.windows > 4
    assert np.array_equal(classes, whole.classes)
    assert np.array_equal(confidence, whole.confidence)


def test_a_flat_image_is_background(tmp_path):
    source = ArraySource(np.full((60, 70), 9, np.uint8))
    model = fake_model()
    _, classes, confidence = classified(source, model, tmp_path, blank=BlankSettings())
    assert not classes.any()
    assert (confidence == 255).all()
    assert model.backend.windows == 0


def test_empty_glass_is_not_shown_to_the_network(tmp_path, drawn):
    rng = np.random.default_rng(0)
    slide = rng.normal(235, 1.5, (600, 1000)).round().astype(np.uint8)
    slide[100:400, 100:440] = drawn
    source = ArraySource(slide)
    everything, skipping = fake_model(), fake_model()
    _, all_classes, _ = classified(source, everything, tmp_path, blank=BlankSettings(skip=False))
    seen, classes, _ = classified(source, skipping, tmp_path, blank=BlankSettings())
    assert seen.blank_windows > 0.3 * seen.windows
    assert skipping.backend.windows + 2 * seen.blank_windows == everything.backend.windows
    tissue = np.s_[100:400, 100:440]
    assert np.array_equal(classes[tissue], all_classes[tissue])
    assert 0 < seen.blank_share < 1 - drawn.size / slide.size


def test_structure_of_any_size_is_not_blank(drawn):
    grey = statistics(drawn)
    limit = BlankSettings().limit(grey)
    assert not is_blank(drawn, limit)
    assert is_blank(np.full((200, 200), 90, np.uint8), limit)
    one_fibre = np.full((200, 200), 200, np.uint8)
    one_fibre[91:100, 91:100] = 60
    assert not is_blank(one_fibre, limit)
    at_the_end = np.full((200, 201), 200, np.uint8)
    at_the_end[193:, 195:] = 60
    assert not is_blank(at_the_end, limit)
    ramp = np.tile(np.linspace(0, 255, 400).astype(np.uint8), (200, 1))
    assert not is_blank(ramp, limit)


def test_noise_all_over_is_never_blank():
    noise = np.random.default_rng(0).normal(128, 20, (64, 64)).clip(0, 255).astype(np.uint8)
    assert not is_blank(noise, BlankSettings().limit(statistics(noise)))


# Files


def test_a_pyramid_of_labels(tmp_path):
    labels = np.random.default_rng(0).integers(0, 2**20, (2500, 1100)).astype(np.int32)
    from ranvier.calibration import PixelSize

    with Plane(tmp_path / "p", labels.shape, np.int32) as plane:
        plane.write(Box(0, 0, *labels.shape), labels)
        plane.commit()
        for name in ("a.tif", "b.tif"):
            write_pyramid(
                plane,
                tmp_path / name,
                folder=tmp_path,
                dtype=np.uint32,
                pixel_size=PixelSize(0.2, "option"),
            )
    assert filecmp.cmp(tmp_path / "a.tif", tmp_path / "b.tif", shallow=False)
    with tifffile.TiffFile(tmp_path / "a.tif") as tiff:
        assert tiff.is_bigtiff
        assert tiff.is_ome
        levels = tiff.series[0].levels
        for step, level in zip((1, 2, 4), levels, strict=True):
            assert np.array_equal(level.asarray(), labels[::step, ::step])
            assert level.keyframe.is_tiled
    assert read(tmp_path / "a.tif").pixel_size.um == pytest.approx(0.2)


def run_both(tmp_path, pixels, exports=(), **more):
    path = write_ome(tmp_path / "x.ome.tif", pixels)
    options = {"exports": exports, "inference": SMALL_TILES, **more}
    whole = segment_file(path, fake_model(), Options(output=tmp_path / "whole", **options))
    parts = segment_streamed(
        path, fake_model(), Options(output=tmp_path / "parts", **options), stream=EVERYTHING
    )
    return whole, parts


def test_a_model_that_sees_whole_images_has_large_ones_in_memory(tmp_path, drawn):
    path = write_ome(tmp_path / "x.ome.tif", drawn)
    small = StreamSettings(above_px=1000)
    for model, name in ((load_model("classical"), "whole"), (fake_model(), "parts")):
        options = Options(output=tmp_path / name, inference=SMALL_TILES)
        assert segment_any(path, model, options, stream=small).status == "done"
    records = {f: json.loads((tmp_path / f / "x_run.json").read_text()) for f in ("whole", "parts")}
    assert "streaming" not in records["whole"]
    assert "streaming" in records["parts"]


@pytest.mark.parametrize("least", [0.02, 0.1])
def test_bare_axons_left_out_are_those_of_the_whole_image(tmp_path, drawn, least):
    inference = replace(SMALL_TILES, min_closure=least)
    whole, parts = run_both(tmp_path, drawn, inference=inference)
    records = [
        json.loads((tmp_path / folder / "x_run.json").read_text()) for folder in ("whole", "parts")
    ]
    assert records[0]["bare_axons"] == records[1]["bare_axons"]
    assert records[0]["bare_axons"]["left_out"] > 5
    assert whole.summary == parts.summary
    told = [note for note in parts.notes if "hardly any myelin" in note]
    assert told == [note for note in whole.notes if "hardly any myelin" in note]
    assert len(told) == 1
    assert np.array_equal(
        *(read(tmp_path / f / "x_instances.tif").pixels for f in ("whole", "parts"))
    )


def test_results_are_those_of_the_whole_image(tmp_path, drawn):
    kinds = ("xlsx", "geojson", "rois")
    whole, parts = run_both(tmp_path, drawn, exports=kinds)
    assert whole.summary["fibre_count"] > 30
    assert parts.summary == whole.summary
    assert parts.pixel_size == whole.pixel_size
    names = ["morphometrics.csv", "fibres.geojson", "rois.zip", "morphometrics.xlsx", "overlay.png"]
    for name in names:
        one, other = (tmp_path / folder / f"x_{name}" for folder in ("whole", "parts"))
        assert filecmp.cmp(one, other, shallow=False), name
    images = [tifffile.imread(tmp_path / f / "x_instances.tif") for f in ("whole", "parts")]
    assert np.array_equal(*images)
    mask = tifffile.imread(tmp_path / "parts" / f"x{MASK}")
    assert np.array_equal(mask, read(tmp_path / "whole" / "x_seg-axonmyelin.png").pixels)
    record = json.loads((tmp_path / "parts" / "x_run.json").read_text())
    assert record["complete"]
    assert set(record["outputs"]) == {p.name for p in parts.outputs[:-1]}
    left = {p.name for p in (tmp_path / "parts").iterdir()}
    assert left == {p.name for p in parts.outputs}


def test_parquet_has_the_same_rows(tmp_path, drawn):
    parquet = pytest.importorskip("pyarrow.parquet")
    run_both(tmp_path, drawn, exports=("parquet",))
    one, other = (
        parquet.read_table(tmp_path / f / "x_morphometrics.parquet") for f in ("whole", "parts")
    )
    assert one.schema.equals(other.schema, check_metadata=True)
    for name in one.column_names:
        assert one[name].combine_chunks().equals(other[name].combine_chunks()), name


def test_an_image_without_fibres(tmp_path):
    whole, parts = run_both(tmp_path, np.full((90, 100), 7, np.uint8), exports=("geojson", "rois"))
    assert parts.summary == whole.summary
    for name in ("morphometrics.csv", "fibres.geojson", "rois.zip"):
        one, other = (tmp_path / folder / f"x_{name}" for folder in ("whole", "parts"))
        assert filecmp.cmp(one, other, shallow=False), name


def test_a_large_overlay_is_made_smaller(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr("ranvier.streaming.sparse.OVERLAY_PX", 12_000)
    _, parts = run_both(tmp_path, drawn)
    assert read(tmp_path / "parts" / "x_overlay.png").shape == (300 // 3, 340 // 3)
    assert "overlay 3 times smaller than the image" in parts.notes
    record = json.loads((tmp_path / "parts" / "x_run.json").read_text())
    assert record["streaming"]["overlay_factor"] == 3


def test_every_nth_pixel_is_found_without_keeping_the_others():
    """100 megapixels of labels: 400 MB, of which strips of 33 MB are seen at a time."""

    def read(box):
        rows, columns = np.ogrid[box.top : box.bottom, box.left : box.right]
        return (rows * 20_000 + columns).astype(np.int32)

    sparse = Sparse(read, (5_000, 20_000))
    tracemalloc.start()
    found = sparse[::16, ::16]
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.shape == (313, 1250)
    row, column = np.ogrid[:5_000:16, :20_000:16]
    assert np.array_equal(found, row * 20_000 + column)
    assert peak < 180 << 20


def test_files_that_do_not_fit_into_memory_are_left_out_and_said(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr("ranvier.streaming.tables_out.MOST_IN_MEMORY", 3)
    _, parts = run_both(tmp_path, drawn, exports=("xlsx", "geojson"))
    assert any(note.startswith("xlsx not written") for note in parts.notes)
    record = json.loads((tmp_path / "parts" / "x_run.json").read_text())
    assert list(record["streaming"]["left_out"]) == ["xlsx"]
    assert not (tmp_path / "parts" / "x_morphometrics.xlsx").exists()
    assert (tmp_path / "parts" / "x_fibres.geojson").exists()


def test_a_region_of_a_level(tmp_path, drawn):
    path = pyramid(tmp_path / "p.ome.tif", np.kron(drawn, np.ones((2, 2), np.uint8)))
    stream = StreamSettings(level=1, region=(30, 20, 200, 160), blank=BlankSettings(skip=False))
    options = Options(output=tmp_path / "o", inference=SMALL_TILES)
    outcome = segment_any(path, fake_model(), options, stream=stream)
    labels = tifffile.imread(tmp_path / "o" / "p_instances.tif")
    assert labels.shape == (160, 200)
    assert outcome.summary["pixel_size_um"] == pytest.approx(0.2)
    with (tmp_path / "o" / "p_morphometrics.csv").open() as file:
        assert len(list(csv.DictReader(file))) == labels.max() == outcome.summary["fibre_count"]


# Which images are streamed


def test_large_images_are_streamed_by_themselves(tmp_path, drawn):
    path = write_ome(tmp_path / "x.ome.tif", drawn)
    for name, above, mask in (("small", 10**6, "_seg-axon.png"), ("large", 10**4, MASK)):
        options = Options(output=tmp_path / name, inference=SMALL_TILES)
        segment_any(path, fake_model(), options, stream=StreamSettings(above_px=above))
        assert (tmp_path / name / f"x{mask}").exists()
    stream = StreamSettings(when="never", above_px=10)
    segment_any(path, fake_model(), Options(output=tmp_path / "n"), stream=stream)
    assert (tmp_path / "n" / "x_seg-axon.png").exists()


@pytest.mark.parametrize(
    ("options", "bundle", "said"),
    [
        ({"numbers": True}, {}, "ids are not written"),
        ({"exports": ("colours",)}, {}, "picture in colours"),
        ({"fascicles": Path("m.png")}, {}, "fascicles are not measured"),
        ({"inference": InferenceSettings(faithful=True)}, {}, "run as nnU-Net runs them"),
        ({"inference": InferenceSettings(zoom=20.0)}, {}, "too large, even for the disk"),
        ({}, {"patches": object()}, "cannot segment images in parts"),
        ({}, {"classical": object()}, "cannot segment images in parts"),
    ],
)
def test_what_cannot_be_streamed_is_refused_before_work(
    tmp_path, drawn, options, bundle, said, monkeypatch
):
    monkeypatch.setattr(suiting, "MOST_ZOOMED_PX", 1_000_000)
    path = write_ome(tmp_path / "x.ome.tif", drawn)
    model = fake_model(**bundle)
    with pytest.raises(SettingsError, match=said):
        segment_streamed(path, model, Options(output=tmp_path / "o", **options))
    assert not (tmp_path / "o").exists()
    assert model.backend.windows == 0


def test_an_image_too_large_at_its_zoom_is_streamed_as_the_error_says(tmp_path, drawn):
    path = write_ome(tmp_path / "x.ome.tif", drawn)
    little = InferenceSettings(zoom=1.5, max_zoomed_px=drawn.size, max_tile_px=170 * 170)
    options = Options(output=tmp_path / "o", inference=little)
    with pytest.raises(SettingsError, match="--stream always"):
        segment_any(path, fake_model(), options)
    assert segment_any(path, fake_model(), options, stream=EVERYTHING).status == "done"


def test_a_limit_that_was_given_counts(tmp_path, drawn):
    path = write_ome(tmp_path / "x.ome.tif", drawn)
    options = Options(output=tmp_path / "o", limits=Limits(max_pixels=1000))
    with pytest.raises(ImageTooLargeError):
        segment_streamed(path, fake_model(), options)


def test_settings_out_of_range():
    with pytest.raises(SettingsError, match="auto, always or never"):
        StreamSettings(when="often")
    with pytest.raises(SettingsError, match="only streamed"):
        StreamSettings(when="never", level=1)
    with pytest.raises(SettingsError, match="from 0 to 1"):
        BlankSettings(texture=2)
    with pytest.raises(SettingsError, match="counted from 0"):
        Pick(level=-1)
    with pytest.raises(SettingsError, match="at least 1"):
        Rounds(many=0)


# Safety


def test_results_that_are_there_are_kept_or_refused(tmp_path, drawn):
    path = write_ome(tmp_path / "x.ome.tif", drawn)
    once = Options(output=tmp_path / "o", inference=SMALL_TILES)
    segment_streamed(path, fake_model(), once, stream=EVERYTHING)
    with pytest.raises(OutputExistsError):
        segment_streamed(path, fake_model(), once, stream=EVERYTHING)
    model = fake_model()
    again = Options(output=tmp_path / "o", inference=SMALL_TILES, existing="skip")
    assert segment_streamed(path, model, again, stream=EVERYTHING).status == "skipped"
    assert model.backend.windows == 0
    other = StreamSettings(when="always", region=(0, 0, 100, 100))
    with pytest.raises(OutputExistsError, match="other settings"):
        segment_streamed(path, model, again, stream=other)


def test_a_failure_on_the_way_leaves_nothing(tmp_path, drawn, monkeypatch):
    path = write_ome(tmp_path / "x.ome.tif", drawn)

    def fails(*_, **__):
        raise OSError("no")

    monkeypatch.setattr(running, "write_csv", fails)
    with pytest.raises(OSError, match="no"):
        segment_streamed(path, fake_model(), Options(output=tmp_path / "o", inference=SMALL_TILES))
    assert list((tmp_path / "o").iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_streaming import EVERYTHING, SMALL_TILES, fake_model
from ranvier.jobs import Options
from ranvier.streaming import running
def killed(*a, **k):
    os.kill(os.getpid(), signal.SIGKILL)
setattr(running, sys.argv[3], killed)
path = Path(sys.argv[1])
options = Options(output=path.parent / "o", inference=SMALL_TILES)
running.segment_streamed(path, fake_model(), options, stream=EVERYTHING)
"""


@pytest.mark.parametrize("stage", ["measure_streamed", "publish_files"])
def test_a_killed_run_leaves_nothing_that_looks_finished(tmp_path, drawn, stage):
    path = write_ome(tmp_path / "x.ome.tif", drawn)
    command = [sys.executable, "-c", KILLED, str(path), str(Path(__file__).parent), stage]
    assert subprocess.run(command, check=False).returncode == -9
    assert all(p.name.startswith(".") for p in (tmp_path / "o").iterdir())
    options = Options(output=tmp_path / "o", inference=SMALL_TILES, existing="skip")
    assert segment_streamed(path, fake_model(), options, stream=EVERYTHING).status == "done"
    assert not any(p.name.startswith(".") for p in (tmp_path / "o").iterdir())


def test_only_what_killed_processes_left_of_the_same_results_is_deleted(tmp_path, drawn):
    path = write_ome(tmp_path / "x.ome.tif", drawn)
    here = owned_name().partition("@")[2].rpartition(".")[0]
    dead, chance = 4194400, "0" * 16  # no such process: higher than numbers go
    names = {
        f".x.{dead}@{here}.{chance}.part": False,
        f".x.{os.getpid()}@{here}.{chance}.part": True,
        f".x.{os.getppid()}@{here}.{chance}.part": True,
        f".x.{dead}@elsewhere-1.{chance}.part": True,
        f".x.1.{dead}@{here}.{chance}.part": True,  # of another image
        f".y.{dead}@{here}.{chance}.part": True,
        f".x.{dead}@{here}.{chance}": True,
        ".x.abc.part": True,
    }
    for name in names:
        (tmp_path / "o" / name).mkdir(parents=True)
        (tmp_path / "o" / name / "classes.plane").write_bytes(b"1")
    options = Options(output=tmp_path / "o", inference=SMALL_TILES, existing="skip")
    for status in ("done", "skipped"):
        assert segment_streamed(path, fake_model(), options, stream=EVERYTHING).status == status
        assert {name: (tmp_path / "o" / name).exists() for name in names} == names
        (tmp_path / "o" / next(iter(names))).mkdir()
    assert segment_streamed(path, fake_model(), options, stream=EVERYTHING).status == "skipped"
    assert {name: (tmp_path / "o" / name).exists() for name in names} == names


def test_a_full_disk_is_an_output_error(tmp_path, monkeypatch):
    from ranvier.errors import OutputError
    from ranvier.streaming import planes

    with Plane(tmp_path / "p", (20, 20), np.uint8, tile=8) as plane:
        monkeypatch.setattr(planes.os, "pwrite", lambda *_: 0)
        with pytest.raises(OutputError, match="full"):
            plane.write(Box(0, 0, 8, 8), np.ones((8, 8), np.uint8))


def test_a_run_that_stops_while_files_are_moved_is_finished_by_the_next(
    tmp_path, drawn, monkeypatch
):
    path = write_ome(tmp_path / "x.ome.tif", drawn)
    options = Options(output=tmp_path / "o", inference=SMALL_TILES, existing="skip")
    calls, fsync = [], os.fsync

    def stops(number):
        calls.append(number)
        if len(calls) == 4:
            raise KeyboardInterrupt
        fsync(number)

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "fsync", stops)
        segment_streamed(path, fake_model(), options, stream=EVERYTHING)
    record = json.loads((tmp_path / "o" / "x_run.json").read_text())
    assert record["complete"] is False
    present = {p.name for p in (tmp_path / "o").iterdir()}
    assert present == {"x_run.json", f"x{MASK}"}
    outcome = segment_streamed(path, fake_model(), options, stream=EVERYTHING)
    assert outcome.status == "done"
    assert json.loads((tmp_path / "o" / "x_run.json").read_text())["complete"]
