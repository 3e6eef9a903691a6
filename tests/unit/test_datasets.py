from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranvier.datasets.annotated import Annotated
from ranvier.datasets.checking import check
from ranvier.datasets.collection import list_dataset, read_dataset, read_datasets
from ranvier.datasets.folds import deal, everything, split
from ranvier.errors import DatasetError, MaskError
from ranvier.provenance import file_sha256

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
        ('{"PixelSize": [0.1, 0.1]}', "two numbers.*None"),
        ('{"PixelSize": ["a", 1], "PixelSizeUnits": "um"}', "two numbers"),
        ('{"PixelSize": [1, 1], "PixelSizeUnits": "furlong"}', "furlong"),
        ('{"PixelSize": [0.1, 0.2], "PixelSizeUnits": "um"}', "not square"),
        ('{"PixelSize": [0, 0], "PixelSizeUnits": "um"}', "outside"),
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
    with pytest.raises(DatasetError, match=r"2 problem\(s\)"):
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


def listed(folder):
    listing = list_dataset(folder)
    return {a.name: a for a in listing.images}, listing


@pytest.mark.parametrize(
    ("sidecar", "um", "note"),
    [
        ('{"PixelSize": 0.1, "PixelSizeUnits": "um"}', 0.1, "both edges"),
        ('{"PixelSize": [100, 100, 1], "PixelSizeUnits": "nm"}', 0.1, None),
        ('{"PixelSize": [1e-5, 1e-5], "PixelSizeUnits": "cm"}', 0.1, "not as BIDS"),
        ('{"PixelSize": [0.1, 0.1], "PixelSizeUnits": "\\u00b5m"}', 0.1, "not as BIDS"),
        ("{}", None, "no sidecar names a pixel size"),
    ],
)
def test_sidecars_that_can_be_understood_are_taken_with_a_note(bids, sidecar, um, note):
    (bids / "sub-2/micr/sub-2_SEM.json").write_text(sidecar)
    image = listed(bids)[0]["sub-2_sample-a_SEM"]
    assert (image.pixel_size and image.pixel_size.um) == (um if um is None else pytest.approx(um))
    assert (note is None and image.notes == ()) or any(note in n for n in image.notes)


def test_bids_tables_describe_the_images(bids):
    (bids / "dataset_description.json").write_text('{"Name": "toy", "License": "CC0"}')
    (bids / "participants.tsv").write_text(
        "﻿participant_id\tspecies\tpathology\nsub-1\trat\thealthy\n2\tmouse\tn/a\n", "utf-8"
    )
    (bids / "samples.tsv").write_text(
        "sample_id\tparticipant_id\tpathology\tsplit\nsample-b\tsub-1\tcrush\ttest\n\n"
    )
    (bids / "sub-2/micr/sub-2_SEM.json").write_text('{"BodyPart": "BRAIN"}')
    images, listing = listed(bids)
    a, b, c = (images[n] for n in sorted(images))
    assert [i.species for i in (a, b, c)] == ["rat", "rat", "mouse"]
    assert [i.pathology for i in (a, b, c)] == ["healthy", "crush", None]
    assert [i.organ for i in (a, b, c)] == ["CSPINE", "CSPINE", "BRAIN"]
    assert [i.role for i in (a, b, c)] == [None, "test", None]
    assert [i.sample for i in (a, b, c)] == ["a", "b", "a"]
    assert {i.licence for i in (a, b, c)} == {"CC0"}
    assert {i.modality for i in (a, b, c)} == {"SEM"}
    assert any("sample-a of sub-1" in n for n in listing.notes)
    assert any("sub-2_sample-z_SEM.png" in n for n in listing.notes)
    assert not listing.problems


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("participants.tsv", "who\tspecies\nsub-1\trat\n", "no column participant_id"),
        ("participants.tsv", "participant_id\tspecies\nsub-1 rat\n", "line 2"),
        (
            "participants.tsv",
            "participant_id\tspecies\nsub-1\trat\nsub-1\tmouse\n",
            "two different rows",
        ),
        ("samples.tsv", "sample_id\tparticipant_id\tsplit\na\t1\tvalid\n", "'valid'"),
        ("dataset_description.json", "[", "JSON"),
    ],
)
def test_bids_tables_that_make_no_sense_are_problems(bids, name, text, message):
    (bids / name).write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_dataset(bids)


def test_masks_need_not_say_manual(bids):
    labels = bids / "derivatives/labels/sub-2/micr"
    for path in list(labels.iterdir()):
        path.rename(path.with_name(path.name.replace("-manual", "")))
    image = listed(bids)[0]["sub-2_sample-a_SEM"]
    assert len(image.masks) == 2
    assert np.array_equal(image.load()[1], TRUTH)


def test_masks_without_their_image_or_pair_are_problems(bids, write_png):
    labels = "derivatives/labels/sub-1/micr/sub-1_sample"
    write_png(f"{labels}-q_SEM_seg-axon-manual.png", GREY)
    (bids / f"{labels}-a_SEM_seg-axonmyelin-manual.png").unlink()
    (bids / f"{labels}-a_SEM_seg-myelin-manual.png").unlink()
    write_png("sub-2/micr/sub-3_sample-a_SEM.png", GREY)
    write_png("derivatives/labels/sub-2/micr/sub-3_sample-a_SEM_seg-axonmyelin.png", level_mask())
    problems = listed(bids)[1].problems
    assert len(problems) == 3
    for text in ("no such image", "an axon mask but no myelin mask", "does not say sub-2"):
        assert any(text in p for p in problems)


@pytest.mark.parametrize("kind", ["same", "other shape", "broken", "differs"])
def test_a_tif_beside_a_png(bids, write_png, kind):
    name = "sub-2/micr/sub-2_sample-a_SEM"
    other = {"same": GREY, "other shape": GREY[:5], "differs": GREY + 1}
    if kind == "broken":
        (bids / f"{name}.tif").write_bytes(b"II*\0 and then nothing")
    else:
        write_png(f"{name}.tif", other[kind])
    images, listing = listed(bids)
    if kind == "differs":
        assert "share a name and differ" in listing.problems[0]
        return
    image = images["sub-2_sample-a_SEM"]
    assert image.image.suffix == ".png"
    assert "took sub-2_sample-a_SEM.png" in image.notes[0]
    assert not listing.problems


def test_sessions_are_read(bids, write_png):
    stem = "sub-2_ses-1_sample-a_TEM"
    write_png(f"sub-2/ses-1/micr/{stem}.tif", GREY)
    write_png(f"derivatives/labels/sub-2/ses-1/micr/{stem}_seg-axonmyelin.png", level_mask())
    (bids / "sub-2/sub-2_TEM.json").write_text('{"PixelSize": [5, 5], "PixelSizeUnits": "nm"}')
    image = listed(bids)[0][stem]
    assert (image.subject, image.sample, image.modality) == ("2", "a", "TEM")
    assert image.pixel_size.um == pytest.approx(0.005)


def test_stray_greys_and_alpha_are_accepted_and_told(folder, write_png):
    mask = level_mask()
    mask[0, 0] = 60
    write_png("masks/a_1.png", np.stack([mask, np.full_like(mask, 200)], axis=2))
    loaded = read_dataset(folder)[0].load_noted()
    assert np.array_equal(loaded.classes, TRUTH)
    assert any("1 pixel of another grey (values 60)" in n for n in loaded.notes)
    assert any("alpha dropped" in n for n in loaded.notes)


def test_folders_have_test_sets_and_say_more(folder, write_png):
    write_png("images_test/c_1.png", GREY)
    write_png("masks_test/c_1.png", level_mask())
    about = {
        "name": "toy",
        "species": "rat",
        "pixel_size_um": {"a_1": 0.1, "b_1": 0.2},
        "test": ["b_1.png"],
        "images": {"a_2": {"subject": "z", "species": "mouse", "pixel_size_um": 0.3, "sample": 4}},
    }
    (folder / "dataset.json").write_text(json.dumps(about))
    images = listed(folder)[0]
    assert {n: i.role for n, i in images.items()} == {
        "a_1": "train",
        "a_2": "train",
        "b_1": "test",
        "c_1": "test",
    }
    assert {n: i.pixel_size and i.pixel_size.um for n, i in images.items()} == {
        "a_1": 0.1,
        "a_2": 0.3,
        "b_1": 0.2,
        "c_1": None,
    }
    a_2 = images["a_2"]
    assert (a_2.subject, a_2.species, a_2.sample) == ("z", "mouse", "4")
    assert images["a_1"].species == "rat"


@pytest.mark.parametrize(
    "about",
    [
        {"test": ["nobody"]},
        {"test": "a_1"},
        {"images": {"nobody": {}}},
        {"images": {"a_1": {"colour": "red"}}},
        {"images": []},
        {"mask_values": {"axon": 255}},
        {"mask_values": {"background": 0, "myelin": 255, "axon": 255}},
    ],
)
def test_descriptions_of_what_is_not_there_are_problems(folder, about):
    (folder / "dataset.json").write_text(json.dumps(about))
    with pytest.raises(DatasetError, match=r"1 problem\(s\)"):
        read_dataset(folder)


@pytest.mark.parametrize("values", [(255, 0, 80), (0, 1, 255), (0, 255, 127)])
def test_unusual_mask_values(folder, write_png, values):
    about = {"mask_values": dict(zip(("background", "myelin", "axon"), values, strict=True))}
    (folder / "dataset.json").write_text(json.dumps(about))
    for name in ("a_1", "a_2", "b_1"):
        write_png(f"masks/{name}.png", np.array(values, np.uint8)[TRUTH])
    assert np.array_equal(read_dataset(folder)[0].load()[1], TRUTH)
    write_png("masks/a_1.png", np.array([*values[:2], 81], np.uint8)[TRUTH])
    with pytest.raises(MaskError, match="neither background, myelin nor axon"):
        read_dataset(folder)[0].load()


def test_checking_collects_the_problems_of_all_files(folder, write_png):
    write_png("masks/a_1.png", level_mask()[:5])
    write_png("masks/b_1.png", np.arange(64, dtype=np.uint8).reshape(8, 8) * 3)
    with pytest.raises(DatasetError, match=r"2 problem\(s\)") as caught:
        check(read_dataset(folder))
    for text in ("a_1.png", "differ in shape", "b_1.png", "not those of"):
        assert text in str(caught.value)
    (known,) = check(read_dataset(folder)[1:2])
    assert known.shape == (8, 8)
    assert known.class_pixels == tuple(np.bincount(TRUTH.ravel()).tolist())
    assert known.image.sha256 == (
        file_sha256(folder / "images/a_2.png"),
        file_sha256(folder / "masks/a_2.png"),
    )


def test_a_changed_file_is_named_when_it_is_loaded(folder, write_png):
    known = check(read_dataset(folder))[0].image
    known.load()
    write_png("masks/a_1.png", level_mask(128))
    with pytest.raises(DatasetError, match="has changed") as caught:
        known.load()
    assert caught.value.where.endswith("masks/a_1.png")


def test_test_images_are_on_no_side_of_a_split():
    images = tuple(annotated("A", str(i), str(i)) for i in range(6))
    images = (*images, replace(annotated("A", "t", "t"), role="test"))
    for result in (split(images, fold=1, folds=3), everything(images)):
        assert {a.name for a in (*result.train, *result.validation)} == set("012345")


@given(st.lists(st.integers(1, 12), min_size=1, max_size=5), st.integers(2, 6), st.integers(0, 9))
def test_folds_are_balanced_across_sources(sources, folds, seed):
    images = [
        annotated(f"S{n}", f"{i}", f"{i}") for n, size in enumerate(sources) for i in range(size)
    ]
    dealt = deal(images, folds=folds, seed=seed)
    assert dealt == deal(images[::-1], folds=folds, seed=seed)
    union = Counter(dealt.values())
    counts = [union[f] for f in range(folds)]
    assert max(counts) - min(counts) <= 1
    for n in range(len(sources)):
        counts = [sum(s == f"S{n}" and f == g for (s, _), g in dealt.items()) for f in range(folds)]
        assert max(counts) - min(counts) <= 1


@given(st.lists(st.integers(1, 6), min_size=2, max_size=9), st.integers(2, 5), st.integers(0, 5))
def test_fullest_and_emptiest_fold_differ_by_one_subject_at_most(sizes, folds, seed):
    images = [
        annotated("A", f"{s}", f"{s}-{i}") for s, size in enumerate(sizes) for i in range(size)
    ]
    dealt = deal(images, folds=folds, seed=seed)
    counts = [sum(dealt[a.source, a.subject] == f for a in images) for f in range(folds)]
    assert max(counts) - min(counts) <= max(sizes)


def test_kin_stay_together_and_pixels_break_ties():
    images = [annotated(s, f"{i}", f"{i}") for s in "AB" for i in range(5)]
    for seed in range(5):
        dealt = deal(images, folds=5, seed=seed, kin=[(("A", "1"), ("B", "3"))])
        assert dealt["A", "1"] == dealt["B", "3"]
    pixels = {("A", "0"): 100, ("A", "1"): 1, ("B", "0"): 1, ("B", "1"): 100}
    few = [a for a in images if a.name in "01"]
    dealt = deal(few, folds=2, pixels=pixels, seed=1)
    in_fold = [sum(pixels[s, n] for (s, n), f in dealt.items() if f == fold) for fold in (0, 1)]
    assert in_fold == [101, 101]


def test_another_seed_deals_otherwise():
    images = [annotated("A", f"{i}", f"{i}") for i in range(10)]
    ways = {tuple(sorted(deal(images, folds=5, seed=s).items())) for s in range(5)}
    assert len(ways) == 5
