from __future__ import annotations

import csv
import hashlib
import io
import json
import math
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ranvier.assessment import assess
from ranvier.bundle import open_bundle
from ranvier.calibration import PixelSize
from ranvier.datasets.aggregate import aggregate
from ranvier.datasets.annotated import Annotated
from ranvier.datasets.manifest import write_aggregate
from ranvier.errors import (
    DatasetError,
    InputError,
    MaskError,
    MissingExtraError,
    OutputError,
    OutputExistsError,
    ReadError,
    SettingsError,
)
from ranvier.micrograph import Micrograph, Segmentation
from ranvier.reading import read
from ranvier.scoring.agreement_plots import agreement_png
from ranvier.scoring.choosing import choose_images
from ranvier.scoring.contenders import (
    FunctionContender,
    ModelContender,
    Trained,
    checked_classes,
)
from ranvier.scoring.drawing import ellipsis
from ranvier.scoring.error_pictures import FALSE, MISSED, WRONG, error_png
from ranvier.scoring.heat_maps import HeatMapSettings, heat_map, heat_map_files
from ranvier.scoring.maps import ClassMaps
from ranvier.scoring.mask_folder import MaskFolder, MasksContender
from ranvier.scoring.metrics import METRICS, metric_of
from ranvier.scoring.picking import error_pictures, picks
from ranvier.scoring.running import ScoreSettings, score
from ranvier.scoring.score_files import RECORD, check_free, write_scores
from ranvier.scoring.score_tables import scores_csv, summary_csv, summary_json, summary_md
from ranvier.scoring.truth import list_truth

NAN = math.nan
LEVELS = np.array([0, 127, 255], np.uint8)


def scene(*fibres, shape=(60, 80)):
    """Discs in rings: row, column, radius of the axon and of the fibre."""
    classes = np.zeros(shape, np.uint8)
    rows, cols = np.indices(shape)
    for row, col, axon, fibre in fibres:
        away = np.hypot(rows - row, cols - col)
        classes[away <= fibre] = 1
        classes[away <= axon] = 2
    return classes


SCENES = {
    "a_1": scene((20, 20, 6, 10), (40, 55, 9, 14)),
    "a_2": scene((30, 40, 12, 17)),
    "b_1": scene((18, 25, 5, 9), (42, 30, 6, 9), (30, 62, 8, 13)),
    "c_1": scene(),
}


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def dataset(home, scenes=SCENES, name="SET", **about):
    rng = np.random.default_rng(0)
    for key, classes in scenes.items():
        save(home / "images" / f"{key}.png", rng.integers(0, 255, classes.shape).astype(np.uint8))
        save(home / "masks" / f"{key}.png", LEVELS[classes])
    text = {"name": name, "subject_from": "prefix", "pixel_size_um": 0.1, **about}
    (home / "dataset.json").write_text(json.dumps(text))
    return home


@pytest.fixture
def images(tmp_path):
    return choose_images([dataset(tmp_path / "set")]).images


def of(function, name="m", **more):
    """A contender that makes something of the truth."""
    return FunctionContender(name, lambda image, _: function(SCENES[image.name]), **more)


def shifted(classes):
    return np.roll(classes, 3, axis=1)


SAME = of(lambda c: c, "same")
SHIFTED = of(shifted, "shifted")


def rows_of(content):
    return list(csv.DictReader(io.StringIO(content.decode())))


# Figures


@pytest.mark.parametrize("size", [None, PixelSize(0.1, "option")])
def test_every_figure_of_an_assessment_is_known(size):
    figures = assess(SCENES["a_1"], SCENES["a_1"], pixel_size=size).figures()
    assert set(figures) <= set(METRICS)
    kinds = [(m.structure, m.name, m.unit) for m in METRICS.values()]
    assert len(set(kinds)) == len(kinds)
    assert {m.structure for m in METRICS.values()} == {"axon", "myelin", "fibre"}
    assert all(m.title for m in METRICS.values())


def test_no_metric_is_invented():
    each = [
        assess(SCENES["a_1"], SCENES["a_1"], pixel_size=s) for s in (None, PixelSize(1, "option"))
    ]
    assert {name for a in each for name in a.figures()} == set(METRICS)
    with pytest.raises(SettingsError, match="no such metric"):
        metric_of("dice")


# What was trained on


def entry(name, source="S", **more):
    return Annotated(source, "s", name, Path("x.png"), (Path("y.png"),), **more)


ABOUT = {
    "training": {
        "trained_on": {"S": ["a", "strip-rows-0-99"], "T": ["t"]},
        "validated_on": {"S": ["v"]},
        "begun_from": {
            "images": {"train": ["S/older"], "validation": ["S/w"]},
            "begun_from": {"images": {"train": ["U/oldest"], "validation": []}, "begun_from": None},
        },
    }
}


KNOWN = pytest.mark.parametrize(
    ("name", "source", "seen"),
    [
        ("a", "S", "yes"),
        ("strip", "S", "yes"),
        ("older", "S", "yes"),
        ("oldest", "U", "yes"),
        ("v", "S", "no"),
        ("new", "S", "no"),
        ("t", "renamed", "unknown"),
    ],
)


@KNOWN
def test_an_image_is_known_by_its_hash_under_any_name(name, source, seen):
    about = {"training": {**ABOUT["training"], "trained_on_sha256": ["abc"]}}
    trained = Trained.of_bundle(about)
    assert trained.seen(entry(name, source), "abc") == "yes"
    assert trained.seen(entry(name, source), "other") == seen


@KNOWN
def test_who_was_trained_on_what(name, source, seen):
    trained = Trained.of_bundle(ABOUT)
    assert trained.seen(entry(name, source)) == seen
    assert trained.chose(entry("v"))
    assert trained.chose(entry("w"))
    assert not trained.chose(entry("a"))


def test_what_a_teacher_was_trained_on_is_known_to_its_student():
    taught = {"teachers": [{"fold": 0}, {"model": "old", "trained_on": ["S/told", 3]}]}
    trained = Trained.of_bundle({"training": {**ABOUT["training"], "distilled_from": taught}})
    assert trained.seen(entry("told")) == "yes"
    assert trained.seen(entry("new")) == "no"


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"training": {"trained_on": None}},
        {"training": {"trained_on": {"S": ["a"]}, "begun_from": {"step": 3}}},
    ],
)
def test_a_model_that_does_not_say_all_may_know_anything(about):
    assert Trained.of_bundle(about).seen(entry("new")) == "unknown"


def test_hashes_go_before_names():
    trained = Trained.on([entry("a", sha256=("h1", "h2"))], chosen_on=[entry("b")])
    assert trained.seen(entry("other", "T"), "h1") == "yes"
    assert trained.seen(entry("a"), "h9") == "yes"
    assert trained.seen(entry("b")) == "no"
    assert trained.chose(entry("b"))


def test_the_embedded_model_says_what_it_was_trained_on(generalist):
    about = open_bundle(generalist).about
    source, names = next(iter(about["training"]["trained_on"].items()))
    trained = Trained.of_bundle(about)
    assert trained.seen(entry(names[0], source)) == "yes"
    assert trained.seen(entry("nobody-has-this", source)) == "no"


@pytest.mark.parametrize(
    ("found", "what"),
    [
        (np.zeros((3, 3), np.uint8), "differ in shape"),
        (np.zeros((2, 3), np.float32), "whole numbers"),
        (np.full((2, 3), 3), "other than 0, 1, 2"),
        (np.full((2, 3), -1), "other than 0, 1, 2"),
    ],
)
def test_what_is_no_segmentation_is_refused(found, what):
    with pytest.raises(MaskError, match=what):
        checked_classes(found, (2, 3))


def test_whole_numbers_of_any_type_are_classes():
    assert checked_classes(np.ones((2, 3), np.int64), (2, 3)).dtype == np.uint8


# Folders of masks


def write_masks(folder, scenes=SCENES, form="{}.png", make=lambda c: LEVELS[c]):
    for key, classes in scenes.items():
        save(folder / form.format(key), make(classes))
    return folder


@pytest.mark.parametrize(
    "files",
    [
        {"{}.png": lambda c: LEVELS[c]},
        {"{}.tif": lambda c: c},
        {"{}_seg-axonmyelin.png": lambda c: LEVELS[c]},
        {"{}_seg-axonmyelin-manual.png": lambda c: LEVELS[c]},
        {"{}_seg-axon.png": lambda c: 255 * (c == 2).astype(np.uint8),
         "{}_seg-myelin.png": lambda c: 255 * (c == 1).astype(np.uint8),
         "{}_overlay.png": lambda c: LEVELS[c]},
        {"SET/{}.png": lambda c: LEVELS[c]},
        {"other/{}.png": lambda c: LEVELS[c]},
        {"SET_{}.png": lambda c: c},
    ],
)  # fmt: skip
def test_masks_of_any_tool_are_found_and_read(tmp_path, images, files):
    for form, make in files.items():
        write_masks(tmp_path / "pred", form=form, make=make)
    contender = MasksContender(tmp_path / "pred", images)
    assert contender.name == "pred"
    scores = score([contender], images)
    assert not scores.failures
    assert all(v == 1 for v in scores.table("dice_myelin").values())
    assert contender.about["files"]


def test_cases_of_nnunet_have_masks_without_the_channel(tmp_path):
    save(tmp_path / "in" / "case_0000.png", np.zeros((60, 80), np.uint8))
    save(tmp_path / "pred" / "case.png", SCENES["a_1"])
    image = Annotated(
        "S", "s", "told-otherwise", tmp_path / "in" / "case_0000.png", (Path("l.png"),)
    )
    contender = MasksContender(tmp_path / "pred", [image])
    found = contender.classes(image, Micrograph(np.zeros((60, 80), np.uint8)))
    np.testing.assert_array_equal(found, SCENES["a_1"])


def test_the_hash_of_masks_tells_their_bytes(tmp_path, images):
    folder = write_masks(tmp_path / "pred")
    first = MasksContender(folder, images).sha256
    assert first == MasksContender(folder, images).sha256
    save(folder / "a_1.png", LEVELS[SCENES["a_2"]])
    assert first != MasksContender(folder, images).sha256


def test_missing_masks_are_one_error_that_names_them(tmp_path, images):
    write_masks(tmp_path / "pred", {k: v for k, v in SCENES.items() if k[0] == "a"})
    with pytest.raises(InputError, match="no mask of 2 of 4") as caught:
        MasksContender(tmp_path / "pred", images)
    assert "SET/b_1, SET/c_1" in str(caught.value)
    with pytest.raises(InputError, match="no such folder"):
        MasksContender(tmp_path / "nowhere", images)


def test_half_a_pair_is_an_error_that_names_the_other_half(tmp_path, images):
    write_masks(tmp_path / "pred", form="{}_seg-axon.png")
    with pytest.raises(InputError, match="the myelin mask of this image is missing"):
        MasksContender(tmp_path / "pred", images)


def test_masks_that_could_be_of_several_are_refused(tmp_path, images):
    twin = tuple(replace(a, source="OTHER") for a in images)
    flat = write_masks(tmp_path / "flat")
    with pytest.raises(InputError, match=r"SET/a_1 and OTHER/a_1 would have one mask"):
        MasksContender(flat, (*images, *twin))
    deep = write_masks(tmp_path / "deep", form="SET/{}.png")
    write_masks(deep, form="OTHER/{}.png")
    assert MasksContender(deep, (*images, *twin)).about["files"].keys() == {
        f"{s}/{n}.png" for s in ("SET", "OTHER") for n in SCENES
    }
    (deep / "SET").rename(deep / "x")
    with pytest.raises(InputError, match="several folders have masks of SET/a_1"):
        MasksContender(deep, images)
    save(flat / "a_1.tif", SCENES["a_1"])
    with pytest.raises(MaskError, match="several masks of one image"):
        MasksContender(flat, images)


def test_a_mask_of_one_class_is_read_by_the_others(tmp_path):
    axons = {"x": np.where(SCENES["a_1"] == 2, 2, 0).astype(np.uint8)}
    folder = write_masks(tmp_path / "pred", axons)
    known = MaskFolder(folder)
    with pytest.raises(MaskError, match="nothing tells which"):
        known.read(known.of("x"))
    write_masks(folder, {"y": SCENES["b_1"]})
    known = MaskFolder(folder)
    np.testing.assert_array_equal(known.read(known.of("x"))[1].classes, axons["x"])


def test_masks_of_another_shape_or_kind_fail_one_by_one(tmp_path, images):
    folder = write_masks(tmp_path / "pred")
    save(folder / "a_1.png", LEVELS[SCENES["a_1"][:-1]])
    save(folder / "a_2.png", np.arange(80 * 60).reshape(60, 80).astype(np.uint8))
    scores = score([MasksContender(folder, images)], images)
    assert [f.image for f in scores.failures] == ["a_1", "a_2"]
    assert "mask (59, 80), image (60, 80)" in scores.failures[0].message
    assert "values are not those" in scores.failures[1].message
    assert len(scores.results) == 2


def test_true_masks_are_a_test_set(tmp_path):
    folder = write_masks(tmp_path / "truth", form="{}_seg-axonmyelin-manual.png")
    write_masks(folder, {"half": SCENES["a_1"]}, form="{}_seg-axon.png")
    (folder / "pixel_size_in_micrometer.txt").write_text("0.25")
    listing = list_truth(folder)
    assert [a.name for a in listing.images] == list(SCENES)
    assert "myelin mask" in listing.problems[0]
    loaded = listing.images[0].load_noted()
    np.testing.assert_array_equal(loaded.classes, SCENES["a_1"])
    assert loaded.micrograph.pixel_size.um == 0.25
    given = list_truth(folder, pixel_size=PixelSize(0.5, "option")).images[0].load_noted()
    assert given.micrograph.pixel_size == PixelSize(0.5, "option")
    assert list_truth(folder).images[0].source == "truth"
    with pytest.raises(InputError, match="no mask in this folder"):
        (tmp_path / "empty").mkdir()
        list_truth(tmp_path / "empty")


# Which images


def test_test_images_where_there_are_any(tmp_path):
    dataset(tmp_path / "data" / "one", name="ONE", test=["b_1"])
    dataset(tmp_path / "data" / "two", name="TWO")

    def names(**how):
        chosen = choose_images([tmp_path / "data"], **how)
        return [(a.source, a.name) for a in chosen.images], chosen.said

    every = list(SCENES)
    found, said = names()
    assert found == [("ONE", "b_1"), *(("TWO", n) for n in every)]
    assert said == ("ONE: the 1 test image(s) of 4", "TWO: all 4 image(s): it has no test set")
    assert names(role="test")[0] == [("ONE", "b_1")]
    assert len(names(role="all")[0]) == 8
    assert ("ONE", "b_1") not in names(role="train")[0]
    with pytest.raises(DatasetError, match="no images to score on"):
        choose_images([tmp_path / "data" / "two"], role="test")


def test_folds_are_those_of_an_aggregate(tmp_path):
    one = dataset(tmp_path / "one", {k: v for k, v in SCENES.items() if k != "c_1"})
    made = aggregate(choose_images([one], role="all").images, name="AGG", folds=2)
    write_aggregate(made, tmp_path / "agg")
    held = [choose_images([tmp_path / "agg"], fold=f) for f in (0, 1)]
    assert {a.subject for a in held[0].images} | {a.subject for a in held[1].images} == {"a", "b"}
    assert not {a.name for a in held[0].images} & {a.name for a in held[1].images}
    assert {a.name for a in choose_images([tmp_path / "agg"]).images} == {"a_1", "a_2", "b_1"}
    with pytest.raises(SettingsError, match="folds are those of an aggregate"):
        choose_images([one], fold=0)
    with pytest.raises(SettingsError, match="exclude each other"):
        choose_images([tmp_path / "agg"], fold=0, role="all")
    with pytest.raises(DatasetError, match="folds 0 to 1"):
        choose_images([tmp_path / "agg"], fold=2)


def test_problems_of_a_dataset_do_not_hide_the_rest(tmp_path):
    home = dataset(tmp_path / "set")
    (home / "masks" / "a_1.png").unlink()
    chosen = choose_images([home])
    assert len(chosen.images) == 3
    assert "a_1.png has no mask" in chosen.problems[0]


def test_two_datasets_of_one_name_are_refused(tmp_path):
    folders = [dataset(tmp_path / name) for name in ("one", "two")]
    with pytest.raises(DatasetError, match="share a name"):
        choose_images(folders)
    assert len(choose_images([folders[0], folders[0]]).images) == 4


# Scores


def naive_dice(one, other, kind):
    a, b = (set(zip(*np.nonzero(c == kind), strict=True)) for c in (one, other))
    return 2 * len(a & b) / (len(a) + len(b)) if a or b else NAN


def test_means_over_images_and_subjects_and_the_pool(images):
    scores = score([SAME, SHIFTED], images)
    each = {n: naive_dice(shifted(c), c, 2) for n, c in SCENES.items()}
    assert math.isnan(each["c_1"])
    pooled_a = naive_dice(
        np.hstack([shifted(SCENES[n]) for n in ("a_1", "a_2")]),
        np.hstack([SCENES[n] for n in ("a_1", "a_2")]),
        2,
    )
    everything = [np.hstack([f(c) for c in SCENES.values()]) for f in (shifted, lambda c: c)]
    expected = {
        "mean_over_images": np.mean([each[n] for n in ("a_1", "a_2", "b_1")]),
        "mean_over_subjects": np.mean([pooled_a, each["b_1"]]),
        "pooled": naive_dice(*everything, 2),
    }
    assert len({round(v, 6) for v in expected.values()}) == 3
    for statistic, value in expected.items():
        assert scores.table("dice_axon", statistic)["SET", "shifted"] == pytest.approx(value)
        assert scores.table("dice_axon", statistic)["SET", "same"] == 1
    found = scores.statistics["SET", "shifted"]["dice_axon"]
    assert (found.images, found.subjects) == (3, 2)
    assert found.sd_over_images == pytest.approx(
        np.std([each[n] for n in ("a_1", "a_2", "b_1")], ddof=1)
    )
    assert scores.per_image("dice_axon")["SET", "b_1"] == {
        "same": 1.0,
        "shifted": pytest.approx(each["b_1"]),
    }
    assert scores.per_subject("dice_axon")["SET", "a"]["shifted"] == pytest.approx(pooled_a)
    assert math.isnan(scores.per_image("dice_axon")["SET", "c_1"]["same"])


def test_unknown_statistics_are_refused(images):
    scores = score([SAME], images)
    with pytest.raises(SettingsError, match="no such statistic"):
        scores.table("dice_axon", "median")
    for ask in (scores.table, scores.per_image, scores.per_subject):
        with pytest.raises(SettingsError, match="no such metric"):
            ask("dice")


def test_images_of_known_and_unknown_pixel_size_are_pooled_in_pixels(images):
    mixed = (replace(images[0], pixel_size=None), *images[1:])
    found = score([SHIFTED], mixed).statistics["SET", "shifted"]
    assert found["axon_hd95_px"].images == 3
    assert found["axon_hd95_um"].images == 2
    assert math.isnan(found["axon_hd95_um"].pooled)
    assert found["axon_hd95_px"].pooled > 0
    assert found["axon_diameter_px_n"].pooled == 2
    assert found["axon_diameter_um_n"].pooled >= 3


def test_each_image_is_loaded_once(images, monkeypatch):
    loads = []
    load = Annotated.load_noted
    monkeypatch.setattr(Annotated, "load_noted", lambda self: loads.append(self.name) or load(self))
    steps = []
    score([SAME, SHIFTED], images, progress=lambda *done: steps.append(done))
    assert loads == list(SCENES)
    assert steps == [(i, 8) for i in range(1, 9)]


def test_a_failure_is_named_and_does_not_stop_the_rest(images, tmp_path):
    images[1].masks[0].unlink()

    def breaks(classes):
        if classes.any():
            raise ReadError("no good", where="here")
        raise ZeroDivisionError("a\nb")

    told = []
    scores = score([SAME, of(breaks, "bad")], images, report=told.append)
    said = [(f.model, f.image) for f in scores.failures]
    assert said == [("bad", "a_1"), ("", "a_2"), ("bad", "b_1"), ("bad", "c_1")]
    assert [t.split(":")[0] for t in told] == [
        "SET/a_1, bad", "SET/a_2", "SET/b_1, bad", "SET/c_1, bad"
    ]  # fmt: skip
    assert "no good" in told[0]
    assert "unexpected failure (seen: ZeroDivisionError: a b)" in told[3]
    assert scores.pairs == (("SET", "same"),)
    assert "not all were scored on the same images" in scores.warnings()[0]


def test_what_cannot_be_scored_at_all_is_refused(images):
    with pytest.raises(SettingsError, match="one name"):
        score([SAME, SAME], images)
    with pytest.raises(SettingsError, match="nothing to score"):
        score([], images)
    with pytest.raises(DatasetError, match="no images"):
        score([SAME], [])
    with pytest.raises(DatasetError, match="one source and name"):
        score([SAME], (*images, images[0]))
    with pytest.raises(SettingsError, match="kept_bytes"):
        ScoreSettings(kept_bytes=-1)


def test_images_that_were_trained_on_are_marked(images):
    knows = of(shifted, "knows", trained=Trained.on(images[:1], chosen_on=images[1:2]))
    unsure = of(shifted, "unsure", trained=replace(knows.trained, complete=False))
    scores = score([SAME, knows, unsure], images)
    assert [r.seen for r in scores.results if r.model == "knows"] == ["yes", "no", "no", "no"]
    assert [r.seen for r in scores.results if r.model == "same"] == ["unknown"] * 4
    assert scores.trained_on == {("SET", "knows"), ("SET", "unsure")}
    said = scores.warnings()
    assert "knows was TRAINED on 1 of 4 image(s) of SET" in said[0]
    assert "which checkpoint of knows was kept was decided on 1 of 4" in said[1]
    assert "unsure may have been trained on 3 of 4" in said[3]
    assert not any(s.startswith("same") for s in said)
    rows = rows_of(scores_csv(scores))
    assert {
        r["seen_in_training"] for r in rows if (r["model"], r["image"]) == ("knows", "a_1")
    } == {"yes"}
    assert {
        r["seen_in_training"] for r in rows if (r["model"], r["image"]) == ("knows", "b_1")
    } == {"no"}
    assert "| knows † | 4 |" in summary_md(scores).decode()
    assert "| same | 4 |" in summary_md(scores).decode()


# Tables


def test_every_figure_reads_back_exactly(images):
    scores = score([SHIFTED], images)
    rows = rows_of(scores_csv(scores))
    assert len(rows) == sum(len(r.figures) for r in scores.results)
    by_key = {(r["image"], r["class"], r["metric"], r["unit"]): r for r in rows}
    assert len(by_key) == len(rows)
    for result in scores.results:
        for name, value in result.figures.items():
            metric = METRICS[name]
            row = by_key[result.image.name, metric.structure, metric.name, metric.unit]
            assert row["value"] == "" if math.isnan(value) else float(row["value"]) == value
            assert row["subject"] == result.image.subject
            assert row["pixel_size_um"] == "0.1"
            assert row["image_sha256"] == result.sha256[0]
    assert by_key["c_1", "axon", "dice", ""]["value"] == ""
    assert by_key["c_1", "axon", "count_true", "axons"]["value"] == "0"


def test_the_summary_in_three_forms_says_the_same(images):
    scores = score([SAME, SHIFTED], images)
    told = json.loads(summary_json(scores))["test_sets"]["SET"]["shifted"]
    rows = {
        (r["class"], r["metric"], r["unit"]): r
        for r in rows_of(summary_csv(scores))
        if r["model"] == "shifted"
    }
    assert len(rows) == len(told["figures"])
    for name, statistics in scores.statistics["SET", "shifted"].items():
        metric = METRICS[name]
        row = rows[metric.structure, metric.name, metric.unit]
        for key, value in vars(statistics).items():
            known = not math.isnan(value)
            assert told["figures"][name][key] == (value if known else None)
            assert row[key] == "" if not known else float(row[key]) == value
    assert (told["images_scored"], told["subjects_scored"]) == (4, 3)
    page = summary_md(scores).decode()
    assert f"{scores.table('dice_axon')['SET', 'shifted']:.3f}" in page
    assert "4 image(s) of 3 subject(s)" in page


def test_names_cannot_break_the_page(images):
    page = summary_md(score([of(lambda c: c, "a|b\\c")], images)).decode()
    table = [line for line in page.splitlines() if line.startswith("| ")]
    assert {line.replace("\\|", "").count("|") for line in table} == {12}


# Class maps


def test_maps_are_kept_within_their_room():
    maps = ClassMaps(2000)
    noise = np.random.default_rng(0).integers(0, 3, (100, 100)).astype(np.uint8)
    maps.put(("m", "s", "a"), SCENES["a_1"])
    maps.put(("m", "s", "b"), noise)
    np.testing.assert_array_equal(maps.get(("m", "s", "a")), SCENES["a_1"])
    assert maps.get(("m", "s", "b")) is None
    assert len(maps) == 1
    none = ClassMaps(0)
    none.put(("m", "s", "a"), SCENES["a_1"])
    assert len(none) == 0


# Pictures


def test_heat_maps_are_the_same_bytes_each_time(tmp_path):
    tables = {
        "axon": {("S", "a"): 0.25, ("S", "b"): NAN, ("T", "a"): 1.0},
        "myelin": {("S", "a"): 0.5, ("T", "b"): 0.125},
    }
    settings = HeatMapSettings(
        groups={"out of distribution": ["T"]}, marked={("S", "a")}, note="† note"
    )
    png, svg = heat_map(tables, tmp_path / "new" / "map.2", settings=settings)
    assert (png.name, svg.name) == ("map.2.png", "map.2.svg")
    again = heat_map_files(tables, settings=settings)
    assert again == {".png": png.read_bytes(), ".svg": svg.read_bytes()}
    text = svg.read_text(encoding="utf-8")
    for said in ("0.250†", "0.500†", "1.000", "0.125", "out of distribution", "† note", "myelin"):
        assert f"<!-- {said} -->" in text
    assert text.count("<!-- - -->") == 4  # NaN, and three that are not there
    assert b"date" not in svg.read_bytes()
    assert Image.open(io.BytesIO(again[".png"])).format == "PNG"


def test_groups_are_set_apart():
    table = {"Dice": {(r, "m"): 0.5 for r in "abcd"}}
    heights = {}
    for name, groups in (
        ("none", {}), ("gap", {"": ["c", "d"]}), ("titled", {"far": ["c", "d"]})
    ):  # fmt: skip
        content = heat_map_files(table, settings=HeatMapSettings(groups=groups))[".png"]
        heights[name] = Image.open(io.BytesIO(content)).height
    assert heights["none"] < heights["gap"] < heights["titled"]


@pytest.mark.parametrize(
    ("tables", "how", "what"),
    [
        ({}, {}, "needs a row"),
        ({"x": {}}, {}, "needs a row"),
        ({"x": {("a", "b"): 1.0}}, {"groups": {"g": ["z"]}}, "not there"),
        ({"x": {("a", "b"): 1.0}}, {"groups": {"g": ["a"], "h": ["a"]}}, "one twice"),
        ({"x": {("a", "b"): 1.0}}, {"limits": (1.0, 0.0)}, "lower first"),
        ({"x": {("a", "b"): 1.0}}, {"colours": "grue"}, "no such colour map"),
    ],
)
def test_heat_maps_that_make_no_sense(tables, how, what):
    with pytest.raises(SettingsError, match=what):
        heat_map_files(tables, settings=HeatMapSettings(**how))


def test_any_name_can_be_drawn():
    table = {("$x_{1$", "中文 " * 30): 0.5}
    assert heat_map_files({"%d {x}": table}, settings=HeatMapSettings(title="$"))[".svg"]


def test_pictures_without_matplotlib(no_matplotlib):
    with pytest.raises(MissingExtraError, match=r"ranvier\[report\]"):
        heat_map_files({"x": {("a", "b"): 1.0}})


def test_agreement_plots_of_many_few_and_no_fibres(images):
    pooled = score([SHIFTED], images).pooled["SET", "shifted"].agreements
    assert agreement_png(pooled, title="t") == agreement_png(pooled, title="t")
    empty = {k: replace(a, predicted=a.predicted[:0], truth=a.truth[:0]) for k, a in pooled.items()}
    single = {
        k: replace(a, predicted=a.predicted[:1], truth=a.truth[:1]) for k, a in pooled.items()
    }
    shapes = {Image.open(io.BytesIO(agreement_png(a, title="t"))).size for a in (empty, single)}
    assert len(shapes) == 1


def test_errors_have_their_colours():
    truth = np.zeros((8, 10), np.uint8)
    predicted = truth.copy()
    truth[0, :3], predicted[1, :5] = 1, 2  # three missed, five false
    truth[2, :2], predicted[2, :2] = (1, 2), (2, 1)  # two of the wrong class
    truth[3, :4] = predicted[3, :4] = 2  # right
    micrograph = Micrograph(np.full((8, 10), 100, np.uint8))
    for drawn in (False, True):
        content = error_png(micrograph, predicted, truth, lines=["a", "b"], drawn=drawn)
        picture = np.asarray(Image.open(io.BytesIO(content))).astype(int)
        grey = 0.7 * (100 if drawn else 0)  # a flat image is shown black
        enlarged = 40
        for colour, number in ((MISSED, 3), (FALSE, 5), (WRONG, 2)):
            paint = np.array([0.75 * c + 0.25 * grey for c in colour])
            found = (np.abs(picture - paint) <= 1).all(axis=2).sum()
            assert found == number * enlarged**2


@pytest.mark.parametrize("shape", [(3, 2), (40, 2300), (1300, 30), (1024, 1025)])
def test_error_pictures_of_any_shape(shape):
    rng = np.random.default_rng(0)
    classes = rng.integers(0, 3, (2, *shape)).astype(np.uint8)
    micrograph = Micrograph(rng.random(shape, np.float32), PixelSize(0.1, "option"))
    content = error_png(micrograph, *classes, lines=["a very long name " * 9 + "x" * 200, ""])
    size = Image.open(io.BytesIO(content)).size
    assert 400 < max(size) < 2100


def test_best_median_and_worst(images):
    far = {"a_1": 0, "a_2": 6, "b_1": 2, "c_1": 0}
    contender = FunctionContender("m", lambda a, _: np.roll(SCENES[a.name], far[a.name], 1))
    scores = score([contender], images)
    assert [(rank, r.image.name) for rank, r in picks(scores, "SET", "m")] == [
        ("best", "a_1"), ("median", "b_1"), ("worst", "a_2")
    ]  # fmt: skip
    two = score([contender], images[:2])
    assert [(rank, r.image.name) for rank, r in picks(two, "SET", "m")] == [
        ("best", "a_1"), ("worst", "a_2")
    ]  # fmt: skip
    blank = score([contender], images[3:])
    assert [(rank, r.image.name) for rank, r in picks(blank, "SET", "m")] == [("only", "c_1")]


def test_pictures_of_maps_that_were_not_kept_are_the_same(images):
    kept, anew = (
        score([SHIFTED], images, settings=ScoreSettings(kept_bytes=b)) for b in (1 << 20, 0)
    )
    assert len(kept.maps) == 4
    assert len(anew.maps) == 0
    pictures = [list(error_pictures(s, report=pytest.fail)) for s in (kept, anew)]
    assert pictures[0] == pictures[1]
    assert len(pictures[0]) == 3


def test_long_texts_keep_both_ends():
    assert ellipsis("abcdefghij", 10) == "abcdefghij"
    assert ellipsis("abcdefghijk", 10) == "abcd...ijk"


# Files


@pytest.fixture
def no_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)


@pytest.fixture
def scored(images):
    return score([SAME, SHIFTED], images[:2])


TABLES = {"scores.csv", "summary.csv", "summary.md", "summary.json", RECORD}


def inside(folder):
    return {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}


def test_all_files_and_the_same_bytes(scored, tmp_path):
    written = write_scores(scored, tmp_path / "one", about={"settings": {"x": 1}})
    write_scores(scored, tmp_path / "two", pictures=False)
    names = inside(tmp_path / "one")
    maps = {f"heatmap_{m}{e}" for m in ("dice", "f1") for e in (".png", ".svg")}
    plots = {f"agreement/SET__{m}.png" for m in ("same", "shifted")}
    errors = {f"errors/SET__{m}__{r}.png" for m in ("same", "shifted") for r in ("best", "worst")}
    assert names == TABLES | maps | plots | errors
    assert {str(p.relative_to(tmp_path / "one")) for p in written.paths} == names
    assert written.paths[-1].name == RECORD
    for name in TABLES - {RECORD}:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    record = json.loads((tmp_path / "one" / RECORD).read_text())
    assert record["complete"] is True
    assert record["settings"] == {"x": 1}
    assert set(record["outputs"]) == names - {RECORD}
    assert [m["name"] for m in record["models"]] == ["same", "shifted"]
    assert all(len(i["sha256"]) == 2 for i in record["images"])


def test_nothing_is_replaced_unasked(scored, tmp_path, no_matplotlib):
    out = tmp_path / "out"
    write_scores(scored, out, pictures=False)
    assert inside(out) == TABLES
    with pytest.raises(OutputExistsError, match="already"):
        write_scores(scored, out, pictures=False)
    (out / "mine.txt").write_text("x")
    write_scores(scored, out, overwrite=True)
    write_scores(scored, out, overwrite=True, pictures=False)
    assert inside(out) == TABLES | {"mine.txt"}  # pictures of the run that was replaced are gone
    (out / "summary.md").write_text("corrected by hand")
    with pytest.raises(OutputExistsError, match="changed since"):
        check_free(out, overwrite=True)
    assert (out / "summary.md").read_text() == "corrected by hand"


def test_files_of_others_are_never_replaced(scored, tmp_path, no_matplotlib):
    out = tmp_path / "out"
    save(out / "heatmap_dice.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(OutputExistsError, match="not written by Ranvier"):
        check_free(out, overwrite=True)
    (out / "heatmap_dice.png").rename(out / RECORD)
    with pytest.raises(OutputExistsError, match="not written by Ranvier"):
        check_free(out, overwrite=True)
    with pytest.raises(OutputError, match="is a file"):
        check_free(out / RECORD)
    foreign = tmp_path / "errors"
    save(foreign / "errors" / "SET__same__best.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(OutputExistsError, match="not written by Ranvier"):
        write_scores(scored, foreign)
    assert inside(foreign) == {"errors/SET__same__best.png"}


def test_a_record_that_points_elsewhere_deletes_nothing(scored, tmp_path):
    outside = tmp_path / "precious.txt"
    outside.write_text("x")
    out = tmp_path / "out"
    write_scores(scored, out, pictures=False)
    record = json.loads((out / RECORD).read_text())
    digest = hashlib.sha256(b"x").hexdigest()
    record["outputs"] |= {"../precious.txt": digest, str(outside): digest}
    (out / RECORD).write_text(json.dumps(record))
    write_scores(scored, out, pictures=False, overwrite=True)
    assert outside.read_text() == "x"


def test_a_full_disk_leaves_what_was_there(scored, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_scores(scored, out, pictures=False)
    before = {name: (out / name).read_bytes() for name in inside(out)}

    def full(path, content):
        if path.name == "summary.md":
            raise OutputError("disk full")
        path.write_bytes(content)

    monkeypatch.setattr("ranvier.scoring.score_files.write_atomically", full)
    with pytest.raises(OutputError, match="disk full"):
        write_scores(scored, out, pictures=False, overwrite=True)
    assert {name: (out / name).read_bytes() for name in inside(out)} == before


def test_a_run_that_was_stopped_while_moving_can_be_replaced(scored, tmp_path, monkeypatch):
    out = tmp_path / "out"
    write_scores(scored, out, pictures=False)
    other = replace(scored, results=scored.results[:2])
    replacing = Path.replace

    def stops(self, target):
        if Path(target) == out / "summary.csv":
            raise OSError(5, "stopped")
        return replacing(self, target)

    monkeypatch.setattr(Path, "replace", stops)
    with pytest.raises(OutputError, match="stopped"):
        write_scores(other, out, pictures=False, overwrite=True)
    monkeypatch.undo()
    assert json.loads((out / RECORD).read_text())["complete"] is False
    write_scores(other, out, pictures=False, overwrite=True)
    assert inside(out) == TABLES
    assert json.loads((out / RECORD).read_text())["complete"] is True


def test_tables_are_written_without_matplotlib(scored, tmp_path, no_matplotlib):
    written = write_scores(scored, tmp_path / "out")
    names = inside(tmp_path / "out")
    assert names >= TABLES
    assert not any(n.startswith(("heatmap", "agreement")) for n in names)
    assert any(n.startswith("errors") for n in names)  # these need Pillow only
    assert "ranvier[report]" in written.left_out[0]
    assert json.loads((tmp_path / "out" / RECORD).read_text())["left_out"] == list(written.left_out)


def test_names_of_files_are_plain_and_never_shared(images, tmp_path, no_matplotlib):
    names = ["a/b", "A_B", "..", "é" * 90]
    scores = score([of(lambda c: c, n) for n in names], images[:1])
    write_scores(scores, tmp_path / "out")
    found = {p.name.lower() for p in (tmp_path / "out" / "errors").iterdir()}
    assert len(found) == 4
    assert all(n.startswith("set__") and n.isascii() and len(n) < 90 for n in found)


def test_nothing_scored_is_nothing_written(images, tmp_path):
    scores = score([of(lambda c: c[:1], "bad")], images)
    with pytest.raises(OutputError, match="nothing could be scored"):
        write_scores(scores, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_is_a_contender(generalist, images):
    contender = ModelContender.load(generalist, name="renamed", threads=1)
    assert contender.name == "renamed"
    assert contender.sha256 == open_bundle(generalist).sha256
    assert contender.about["model"]["name"] == "generalist"
    scores = score([contender], images[:1])
    assert [r.seen for r in scores.results] == ["no"]
    assert 0 <= scores.table("dice_axon")["SET", "renamed"] <= 1


def test_models_that_look_at_colour_are_shown_it(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    rgb = rng.integers(0, 255, (9, 11, 3)).astype(np.uint8)
    save(tmp_path / "c.png", rgb)
    shown = []

    def segment(micrograph, model, settings):
        shown.append(micrograph.colour)
        said = {"zoom": {"chosen": 1.0}}
        return Segmentation(np.zeros(micrograph.shape, np.uint8), provenance=said)

    monkeypatch.setattr("ranvier.scoring.contenders.segment", segment)
    image = entry("c")
    image = replace(image, image=tmp_path / "c.png")
    grey = read(tmp_path / "c.png")
    for wants in (True, False):
        model = SimpleNamespace(wants_colour=wants)
        ModelContender("m", model).classes(image, grey)
    np.testing.assert_array_equal(shown[0], rgb)
    assert shown[1] is None
