"""An experiment from its file to its page, on drawn sources."""

from __future__ import annotations

import csv
import json
import math
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from PIL import Image

from ranvier.apps.cli_experiment import experiment
from ranvier.datasets.collection import read_dataset
from ranvier.errors import DatasetError, SettingsError

RECIPE = (
    "[network]\nchannels = [8, 8]\n[schedule]\nsteps = 2\nbatch = 2\npatch = 64\nvalidate_every_steps = 2\n"
    "precision = 'f32'\n"
)
FILE = """
name = "drawn"
title = "Drawn sources"
protocol = "cross-validation"
recipe = "{recipe}"
folds = 3
use_folds = [0, 1]
generalist = "BOTH"
[sources]
TEM = "tem"
SEM = "sem"
[qualitative]
UNLABELLED = "blind"
[[models]]
name = "SEM"
sources = ["SEM"]
[[models]]
name = "TEM"
sources = ["TEM"]
[[models]]
name = "BOTH"
sources = ["SEM", "TEM"]
[[models]]
name = "SEM fixed"
sources = ["SEM"]
set = ["augmentation.invert=0"]
folds = [1]
[[models]]
name = "drawn truth"
masks = "truth"
"""


@pytest.fixture(scope="module")
def home(phantom_data, tmp_path_factory):
    """Data, recipe and file of an experiment; one of its models is the truth itself."""
    home = tmp_path_factory.mktemp("experiment")
    for source in ("sem", "tem"):
        shutil.copytree(phantom_data / source, home / source)
        for image in read_dataset(home / source):
            place = home / "truth" / source.upper() / f"{image.name}.png"
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.array([0, 127, 255], np.uint8)[image.load()[1]]).save(place)
    (home / "blind").mkdir()
    shutil.copy(image.image, home / "blind" / "one.png")
    (home / "tiny.toml").write_text(RECIPE)
    (home / "drawn.toml").write_text(FILE.format(recipe=home / "tiny.toml"))
    return home


def run(home, out, *options):
    command = [str(home / "drawn.toml"), "-o", str(out), "--views", "1", *options]
    return CliRunner().invoke(experiment, command, catch_exceptions=False)


@pytest.fixture(scope="module")
def done(home, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "run"
    result = run(home, out)
    assert result.exit_code == 0, result.output
    return out


def dice(out, name):
    with (out / "results" / name).open() as file:
        rows = [r for r in csv.DictReader(file) if r["metric"] == "dice"]
    return {(r["model"], r["test_set"], r["image"], r["class"]): r["value"] for r in rows}


@pytest.mark.slow
def test_every_image_of_the_chosen_folds_is_scored_once_by_every_whole_model(done):
    found = dice(done, "scores.csv")
    models = {model for model, *_ in found}
    assert models == {"SEM", "TEM", "BOTH", "drawn truth"}
    images = {(test_set, image) for _, test_set, image, _ in found}
    assert len(images) == 4  # of three subjects of each source, two stand in folds 0 and 1
    assert len(found) == len(models) * len(images) * 2
    assert {float(v) for (model, *_), v in found.items() if model == "drawn truth"} == {1.0}


@pytest.mark.slow
def test_the_page_says_what_was_done(done):
    text = (done / "results" / "results.md").read_text()
    for said in (
        "# Drawn sources", "## Dice", "| axon / myelin | images | SEM | TEM | BOTH | drawn truth |",
        "## Dedicated models against the generalist", "## On the images of fold 1 alone",
        "| axon / myelin | images | SEM | TEM | BOTH | SEM fixed | drawn truth |",
        "## Ensembles on sources that they were not trained on", "## Trainings", "## Dice by subject",
        "augmentation.invert=0", "## To be looked at", "## Data", "folds dealt with seed 0",
    ):  # fmt: skip
        assert said in text, said
    shown = {path.name for path in (done / "qualitative").iterdir()}
    assert shown == {f"unlabelled_one_{m}.png" for m in ("sem", "tem", "both", "sem-fixed")}
    page = (done / "results" / "results.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert 'src="figures' not in page
    assert "<table>" in page
    for name in ("dice", "unseen", "curves"):
        assert (done / "results" / "figures" / f"{name}.png").is_file()
        assert (done / "results" / "figures" / f"{name}.svg").is_file()


@pytest.mark.slow
def test_the_record_has_the_same_numbers(done):
    record = json.loads((done / "results" / "results.json").read_text())
    found = dice(done, "scores.csv")
    for cls in ("axon", "myelin"):
        for cell, value in record["dice"]["main"][cls].items():
            row, model = cell.split(" | ")
            values = [
                float(v)
                for (m, s, _, c), v in found.items()
                if (m, s, c) == (model, row, cls) and v
            ]
            assert value == pytest.approx(np.mean(values), abs=1e-6)
    assert record["comparison"]["dedicated"] == {"SEM": "SEM", "TEM": "TEM"}
    assert record["comparison"]["means"]["pairs"] == 4
    assert set(record["dice"]["folds 1"]["axon"]) >= {"SEM | SEM fixed", "SEM | SEM", "TEM | BOTH"}
    unseen = record["dice"]["unseen"]["axon"]
    assert set(unseen) == {"TEM | SEM", "SEM | TEM", "TEM | SEM fixed"}
    assert not any(isinstance(v, float) and math.isnan(v) for v in unseen.values())


@pytest.mark.slow
def test_a_second_run_trains_and_predicts_nothing_and_says_the_same(home, done):
    stamps = {p: p.stat().st_mtime_ns for p in done.rglob("*.safetensors")}
    masks = {p: p.stat().st_mtime_ns for p in (done / "predictions").rglob("*.png")}
    before = {p: p.read_bytes() for p in (done / "results").rglob("*") if p.is_file()}
    assert stamps
    assert masks
    assert run(home, done).exit_code == 0
    assert {p: p.stat().st_mtime_ns for p in done.rglob("*.safetensors")} == stamps
    assert {p: p.stat().st_mtime_ns for p in (done / "predictions").rglob("*.png")} == masks
    assert {p: p.read_bytes() for p in (done / "results").rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_models_can_be_scored_as_users_run_them(home, done, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(done, out)
    result = run(home, out, "--zoom", "auto", "--min-closure", "0.3")
    assert result.exit_code == 0, result.output
    keys = {p.parent.name for p in (out / "predictions").rglob("*.png")}
    assert len([k for k in keys if "-auto-" in k and k.endswith("-0.3")]) == len(keys) / 2
    assert "--zoom auto --min-closure 0.3" in (out / "results" / "results.md").read_text()


@pytest.mark.slow
def test_another_plan_is_not_mixed_with_a_training(home, done):
    file = home / "drawn.toml"
    text = file.read_text()
    try:
        file.write_text(text.replace("folds = 3", 'folds = 3\nset = ["schedule.seed=1"]'))
        with pytest.raises(SettingsError, match="another plan"):
            run(home, done)
    finally:
        file.write_text(text)


def test_missing_datasets_are_named_all_of_them(home, tmp_path):
    with pytest.raises(DatasetError, match=r"TEM at .*; SEM at ") as caught:
        run(home, tmp_path / "out", "--data", str(tmp_path))
    assert "--without-missing" in str(caught.value)
    assert not (tmp_path / "out" / "models").exists()


def test_without_every_source_nothing_can_be_done(home, tmp_path):
    with pytest.raises(SettingsError, match="no model can be trained"):
        run(home, tmp_path / "out", "--data", str(tmp_path), "--without-missing")


def test_a_folder_of_something_else_is_refused(home, tmp_path):
    (tmp_path / "mine.txt").write_text("x")
    with pytest.raises(SettingsError, match="not empty"):
        run(home, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]


def test_a_test_set_is_asked_for(home, tmp_path):
    file = tmp_path / "x.toml"
    file.write_text((home / "drawn.toml").read_text().replace('"cross-validation"', '"test"'))
    with pytest.raises(
        DatasetError, match=r"without a test set.*SEM, TEM|without a test set.*TEM, SEM"
    ):
        CliRunner().invoke(
            experiment, [str(file), "-o", str(tmp_path / "o"), "--data", str(home)],
            catch_exceptions=False,
        )  # fmt: skip
