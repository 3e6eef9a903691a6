"""The set of files of one image, and how each is written."""

from __future__ import annotations

import csv
import io
import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from ranvier import results
from ranvier.calibration import PixelSize
from ranvier.errors import OutputError, OutputExistsError, SettingsError
from ranvier.exporting import (
    instances_tiff,
    json_bytes,
    mask_files,
    overlay_png,
    save,
    table_csv,
)
from ranvier.micrograph import Fibres, Instances, Segmentation
from ranvier.writing import write_atomically

CLASSES = np.array([[0, 1, 2, 2], [0, 1, 1, 2]], np.uint8)
ENDINGS = ("_a.png", "_b.csv")
FILES = {"_a.png": b"one", "_b.csv": b"two"}
RUN = {"ranvier": "0", "command": "segment"}


def decoded(content):
    with Image.open(io.BytesIO(content)) as image:
        return np.array(image)


def test_masks_have_the_levels_that_scripts_expect():
    files = {name: decoded(content) for name, content in mask_files(CLASSES).items()}
    assert np.array_equal(files["_seg-axon.png"], np.where(CLASSES == 2, 255, 0))
    assert np.array_equal(files["_seg-myelin.png"], np.where(CLASSES == 1, 255, 0))
    assert np.array_equal(files["_seg-axonmyelin.png"], np.array([0, 127, 255])[CLASSES])


@pytest.mark.parametrize("size", [None, PixelSize(0.07, "option")])
def test_instances_keep_ids_beyond_16_bits_and_the_pixel_size(size):
    labels = np.zeros((600, 700), np.int32)
    labels[5, 6], labels[599, 699] = 70_000, 3
    content = instances_tiff(labels, size)
    assert content == instances_tiff(labels, size)
    with tifffile.TiffFile(io.BytesIO(content)) as file:
        assert file.is_ome
        back = file.asarray()
        xml = file.ome_metadata
    assert back.dtype == np.uint32
    assert np.array_equal(back, labels)
    assert ('PhysicalSizeX="0.07"' in xml) == (size is not None)


def test_the_table_reads_back_exactly():
    table = {
        "id": np.array([1, 2], np.int32),
        "g_ratio": np.array([0.1 + 0.2, np.nan]),
        "touches_border": np.array([True, False]),
    }
    rows = list(csv.DictReader(io.StringIO(table_csv(table).decode())))
    assert [r["id"] for r in rows] == ["1", "2"]
    assert float(rows[0]["g_ratio"]) == 0.1 + 0.2
    assert rows[1]["g_ratio"] == ""
    assert [r["touches_border"] for r in rows] == ["True", "False"]
    assert table_csv({"id": np.array([], np.int32)}) == b"id\n"


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_the_overlay_colours_classes_and_outlines(dtype):
    pixels = np.linspace(0, 200, 40 * 50).reshape(40, 50).astype(dtype)
    classes = np.zeros((40, 50), np.uint8)
    classes[10:20, 10:20], classes[13:17, 13:17] = 1, 2
    labels = (classes > 0).astype(np.int32)
    seen = decoded(overlay_png(pixels, classes, labels)).astype(int)
    assert seen.shape == (40, 50, 3)
    assert seen[15, 15, 2] > seen[15, 15, 0]
    assert seen[11, 15, 0] > seen[11, 15, 2]
    assert tuple(seen[10, 10]) == (255, 220, 0)
    assert seen[30, 30, 0] == seen[30, 30, 1] == seen[30, 30, 2]
    flat = decoded(overlay_png(np.full((4, 4), 9, dtype), np.zeros((4, 4), np.uint8), None))
    assert flat.shape == (4, 4, 3)


def test_json_refuses_nan():
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_bytes({"x": float("nan")})


def test_a_folder_that_cannot_be_written_is_one_error(tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        write_atomically(tmp_path / "no" / "x", b"")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(OutputError, match="cannot make this folder"):
        save(Segmentation(CLASSES), tmp_path / "file" / "sub", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_save_writes_masks_or_tables(tmp_path):
    written = save(Segmentation(CLASSES), tmp_path / "new", "x")
    assert {p.name for p in written} == {
        "x_seg-axon.png",
        "x_seg-myelin.png",
        "x_seg-axonmyelin.png",
    }
    labels = (CLASSES > 0).astype(np.int32)
    fibres = Fibres({"id": np.array([1])}, Instances(labels, labels, 1))
    assert [p.name for p in save(fibres, tmp_path, "x")] == [
        "x_instances.tif",
        "x_morphometrics.csv",
    ]
    assert all(p.stat().st_size for p in written)
    before = written[0].read_bytes()
    with pytest.raises(OutputExistsError, match="overwrite=True"):
        save(Segmentation(CLASSES * 0), tmp_path / "new", "x")
    assert written[0].read_bytes() == before
    save(Segmentation(CLASSES * 0), tmp_path / "new", "x", overwrite=True)
    assert written[0].read_bytes() != before


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("a.png", "a"),
        ("a.ome.tif", "a"),
        ("a.b.tiff", "a.b"),
        (".ome.tif", ".ome"),
        ("A.OME.TIF", "A"),
    ],
)
def test_stems(tmp_path, name, stem):
    assert results.stem_of(tmp_path / name) == stem


def place(folder):
    return results.Place(folder, "x", ENDINGS)


def publish(folder, files=FILES, existing="overwrite", made_from="A"):
    run = {"ranvier": "0", "command": "segment", "identity": made_from}
    results.check_room(place(folder), existing)
    return results.publish(files, run, place=place(folder), existing=existing)


def is_current(folder):
    return results.is_current(place(folder), "A")


def test_a_set_is_written_and_known_as_current(tmp_path):
    assert not is_current(tmp_path)
    paths = publish(tmp_path)
    assert {p.name for p in paths} == {p.name for p in tmp_path.iterdir()}
    assert is_current(tmp_path)


def test_a_set_with_a_missing_file_is_made_again(tmp_path):
    publish(tmp_path)
    (tmp_path / "x_a.png").unlink()
    assert not is_current(tmp_path)
    publish(tmp_path, existing="skip")
    assert is_current(tmp_path)


def test_a_set_of_another_input_is_neither_kept_nor_replaced_in_silence(tmp_path):
    publish(tmp_path, made_from="B")
    with pytest.raises(OutputExistsError, match="another input, model or other settings"):
        is_current(tmp_path)


def test_results_are_replaced_only_when_asked(tmp_path):
    publish(tmp_path)
    with pytest.raises(OutputExistsError, match="--overwrite"):
        results.check_room(place(tmp_path), "refuse")
    publish(tmp_path, {"_a.png": b"new", "_b.csv": b"two"})
    assert (tmp_path / "x_a.png").read_bytes() == b"new"


def test_what_the_user_made_or_changed_is_never_overwritten(tmp_path):
    (tmp_path / "x_a.png").write_bytes(b"the user's own")
    for existing in ("overwrite", "skip"):
        with pytest.raises(OutputExistsError, match="not written by Ranvier"):
            publish(tmp_path, existing=existing)
    (tmp_path / "x_a.png").unlink()
    publish(tmp_path)
    (tmp_path / "x_a.png").write_bytes(b"corrected by hand")
    with pytest.raises(OutputExistsError, match="changed since"):
        publish(tmp_path)
    assert (tmp_path / "x_a.png").read_bytes() == b"corrected by hand"
    assert is_current(tmp_path)  # and the corrected set counts as done


def test_a_file_that_appears_during_the_work_is_not_overwritten(tmp_path):
    results.check_room(place(tmp_path), "refuse")
    (tmp_path / "x_b.csv").write_bytes(b"appeared")
    with pytest.raises(OutputExistsError):
        results.publish(FILES, RUN, place=place(tmp_path), existing="refuse")
    assert [p.name for p in tmp_path.iterdir()] == ["x_b.csv"]


def test_files_that_a_later_run_leaves_stay_ours_and_traceable(tmp_path):
    publish(tmp_path)
    table = results.Place(tmp_path, "x", ("_b.csv",))
    run = {"ranvier": "0", "command": "measure", "identity": "C"}
    results.check_room(table, "overwrite")
    results.publish({"_b.csv": b"again"}, run, place=table, existing="overwrite")
    record = json.loads((tmp_path / "x_run.json").read_text())
    assert set(record["kept"]) == {"x_a.png"}
    assert record["kept_from"]["command"] == "segment"
    publish(tmp_path)
    assert is_current(tmp_path)


@pytest.mark.parametrize("content", ['{"mine": 1}', "{", '{"ranvier": 1, "outputs": []}'])
def test_a_foreign_run_record_is_not_overwritten(tmp_path, content):
    (tmp_path / "x_run.json").write_text(content)
    with pytest.raises(OutputExistsError, match="not written by Ranvier"):
        publish(tmp_path)


@pytest.mark.parametrize("first", [0, 1, 2])
@pytest.mark.parametrize("second", [0, 1, 2])
@pytest.mark.parametrize("existing", ["overwrite", "skip"])
def test_an_interrupted_run_can_be_repeated(tmp_path, monkeypatch, first, second, existing):
    publish(tmp_path)
    for attempt, written in enumerate((first, second)):
        calls = iter(range(10))

        def stops(path, content, calls=calls, written=written):
            if next(calls) > written:
                raise KeyboardInterrupt
            write_atomically(path, content)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(results, "write_atomically", stops)
            publish(tmp_path, {"_a.png": b"a%d" % attempt, "_b.csv": b"b%d" % attempt})
        assert not is_current(tmp_path)
    publish(tmp_path, existing=existing)
    assert is_current(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"x_a.png", "x_b.csv", "x_run.json"}


def test_the_place_for_results_must_be_a_folder(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(SettingsError, match="is a file"):
        results.check_room(place(tmp_path / "file"), "refuse")
