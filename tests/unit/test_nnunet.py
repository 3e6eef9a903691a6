from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from ranvier.datasets.aggregate import aggregate
from ranvier.datasets.collection import list_dataset, read_dataset, read_datasets
from ranvier.datasets.held_out import HeldOut
from ranvier.datasets.nnunet import read_folds
from ranvier.datasets.nnunet_export import export_nnunet
from ranvier.errors import DatasetError, MaskError, OutputExistsError, SettingsError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
TRUTH = np.repeat(np.array([[0, 1, 2, 0]], np.uint8), 8, axis=0).repeat(2, axis=1)
LABELS = {"background": 0, "myelin": 1, "axon": 2}


@pytest.fixture
def raw(tmp_path, write_png):
    for number in range(3):
        write_png(f"imagesTr/c{number}_0000.png", GREY + number)
        write_png(f"labelsTr/c{number}.png", TRUTH)
    write_png("imagesTs/t_0000.png", GREY + 9)
    describe(tmp_path)
    return tmp_path


def describe(folder, **about):
    base = {"channel_names": {"0": "rescale_to_0_1"}, "labels": LABELS, "file_ending": ".png"}
    (folder / "dataset.json").write_text(json.dumps({"name": "toy", **base, **about}))


def test_raw_datasets_are_read(raw, write_png):
    listing = list_dataset(raw)
    assert [(a.name, a.subject, a.role) for a in listing.images] == [
        (f"c{n}", f"c{n}", None) for n in range(3)
    ]
    assert any("1 test image(s) without labels" in n for n in listing.notes)
    assert any("each image is its own subject" in n for n in listing.notes)
    write_png("labelsTs/t.png", TRUTH)
    assert [a.role for a in read_dataset(raw)] == ["train"] * 3 + ["test"]


@pytest.mark.parametrize(
    "about",
    [
        {"labels": {"Background": 0, "Axon": 1, "Myelin": 2}},
        {"labels": {"0": "background", "1": "axon", "2": "myelin"}, "modality": {"0": "SEM"}},
        {"labels": {"background": 0, "axon": 1, "myelin": 2, "vessel": 3}},
    ],
)
def test_labels_are_taken_by_name(raw, write_png, about):
    describe(raw, **about)
    for number in range(3):
        write_png(f"labelsTr/c{number}.png", np.array([0, 2, 1], np.uint8)[TRUTH])
    assert np.array_equal(read_dataset(raw)[1].load()[1], TRUTH)
    if "vessel" in about["labels"]:
        assert any("vessel" in n for n in list_dataset(raw).notes)
        write_png("labelsTr/c1.png", np.array([0, 2, 3], np.uint8)[TRUTH])
        with pytest.raises(MaskError, match="neither background, myelin nor axon"):
            read_dataset(raw)[1].load()


@pytest.mark.parametrize(
    "labels",
    [
        None,
        {"background": 0, "axon": 1},
        {"background": 0, "axon": 1, "myelin": 1},
        {"background": 0, "axon": [1, 2], "myelin": 1},
        {"background": 0, "axon": "1", "myelin": 2},
        {"background": 0, "axon": True, "myelin": 2},
        {"0": ["a"], "1": 5},
    ],
)
def test_other_classes_are_refused(raw, labels):
    describe(raw, labels=labels)
    with pytest.raises(DatasetError, match=r"dataset\.json"):
        read_dataset(raw)


def test_all_problems_are_listed(raw, write_png):
    write_png("imagesTr/c0_0001.png", GREY)
    write_png("imagesTr/odd.png", GREY)
    write_png("imagesTr/d_0000.png", GREY)
    write_png("labelsTr/e.png", TRUTH)
    (raw / "ranvier.json").write_text('{"cases": {"c1": {"pixel_size_um": "x"}}}')
    problems = list_dataset(raw).problems
    assert len(problems) == 5
    for text in ("several channels", "odd.png", "d_0000.png has no label", "e.png has no", "c1"):
        assert any(text in p for p in problems)


@pytest.mark.parametrize(
    "splits",
    [
        "[",
        '{"train": []}',
        '[{"train": ["a"], "val": ["a"]}]',
        '[{"train": [], "val": ["a"]}, {"train": [], "val": ["a"]}]',
    ],
)
def test_folds_that_make_no_sense_are_refused(raw, splits):
    (raw / "splits_final.json").write_text(splits)
    with pytest.raises(DatasetError, match="splits_final"):
        read_folds(raw)


def made_of(folder):
    return aggregate(read_datasets([folder]), name="TWO_AGG", folds=2, held_out=HeldOut(subjects=1))


def test_a_round_trip_keeps_everything(phantom_data, tmp_path):
    made = made_of(phantom_data)
    folder = export_nnunet(made, tmp_path, number=7)
    assert folder.name == "Dataset007_TWO_AGG"
    back = {(a.source, a.name): a for a in read_dataset(folder)}
    assert len(back) == 6
    folds = read_folds(folder)
    cases = {a.image.name.removesuffix("_0000.png"): a for a in back.values()}
    by_name = {(cases[c].source, cases[c].name): f for c, f in folds.items()}
    for entry in made.entries:
        old, new = entry.image, back[entry.image.source, entry.image.name]
        for name in ("subject", "role", "pixel_size", "modality", "species", "organ", "licence"):
            assert getattr(new, name) == getattr(old, name)
        assert np.array_equal(old.load()[0].pixels, new.load()[0].pixels)
        assert np.array_equal(old.load()[1], new.load()[1])
        assert by_name.get((old.source, old.name)) == entry.fold
    again = made_of(folder)
    assert [(e.image.name, e.fold) for e in again.entries] == [
        (e.image.name, e.fold) for e in made.entries
    ]


def test_what_nnunet_reads(phantom_data, tmp_path):
    made = made_of(phantom_data)
    folder = export_nnunet(made, tmp_path)
    about = json.loads((folder / "dataset.json").read_text())
    assert (about["numTraining"], about["numTest"]) == (4, 2)
    assert about["labels"] == LABELS
    assert about["channel_names"] == {"0": "rescale_to_0_1"}
    images = {p.name.removesuffix("_0000.png") for p in (folder / "imagesTr").iterdir()}
    assert images == {p.stem for p in (folder / "labelsTr").iterdir()}
    for part in json.loads((folder / "splits_final.json").read_text()):
        assert set(part["train"]) | set(part["val"]) == images
        assert not set(part["train"]) & set(part["val"])
    for path in (folder / "labelsTs").iterdir():
        with Image.open(path) as mask:
            assert mask.mode == "L"
            assert set(np.unique(np.asarray(mask))) <= {0, 1, 2}
    assert len(list((folder / "imagesTs").iterdir())) == 2
    with pytest.raises(OutputExistsError):
        export_nnunet(made, tmp_path)
    with pytest.raises(SettingsError):
        export_nnunet(made, tmp_path, number=1000)


def test_deep_and_floating_images_are_kept_as_well_as_png_can(tmp_path):
    import tifffile

    home = tmp_path / "deep"
    for kind in ("images", "masks"):
        (home / kind).mkdir(parents=True)
    deep = GREY.astype(np.uint16) * 900
    tifffile.imwrite(home / "images/a b.tif", deep)
    tifffile.imwrite(home / "images/a-b.tif", GREY.astype(np.float32) / 7 - 3)
    for name in ("a b", "a-b"):
        Image.fromarray(TRUTH).save(home / f"masks/{name}.png")
    folder = export_nnunet(aggregate(read_dataset(home), name="X", folds=2), tmp_path)
    back = {a.name: a.load()[0].pixels for a in read_dataset(folder)}
    assert np.array_equal(back["a b"], deep)
    assert back["a-b"].dtype == np.uint16
    assert np.allclose(back["a-b"] / 65535, GREY / 63, atol=1e-5)


def test_a_failed_export_leaves_nothing(phantom_data, tmp_path):
    made = made_of(phantom_data)
    broken = made.entries[3].image
    object.__setattr__(broken, "sha256", ("0" * 64, *broken.sha256[1:]))
    with pytest.raises(DatasetError, match="has changed"):
        export_nnunet(made, tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
