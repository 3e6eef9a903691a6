from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from ranvier.datasets import aggregate as aggregating
from ranvier.datasets.aggregate import aggregate
from ranvier.datasets.annotated import Annotated
from ranvier.datasets.checking import Examined
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.held_out import HeldOut
from ranvier.errors import DatasetError, SettingsError

MASK = np.repeat(np.array([[0, 127, 255, 0]], np.uint8), 8, axis=0).repeat(2, axis=1)


def draw(folder, sizes, *, test=(), first=0):
    """A source with so many images for each subject; every image differs from all others."""
    for role, names in (("", sizes), ("_test", test)):
        for subject, size in enumerate(names):
            for number in range(size):
                stem = f"{'t' if role else 's'}{subject}_{number}"
                pixels = np.random.default_rng((first, bool(role), subject, number)).integers(
                    0, 255, (8, 8), dtype=np.uint8
                )
                for kind, values in (("images", pixels), ("masks", MASK)):
                    path = folder / f"{kind}{role}" / f"{stem}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    Image.fromarray(values).save(path)
    (folder / "dataset.json").write_text(f'{{"name": "{folder.name}", "subject_from": "prefix"}}')
    return folder


@pytest.fixture
def sources(tmp_path):
    return [
        draw(tmp_path / "A", [1, 2, 1, 1, 1], test=[1], first=1),
        draw(tmp_path / "B", [1, 1, 1], first=2),
    ]


def test_the_test_set_is_the_union_of_the_sources_own(sources):
    made = aggregate(read_datasets(sources), name="X_AGG")
    assert [(a.source, a.name, a.role) for a in made.test] == [("A", "t0_0", "test")]
    assert any(w.startswith("B has no test set of its own") for w in made.warnings)
    for fold in range(5):
        part = made.split(fold)
        assert len(part.train) + len(part.validation) == 9
        assert not {a.role for a in (*part.train, *part.validation)} - {"train"}
    assert len(made.everything().train) == 9
    assert made.everything().validation == ()


def test_a_dedicated_model_has_the_folds_of_the_whole(sources):
    made = aggregate(read_datasets(sources), name="X_AGG")
    for fold in range(5):
        whole, part = made.split(fold), made.split(fold).of(["B"])
        assert {a.source for a in part.train} == {"B"}
        assert part.train == tuple(a for a in whole.train if a.source == "B")
        assert part.validation == tuple(a for a in whole.validation if a.source == "B")
    with pytest.raises(DatasetError, match="no training images of a source") as caught:
        made.split(0).of(["B", "C"])
    assert "C" in str(caught.value)


def test_what_a_source_lacks_is_said(sources):
    made = aggregate(read_datasets(sources), name="X_AGG")
    for fold in range(5):
        assert "A" in {a.source for a in made.split(fold).validation}
    missing = [f for f in range(5) if "B" not in {a.source for a in made.split(f).validation}]
    assert len(missing) == 2
    said = f"no validation images in fold(s) {missing[0]}, {missing[1]}"
    assert any(w.startswith("B has 3 subject(s) for 5 folds") and said in w for w in made.warnings)
    with pytest.raises(DatasetError, match="folds 0 to 4"):
        made.split(5)


def test_a_source_of_one_subject_is_warned_of(tmp_path):
    folders = [draw(tmp_path / "A", [1, 1], first=1), draw(tmp_path / "B", [3], first=2)]
    made = aggregate(read_datasets(folders), name="X", folds=2)
    assert any("B is in no training set of fold" in w for w in made.warnings)


def test_too_few_subjects_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="too few for 5 folds") as caught:
        aggregate(read_datasets([draw(tmp_path / "A", [1, 1])]), name="X")
    assert "at most 2" in str(caught.value)


def test_duplicates_are_found_across_sources_names_and_formats(sources):
    a, b = sources
    pixels = Image.open(a / "images/s1_0.png")
    pixels.save(b / "images/s2_0.png", compress_level=0)
    assert (a / "images/s1_0.png").read_bytes() != (b / "images/s2_0.png").read_bytes()
    with pytest.raises(DatasetError, match="B/s2_0 is the same image as A/s1_0") as caught:
        aggregate(read_datasets(sources), name="X")
    assert "--drop-duplicates" in str(caught.value)
    for order in (sources, sources[::-1]):
        made = aggregate(read_datasets(order), name="X", folds=3, drop_duplicates=True)
        assert "B/s2_0 is the same image as A/s1_0: left out" in made.warnings
        assert ("B", "s2_0") not in {(e.image.source, e.image.name) for e in made.entries}


def test_subjects_that_shared_an_image_stay_together(tmp_path):
    folders = [draw(tmp_path / n, [2, 2, 2], first=i) for i, n in enumerate("AB")]
    shutil.copy(folders[0] / "images/s0_0.png", folders[1] / "images/s2_1.png")
    for seed in range(4):
        made = aggregate(read_datasets(folders), name="X", folds=3, seed=seed, drop_duplicates=True)
        fold = {(e.image.source, e.image.subject): e.fold for e in made.entries}
        assert fold["A", "s0"] == fold["B", "s2"]


def test_a_test_image_that_is_trained_on_is_always_refused(sources):
    a, b = sources
    shutil.copy(a / "images_test/t0_0.png", b / "images/s0_0.png")
    for drop in (False, True):
        with pytest.raises(DatasetError, match="only one of them is in the test set"):
            aggregate(read_datasets(sources), name="X", drop_duplicates=drop)


def test_all_problems_come_in_one_error(sources):
    a, b = sources
    shutil.copy(a / "images_test/t0_0.png", b / "images/s0_0.png")
    (a / "images_test/t0_0.png").rename(a / "images_test/s0_9.png")
    (a / "masks_test/t0_0.png").rename(a / "masks_test/s0_9.png")
    with pytest.raises(DatasetError, match=r"2 problem\(s\)") as caught:
        aggregate(read_datasets(sources), name="X")
    assert "A: subject s0 has test images and others" in str(caught.value)


def test_nothing_depends_on_the_order_and_seeds_matter(sources):
    images = read_datasets(sources)
    made = aggregate(images, name="X", seed=3)
    assert aggregate(images[::-1], name="X", seed=3) == made
    assert aggregate(read_datasets(sources[::-1]), name="X", seed=3) == made
    ways = {
        tuple(e.fold for e in aggregate(images, name="X", seed=seed).entries) for seed in range(4)
    }
    assert len(ways) == 4


@pytest.mark.parametrize(
    ("held_out", "taken"),
    [(HeldOut(share=0.3), 1), (HeldOut(subjects=1), 1), (HeldOut(subjects=2), 1)],
)
def test_subjects_are_taken_for_the_test_on_request(sources, held_out, taken):
    made = aggregate(read_datasets(sources), name="X", folds=2, held_out=held_out)
    assert Counter(a.source for a in made.test) == {"A": 1, "B": taken}
    assert any("B has no test set of its own: took" in w for w in made.warnings)


def test_few_subjects_are_not_taken(tmp_path):
    folder = draw(tmp_path / "A", [1, 1])
    made = aggregate(read_datasets([folder]), name="X", folds=2, held_out=HeldOut(share=0.5))
    assert made.test == ()
    assert any("too few to take one" in w for w in made.warnings)


@pytest.mark.parametrize("share", [0.0, 1.0, float("nan"), -1.0])
def test_settings_out_of_range_are_refused(share):
    for make in (
        lambda: HeldOut(share=share),
        lambda: HeldOut(subjects=0),
        lambda: HeldOut(share=0.1, subjects=1),
        lambda: aggregate((), name="a b"),
        lambda: aggregate((), name="X", folds=1),
    ):
        with pytest.raises(SettingsError):
            make()


@pytest.fixture
def unread(monkeypatch):
    """Take images as they are, each with pixels of its own, without files."""

    def check(images):
        return tuple(
            Examined(replace(i, sha256=("x", "y")), (8, 8), (64, 0, 0), f"{i.source}/{i.name}")
            for i in images
        )

    monkeypatch.setattr(aggregating, "check", check)


SUBJECTS = st.lists(st.tuples(st.integers(1, 4), st.booleans()), min_size=1, max_size=8)


@given(
    drawn=st.dictionaries(st.sampled_from("ABCD"), SUBJECTS, min_size=1),
    folds=st.integers(2, 4),
    seed=st.integers(0, 3),
    share=st.sampled_from([None, 0.1, 0.4]),
    mixed=st.randoms(use_true_random=False),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_the_rules_hold(unread, drawn, folds, seed, share, mixed):
    images = [
        Annotated(s, f"{n}", f"{n}-{i}", Path("x"), (Path("y"),), role="test" if test else None)
        for s, subjects in drawn.items()
        for n, (size, test) in enumerate(subjects)
        for i in range(size)
    ]
    try:
        made = aggregate(images, name="X", folds=folds, seed=seed, held_out=HeldOut(share))
    except DatasetError as error:
        assert "too few" in str(error)
        return
    shuffled = list(images)
    mixed.shuffle(shuffled)
    assert aggregate(shuffled, name="X", folds=folds, seed=seed, held_out=HeldOut(share)) == made
    own = {(a.source, a.name) for a in images if a.role == "test"}
    tested = {(a.source, a.name) for a in made.test}
    assert own <= tested
    has_own = {source for source, _ in own}
    assert share is not None or tested == own
    assert {s for s, _ in tested - own} & has_own == set()
    sides = [{(a.source, a.subject) for a in made.test}]
    sides += [{(a.source, a.subject) for a in made.split(f).validation} for f in range(folds)]
    assert sum(len(s) for s in sides) == len(set().union(*sides))
    for fold in range(folds):
        part = made.split(fold)
        assert part.validation
        assert len(part.train) + len(part.validation) + len(made.test) == len(images)
        for source, subjects in drawn.items():
            left = {s for s in range(len(subjects)) if (source, str(s)) not in sides[0]}
            stands = any(a.source == source for a in part.validation)
            assert stands or len(left) < folds
            assert stands or any(w.startswith(f"{source} has ") for w in made.warnings)


def test_the_real_data_make_an_aggregate(real_data):
    made = aggregate(read_datasets([real_data]), name="FULL_AGG", held_out=HeldOut(share=0.15))
    assert made.counts()["images"] == 25
    assert len(made.test) == 3
    for fold in range(5):
        here = {a.source for a in made.split(fold).validation}
        assert {"TEM_PNS", "data_axondeepseg_sem"} <= here
    assert any(w.startswith("BF_NERVE has 2 subject(s)") for w in made.warnings)
    assert {e.image.species for e in made.entries if "axondeepseg" in e.image.source} == {
        "rattus norvegicus"
    }
