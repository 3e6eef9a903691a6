from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranvier.datasets.annotated import Annotated
from ranvier.datasets.collection import read_dataset, read_datasets
from ranvier.datasets.folds import split
from ranvier.errors import DatasetError

GREY = np.arange(64, dtype=np.uint8).reshape(8, 8)
TRUTH = np.repeat(np.array([[0, 1, 2, 0]], np.uint8), 8, axis=0).repeat(2, axis=1)


def level_mask(middle=127):
    return np.array([0, middle, 255], np.uint8)[TRUTH]


@pytest.fixture
def bids(tmp_path, write_png):
    (tmp_path / "dataset_description.json").write_text('{"Name": "toy"}')
    for subject, sample in (("1", "a"), ("1", "b"), ("2", "a")):
        stem = f"sub-{subject}_sample-{sample}_SEM"
        write_png(f"sub-{subject}/micr/{stem}.png", GREY)
        labels = f"derivatives/labels/sub-{subject}/micr/{stem}_seg"
        if sample == "a":
            for kind, value in (("axon", 2), ("myelin", 1)):
                write_png(
                    f"{labels}-{kind}-manual.png", np.where(value == TRUTH, 255, 0).astype(np.uint8)
                )
        write_png(f"{labels}-axonmyelin-manual.png", level_mask(128))
    write_png("sub-2/micr/sub-2_sample-z_SEM.png", GREY)  # nobody drew on this one
    (tmp_path / "sub-1/micr/sub-1_SEM.json").write_text(
        '{"PixelSize": [100, 100], "PixelSizeUnits": "nm", "BodyPart": "CSPINE"}'
    )
    (tmp_path / "sub-1/micr/sub-1_sample-b_SEM.json").write_text('{"PixelSize": [70, 70]}')
    return tmp_path


def test_bids_is_read_with_inherited_pixel_sizes(bids):
    found = {a.name: a for a in read_dataset(bids)}
    assert set(found) == {"sub-1_sample-a_SEM", "sub-1_sample-b_SEM", "sub-2_sample-a_SEM"}
    assert {a.source for a in found.values()} == {"toy"}
    sizes = {n: a.pixel_size.um if a.pixel_size else None for n, a in found.items()}
    assert sizes == {
        "sub-1_sample-a_SEM": pytest.approx(0.1),
        "sub-1_sample-b_SEM": pytest.approx(0.07),
        "sub-2_sample-a_SEM": None,
    }
    assert found["sub-1_sample-a_SEM"].subject == "1"


def test_bids_masks_are_the_same_whether_one_or_two(bids):
    for annotated in read_dataset(bids):
        micrograph, classes = annotated.load()
        assert np.array_equal(micrograph.pixels, GREY)
        assert np.array_equal(classes, TRUTH)
        assert len(annotated.masks) == (1 if annotated.name.endswith("b_SEM") else 2)


@pytest.mark.parametrize(
    ("sidecar", "message"),
    [
        ("{", "JSON"),
        ("[]", "JSON object"),
        ('{"PixelSize": 0.1}', "two numbers"),
        ('{"PixelSize": ["a", 1]}', "two numbers"),
        ('{"PixelSize": [1, 1], "PixelSizeUnits": "furlong"}', "furlong"),
        ('{"PixelSize": [0.1, 0.2]}', "not square"),
        ('{"PixelSize": [0, 0]}', "outside"),
    ],
)
def test_a_bad_sidecar_is_named(bids, sidecar, message):
    (bids / "sub-2/micr/sub-2_SEM.json").write_text(sidecar)
    with pytest.raises(DatasetError, match=message) as caught:
        read_dataset(bids)
    assert "sub-2_SEM.json" in str(caught.value)


def test_all_problems_come_in_one_error(bids):
    for n in "12":
        (bids / f"sub-{n}/micr/sub-{n}_SEM.json").write_text("{")
    with pytest.raises(DatasetError, match=r"3 problem\(s\)"):
        read_dataset(bids)


@pytest.fixture
def folder(tmp_path, write_png):
    for name in ("a_1", "a_2", "b_1"):
        write_png(f"images/{name}.png", np.stack([GREY] * 3, axis=2))
        write_png(f"masks/{name}.png", level_mask())
    (tmp_path / "images" / "notes.txt").write_text("not an image")
    return tmp_path


@pytest.mark.parametrize(
    ("about", "subjects"),
    [
        ({}, ["a_1", "a_2", "b_1"]),
        ({"subject_from": "prefix"}, ["a", "a", "b"]),
        (
            {"groups": "the part of the name before the first underscore is the animal"},
            ["a", "a", "b"],
        ),
    ],
)
def test_folders_are_read(folder, about, subjects):
    (folder / "dataset.json").write_text(json.dumps({"name": "toy", "pixel_size_um": 0.2, **about}))
    found = read_dataset(folder)
    assert [a.subject for a in found] == subjects
    assert found[0].pixel_size.um == 0.2
    micrograph, classes = found[0].load()
    assert np.array_equal(micrograph.pixels, GREY)
    assert np.array_equal(classes, TRUTH)


def test_lonely_files_are_listed(folder, write_png):
    write_png("images/c.png", GREY)
    write_png("masks/d.png", GREY)
    write_png("masks/a_1.tif", GREY)
    with pytest.raises(DatasetError, match=r"3 problem\(s\)") as caught:
        read_dataset(folder)
    for text in ("images/c.png has no mask", "masks/d.png has no image", "share a name"):
        assert text in str(caught.value)


@pytest.mark.parametrize(
    "about", ["{", "[]", '{"subject_from": "x"}', '{"pixel_size_um": "x"}', '{"pixel_size_um": -1}']
)
def test_a_bad_description_is_refused(folder, about):
    (folder / "dataset.json").write_text(about)
    with pytest.raises(Exception, match=r"dataset\.json"):
        read_dataset(folder)


def test_image_and_mask_must_fit(folder, write_png):
    write_png("masks/a_1.png", level_mask()[:5])
    with pytest.raises(DatasetError, match="differ in shape"):
        read_dataset(folder)[0].load()


def test_what_is_no_dataset_is_refused(tmp_path):
    for path in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(DatasetError):
            read_dataset(path)


def test_a_folder_of_datasets_stands_for_all(phantom_data):
    found = read_datasets([phantom_data])
    assert Counter(Counter(a.source for a in found).values()) == {3: 2}
    with pytest.raises(DatasetError, match="share a name"):
        read_datasets([phantom_data, phantom_data])


def annotated(source, subject, name):
    return Annotated(source, subject, name, Path("x"), (Path("y"),))


@given(
    st.dictionaries(
        st.sampled_from("ABC"), st.lists(st.integers(1, 4), min_size=2, max_size=9), min_size=1
    ),
    st.integers(2, 5),
    st.integers(0, 3),
)
def test_folds_split_by_subject_and_hold_every_source(sources, folds, seed):
    images = tuple(
        annotated(source, f"{s}", f"{s}-{i}")
        for source, sizes in sources.items()
        for s, size in enumerate(sizes)
        for i in range(size)
    )
    held = []
    for fold in range(folds):
        result = split(images, fold=fold, folds=folds, seed=seed)
        assert set(result.train) | set(result.validation) == set(images)
        subjects = [
            {(a.source, a.subject) for a in part} for part in (result.train, result.validation)
        ]
        assert not subjects[0] & subjects[1]
        held += result.validation
        for source, sizes in sources.items():
            stands = any(a.source == source for a in result.validation)
            assert stands or len(sizes) < folds
            assert len(sizes) >= folds or any(w.startswith(source) for w in result.warnings)
    assert sorted(held, key=str) == sorted(images, key=str)
    assert split(images, fold=0, folds=folds, seed=seed) == split(
        images, fold=0, folds=folds, seed=seed
    )


@pytest.mark.parametrize(("fold", "folds"), [(5, 5), (-1, 5), (0, 1)])
def test_impossible_folds_are_refused(fold, folds):
    images = tuple(annotated("A", str(i), str(i)) for i in range(6))
    with pytest.raises(DatasetError, match="fold must be"):
        split(images, fold=fold, folds=folds)
    with pytest.raises(DatasetError, match="one subject"):
        split(images[:1], fold=0, folds=2)


def test_the_real_datasets_are_read(real_data):
    found = read_datasets([real_data])
    assert Counter(a.source for a in found) == {
        "data_axondeepseg_sem": 9,
        "TEM_PNS": 8,
        "BF_NERVE": 8,
    }
    assert len({a.subject for a in found if a.source == "BF_NERVE"}) == 3
    assert {a.pixel_size.um for a in found if a.subject == "rat7"} == {0.07}
    for a in found:
        micrograph, classes = a.load()
        assert classes.shape == micrograph.shape
        assert 0.02 < (classes == 2).mean() < 0.5
        assert 0.02 < (classes == 1).mean() < 0.5
