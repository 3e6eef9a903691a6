"""Exports, each opened by a reader that knows nothing of Ranvier."""

from __future__ import annotations

import io
import json
import sys
import time
import uuid
import zipfile

import numpy as np
import openpyxl
import pyarrow.parquet
import pytest
import roifile
import shapely
import tifffile
from PIL import Image
from shapely.geometry import shape

from ranvier.calibration import PixelSize
from ranvier.contours import trace
from ranvier.errors import MissingExtraError, OutputError, SettingsError
from ranvier.exporting import (
    EXPORT_ENDINGS,
    export_files,
    geojson,
    imagej_rois,
    instance_map_png,
    instances_tiff,
    overlay_png,
    png,
    table_parquet,
    table_xlsx,
)
from ranvier.micrograph import Fibres, Instances
from ranvier.polygons import rings

SIZE = PixelSize(0.1, "option")


def odd_instances():
    """A disc, a C, one with a hole, one cut by the border, and one in two pieces that touch at a corner."""
    fibres, axons = np.zeros((60, 80), np.int32), np.zeros((60, 80), np.int32)
    r, c = np.mgrid[:60, :80]
    fibres[np.hypot(r - 15, c - 15) <= 10], axons[np.hypot(r - 15, c - 15) <= 6] = 1, 1
    ring = np.hypot(r - 15, c - 45)
    fibres[(ring <= 10) & (ring >= 5) & ~((c > 45) & (abs(r - 15) < 3))] = 2
    axons[10:20, 36:39] = 2
    fibres[35:50, 5:20], fibres[40:43, 8:12], fibres[43:45, 12:14] = 3, 0, 0
    axons[36:39, 6:19] = 3
    fibres[30:60, 70:80], axons[32:60, 72:80] = 4, 4
    fibres[35:40, 40:45], fibres[40:48, 45:55] = 5, 5
    axons[41:47, 46:54] = 5
    axons[fibres != axons] = 0
    return Instances(axons=axons, fibres=fibres, count=5)


def measured(instances, size=SIZE):
    """A small table in the form of the real one."""
    n, unit = instances.count, "px" if size is None else "um"
    ids = np.arange(1, n + 1, dtype=np.int32)
    area = np.bincount(instances.axons.ravel(), minlength=n + 1)[1:]
    rows, cols = np.indices(instances.axons.shape)
    sums = (np.bincount(instances.axons.ravel(), v.ravel(), n + 1)[1:] for v in (rows, cols))
    row, col = (s / np.maximum(area, 1) for s in sums)
    g = np.full(n, 0.6)
    g[1:2] = np.nan
    table = {
        "id": ids,
        "centroid_row_px": row,
        "centroid_col_px": col,
        f"axon_area_{unit}2": area * (1.0 if size is None else size.um**2),
        "g_ratio": g,
        "myelinated": ids != 2,
        "of_the_future": g * 2,
    }
    return Fibres(table=table, instances=instances, pixel_size=size)


FIBRES = measured(odd_instances())
NONE = measured(Instances(np.zeros((9, 9), np.int32), np.zeros((9, 9), np.int32), 0))


def decoded(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.array(image)


def polygon(parts):
    """Polygons of one object as shapely has them."""
    made = [
        shapely.Polygon(p[0][:, ::-1].tolist(), [h[:, ::-1].tolist() for h in p[1:]]) for p in parts
    ]
    return made[0] if len(made) == 1 else shapely.MultiPolygon(made)


def pixels_of(shape_, labels):
    """Pixels whose centres lie in a shape."""
    r, c = np.indices(labels.shape)
    return shapely.contains_xy(shape_, c + 0.5, r + 0.5)


@pytest.mark.parametrize("seed", range(30))
def test_polygons_are_valid_and_cover_the_pixels(seed):
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 3, rng.integers(1, 20, 2)).astype(np.int32)
    if seed % 2:
        labels = np.minimum(labels, 1)
    found = rings(trace(labels, 2))
    assert list(found) == [i for i in (1, 2) if (labels == i).any()]
    for label, parts in found.items():
        made = polygon(parts)
        assert made.is_valid
        assert made.area == np.count_nonzero(labels == label)
        assert np.array_equal(pixels_of(made, labels), labels == label)
        for ring in (ring for part in parts for ring in part):
            steps = np.diff(np.vstack((ring, ring[:1])), axis=0)
            assert np.all((steps == 0).sum(axis=1) == 1)
            assert np.all((steps[:, 0] == 0) != (np.roll(steps[:, 0], 1) == 0))
            assert np.unique(ring, axis=0).shape == ring.shape


def test_polygons_of_chosen_objects_and_of_islands_in_lakes():
    labels = np.ones((9, 9), np.int32)
    labels[1:8, 1:8], labels[2:7, 2:7], labels[3:6, 3:6], labels[4, 4] = 0, 1, 0, 2
    outlines = trace(labels, 2)
    assert list(rings(outlines, [2])) == [2]
    assert rings(outlines, []) == {}
    parts = rings(outlines, [1])[1]
    assert [len(part) for part in parts] == [2, 2]
    assert polygon(parts).is_valid
    assert polygon(parts).area == np.count_nonzero(labels == 1)


def test_holes_of_one_object_in_many_parts_are_quickly_given_to_theirs():
    rng = np.random.default_rng(0)
    labels = (rng.random((400, 400)) < 0.62).astype(np.int32)
    outlines = trace(labels, 1)
    start = time.perf_counter()
    parts = rings(outlines)[1]
    assert time.perf_counter() - start < 5
    assert len(parts) > 1000
    assert sum(map(len, parts)) > 5000
    made = polygon(parts)
    assert made.is_valid
    assert made.area == np.count_nonzero(labels)


def sheet_rows(content, name):
    book = openpyxl.load_workbook(io.BytesIO(content))
    return [list(row) for row in book[name].iter_rows(values_only=True)]


def test_the_workbook_holds_numbers_booleans_and_what_they_mean():
    summary = {"avf": 0.25, "none": None, "length_unit": "um", "by": {"count": 3, "bins": [1, 2.5]}}
    content = table_xlsx(FIBRES, summary)
    book = openpyxl.load_workbook(io.BytesIO(content))
    assert book.sheetnames == ["Fibres", "README", "Image"]
    sheet = book["Fibres"]
    assert sheet.freeze_panes == "B2"
    assert sheet["A1"].font.bold
    assert not sheet["A2"].font.bold
    rows = sheet_rows(content, "Fibres")
    assert rows[0] == list(FIBRES.table)
    for index, name in enumerate(FIBRES.table):
        for row, value in zip(rows[1:], FIBRES.table[name].tolist(), strict=True):
            expected = None if np.isnan(value) else pytest.approx(value, rel=1e-15)
            assert row[index] == expected
    assert rows[1][5] is True
    assert rows[2][5] is False
    readme = sheet_rows(content, "README")
    assert [
        "g_ratio",
        None,
        "Axon diameter / fibre diameter, by the chosen model",
        "gratio",
    ] in readme
    assert ["of_the_future", None, None, None] in readme
    assert ["axon_area_um2", "um2", "Area of the axon", "axon_area (um^2)"] in readme
    assert ["pixel size", "um", 0.1, None] in readme
    assert ["source of the pixel size", None, "option", None] in readme
    assert [row[0] for row in readme[1:8]] == list(FIBRES.table)
    assert sheet_rows(content, "Image") == [
        ["name", "value"],
        ["avf", 0.25],
        ["none", None],
        ["length_unit", "um"],
        ["by.count", 3],
        ["by.bins[0]", 1],
        ["by.bins[1]", 2.5],
    ]


def test_the_workbook_without_fibres_summary_or_pixel_size():
    content = table_xlsx(measured(odd_instances(), None))
    assert ["source of the pixel size", None, "unknown: lengths are in pixels", None] in sheet_rows(
        content, "README"
    )
    assert openpyxl.load_workbook(io.BytesIO(content)).sheetnames == ["Fibres", "README"]
    assert sheet_rows(table_xlsx(NONE), "Fibres") == [list(NONE.table)]


def test_a_table_that_is_too_long_for_a_sheet():
    long = Fibres({"id": np.zeros(1_048_576, np.int8)}, NONE.instances)
    with pytest.raises(OutputError, match="Use CSV or Parquet"):
        table_xlsx(long)


def test_parquet_keeps_types_and_says_what_columns_are():
    table = pyarrow.parquet.read_table(io.BytesIO(table_parquet(FIBRES)))
    assert table.column_names == list(FIBRES.table)
    assert [str(f.type) for f in table.schema] == [
        "int32", "double", "double", "double", "double", "bool", "double",
    ]  # fmt: skip
    assert table["g_ratio"].to_pylist() == [0.6, None, 0.6, 0.6, 0.6]
    assert table["myelinated"].to_pylist() == [True, False, True, True, True]
    origin = json.loads(table.schema.metadata[b"ranvier"])
    assert origin["pixel_size_um"] == 0.1
    assert origin["pixel_size_source"] == "option"
    field = table.schema.field("axon_area_um2").metadata
    assert field == {b"unit": b"um2", b"meaning": b"Area of the axon"}
    assert pyarrow.parquet.read_table(io.BytesIO(table_parquet(NONE))).num_rows == 0


def test_parquet_without_pyarrow_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"ranvier\[parquet\]"):
        table_parquet(FIBRES)


def test_instances_are_unsigned_and_keep_high_ids():
    labels = np.zeros((40, 30), np.int32)
    labels[3, 4], labels[39, 29] = 65_536, 2_000_000_000
    content = instances_tiff(labels, SIZE)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        assert file.pages[0].dtype == np.uint32
        assert file.pages[0].is_tiled
        assert 'Type="uint32"' in file.ome_metadata
        assert 'PhysicalSizeX="0.1"' in file.ome_metadata
        assert np.array_equal(file.asarray(), labels)
    assert content == instances_tiff(labels, SIZE)
    assert tifffile.imread(io.BytesIO(instances_tiff(labels[:, ::2], None))).shape == (40, 15)


def check_feature(feature, kind, label, labels):
    properties = feature["properties"]
    assert properties["objectType"] == "detection"
    assert properties["name"] == str(label)
    assert properties["classification"]["name"] == kind
    assert len(properties["classification"]["color"]) == 3
    assert uuid.UUID(feature["id"]).version == 5
    geometry = shape(feature["geometry"])
    assert geometry.is_valid
    assert geometry.area == np.count_nonzero(labels == label)
    assert np.array_equal(pixels_of(geometry, labels), labels == label)
    outer = geometry.geoms if geometry.geom_type == "MultiPolygon" else [geometry]
    assert all(part.exterior.is_ccw for part in outer)
    return geometry


@pytest.mark.parametrize("nested", [True, False])
def test_geojson_holds_each_fibre_and_its_axon(nested):
    text = geojson(FIBRES, nested=nested).decode()
    assert "NaN" not in text
    collection = json.loads(text)
    features = collection["features"]
    assert collection["type"] == "FeatureCollection"
    assert len(features) == (5 if nested else 10)
    seen = set()
    for label in range(1, 6):
        fibre = features[(label - 1) * (1 if nested else 2)]
        axon = fibre["properties"]["childObjects"][0] if nested else features[2 * label - 1]
        outer = check_feature(fibre, "Fibre", label, FIBRES.instances.fibres)
        inner = check_feature(axon, "Axon", label, FIBRES.instances.axons)
        assert outer.covers(inner)
        assert axon["properties"]["metadata"] == {"parent": fibre["id"]}
        seen |= {fibre["id"], axon["id"]}
    assert len(seen) == 10
    first, second = (
        features[i]["properties"]["measurements"] for i in ((0, 1) if nested else (0, 2))
    )
    assert first["g_ratio"] == 0.6
    assert first["myelinated"] == 1
    assert "g_ratio" not in second
    assert second["myelinated"] == 0


def test_uuids_differ_between_images():
    moved = Instances(
        *(np.roll(x, 1, axis=0) for x in (FIBRES.instances.axons, FIBRES.instances.fibres)), 5
    )
    one, other = (json.loads(geojson(f))["features"][0]["id"] for f in (FIBRES, measured(moved)))
    assert one != other


def test_geojson_without_fibres():
    assert json.loads(geojson(NONE)) == {"type": "FeatureCollection", "features": []}


def roi_area(roi):
    """Area by the even-odd rule, as ImageJ fills a composite."""
    area = shapely.Polygon()
    for ring in roi.coordinates(multi=True):
        area = area.symmetric_difference(shapely.Polygon(ring))
    return area


def test_rois_are_the_outlines(tmp_path):
    path = tmp_path / "rois.zip"
    path.write_bytes(imagej_rois(FIBRES))
    with zipfile.ZipFile(path) as archive:
        names = archive.namelist()
    assert names[:3] == ["0001_axon.roi", "0001_fibre.roi", "0002_axon.roi"]
    assert len(names) == 10
    for roi in roifile.roiread(path):
        label, kind = roi.name.split("_")
        labels = FIBRES.instances.axons if kind == "axon" else FIBRES.instances.fibres
        found = roi_area(roi)
        assert np.array_equal(pixels_of(found, labels), labels == int(label))
        assert found.area == np.count_nonzero(labels == int(label))
        rows, cols = np.nonzero(labels == int(label))
        box = (rows.min(), cols.min(), rows.max() + 1, cols.max() + 1)
        assert (roi.top, roi.left, roi.bottom, roi.right) == box
        assert roi.composite == (kind == "fibre" and label in ("0003", "0005"))


def test_rois_of_large_images_and_many_fibres():
    labels = np.zeros((2, 70_000), np.int32)
    labels[:, 60_600:60_610] = 12_345
    many = Instances(labels, labels, 12_345)
    fibres = Fibres({"id": np.array([12_345])}, many)
    with zipfile.ZipFile(io.BytesIO(imagej_rois(fibres))) as archive:
        assert archive.namelist() == ["12345_axon.roi", "12345_fibre.roi"]
        roi = roifile.ImagejRoi.frombytes(archive.read("12345_fibre.roi"))
    assert roi.coordinates()[:, 0].max() == 60_610
    with zipfile.ZipFile(io.BytesIO(imagej_rois(NONE))) as archive:
        assert archive.namelist() == []


def test_the_map_tells_neighbours_and_axons_apart():
    labels = np.kron(np.arange(1, 401).reshape(20, 20), np.ones((6, 6))).astype(np.int32)
    axons = labels * (np.indices(labels.shape) % 6 // 2 == 1).all(axis=0)
    labels[:, -1], axons[:, -1] = 0, 0
    seen = decoded(instance_map_png(Instances(axons.astype(np.int32), labels, 400))).astype(int)
    assert np.array_equal(seen.any(axis=2), labels > 0)
    sheath = seen[::6, ::6]
    axis = sheath[:, 1:] - sheath[:, :-1], sheath[1:] - sheath[:-1]
    assert min(np.abs(d).sum(axis=2).min() for d in axis) > 60
    assert np.all(seen[2::6, 2::6].sum(axis=2) > sheath.sum(axis=2) + 150)
    assert not decoded(instance_map_png(NONE.instances)).any()


@pytest.mark.parametrize("rows", [3, 512])
def test_pictures_do_not_depend_on_how_they_are_cut_into_bands(rows, monkeypatch):
    fibres, pixels = FIBRES.instances.fibres, np.zeros((60, 80), np.uint8)
    classes = np.where(FIBRES.instances.axons > 0, 2, fibres > 0).astype(np.uint8)
    before = overlay_png(pixels, classes, fibres), instance_map_png(FIBRES.instances)
    monkeypatch.setattr("ranvier.pictures._ROWS_AT_A_TIME", rows)
    assert (overlay_png(pixels, classes, fibres), instance_map_png(FIBRES.instances)) == before


def test_numbers_are_written_in_axons_and_cut_at_the_border():
    pixels, classes = np.full((60, 80), 90, np.uint8), np.zeros((60, 80), np.uint8)
    pixels[0, 0] = 0
    plain = decoded(overlay_png(pixels, classes, None)).astype(int)
    seen = decoded(overlay_png(pixels, classes, None, numbers=FIBRES)).astype(int)
    changed = (seen != plain).any(axis=2)
    rows, cols = (FIBRES.table[f"centroid_{x}_px"] for x in ("row", "col"))
    for row, col in zip(rows.round().astype(int), cols.round().astype(int), strict=True):
        part = (slice(max(row - 6, 0), row + 7), slice(max(col - 6, 0), col + 7))
        assert seen[part].max() > 200
        assert seen[part][changed[part]].min() < 60
    assert changed.sum() < 1000
    assert overlay_png(pixels, classes, None, numbers=NONE) == overlay_png(pixels, classes, None)


@pytest.mark.parametrize(("um", "length"), [(0.1, 100), (0.0123, 81), (0.001, 100), (2.0, 100)])
def test_the_scale_bar_has_a_round_length_and_the_png_its_scale(um, length):
    pixels, classes = np.zeros((200, 500), np.uint8), np.zeros((200, 500), np.uint8)
    content = overlay_png(pixels, classes, None, pixel_size=PixelSize(um, "option"))
    seen = decoded(content)[..., 0]
    white = (seen == 255).sum(axis=1)
    assert white.max() == pytest.approx(length, abs=3)
    assert white[:150].sum() == 0
    with Image.open(io.BytesIO(content)) as image:
        assert 25400 / image.info["dpi"][0] == pytest.approx(um, rel=1e-5)


def test_small_pictures_have_no_scale_bar_and_tiny_pixels_no_scale():
    grey, classes = np.zeros((40, 500), np.uint8), np.zeros((40, 500), np.uint8)
    assert not decoded(overlay_png(grey, classes, None, pixel_size=SIZE)).any()
    with Image.open(io.BytesIO(png(grey, pixel_size=PixelSize(1e-4, "option")))) as image:
        assert "dpi" not in image.info


def test_every_export_is_there_by_name_and_the_same_each_time(monkeypatch):
    before = export_files(FIBRES, EXPORT_ENDINGS, summary={"avf": 0.5})
    assert set(before) == {
        "_morphometrics.xlsx",
        "_morphometrics.parquet",
        "_fibres.geojson",
        "_rois.zip",
        "_instances.png",
    }
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert export_files(FIBRES, EXPORT_ENDINGS, summary={"avf": 0.5}) == before
    assert export_files(FIBRES, []) == {}
    assert list(export_files(FIBRES, ["rois", "rois"])) == ["_rois.zip"]
    assert len(export_files(NONE, EXPORT_ENDINGS, summary={})) == 5
    with pytest.raises(SettingsError, match=r"doc.*xlsx, parquet, geojson, rois, colours"):
        export_files(FIBRES, ["xlsx", "doc"])
