from __future__ import annotations

import csv
import json
import math
import sys

import numpy as np
import pytest
from PIL import Image

from ranvier.bundle import open_bundle
from ranvier.datasets.phantom import PhantomSettings, draw, write_dataset
from ranvier.provenance import file_sha256

LEVELS = np.array([0, 127, 255], np.uint8)
TABLES = {"scores.csv", "summary.csv", "summary.md", "summary.json", "run.json"}


@pytest.fixture(scope="module")
def phantoms():
    return [draw(PhantomSettings(shape=(96, 112), look="SEM", seed=seed)) for seed in range(3)]


@pytest.fixture
def data(tmp_path, phantoms):
    write_dataset(tmp_path / "sem", phantoms)
    return tmp_path / "sem"


def masks(folder, phantoms, change=lambda c: c):
    """Masks of the phantoms as a tool may write them, named as their images are."""
    folder.mkdir(parents=True)
    for number, phantom in enumerate(phantoms):
        Image.fromarray(LEVELS[change(phantom.classes)]).save(folder / f"sem-{number:04d}.png")
    return folder


def shifted(classes):
    return np.roll(classes, 2, axis=0)


@pytest.fixture
def perfect(tmp_path, phantoms):
    return masks(tmp_path / "perfect", phantoms)


def rows(path):
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def values(out, model, metric, structure, unit=""):
    return {
        r["image"]: float(r["value"]) if r["value"] else math.nan
        for r in rows(out / "scores.csv")
        if (r["model"], r["metric"], r["class"], r["unit"]) == (model, metric, structure, unit)
    }


def naive(predicted, truth, kind):
    p, t = predicted == kind, truth == kind
    return 2 * (p & t).sum() / (p.sum() + t.sum())


def test_perfect_and_shifted_masks(run, data, tmp_path, phantoms, perfect):
    moved = masks(tmp_path / "moved", phantoms, shifted)
    out = tmp_path / "out"
    code, said, err = run(
        "evaluate", "--pred", f"Perfect masks={perfect}", "--pred", moved, "--on", data, "-o", out
    )
    assert (code, err) == (0, "")
    assert "PHANTOM_SEM: all 3 image(s): it has no test set" in said
    assert f"results: {out}/" in said
    for structure, kind in (("axon", 2), ("myelin", 1)):
        assert set(values(out, "Perfect masks", "dice", structure).values()) == {1.0}
        found = values(out, "moved", "dice", structure)
        for number, phantom in enumerate(phantoms):
            expected = naive(shifted(phantom.classes), phantom.classes, kind)
            assert found[f"sem-{number:04d}"] == pytest.approx(expected, abs=1e-12)
    assert set(values(out, "Perfect masks", "hd95", "axon", "um").values()) == {0.0}
    assert set(values(out, "Perfect masks", "count_bias", "axon", "axons").values()) == {0.0}
    summary = {
        (r["model"], r["class"], r["metric"], r["unit"]): r for r in rows(out / "summary.csv")
    }
    dice = list(values(out, "moved", "dice", "axon").values())
    row = summary["moved", "axon", "dice", ""]
    assert float(row["mean_over_images"]) == pytest.approx(np.mean(dice))
    both = [np.vstack([f(p.classes) for p in phantoms]) for f in (shifted, lambda c: c)]
    assert float(row["pooled"]) == pytest.approx(naive(*both, 2))
    assert row["seen_in_training"] == "unknown"
    names = {p.name for p in out.iterdir()}
    assert names == TABLES | {"agreement", "errors"} | {
        f"heatmap_{m}{e}" for m in ("dice", "f1") for e in (".png", ".svg")
    }
    record = json.loads((out / "run.json").read_text())
    assert record["models"][1]["files"]["sem-0000.png"] == file_sha256(moved / "sem-0000.png")
    assert record["settings"]["instances"]["min_axon_area"] == 10
    assert record["outputs"]["scores.csv"] == file_sha256(out / "scores.csv")


def test_the_embedded_model_and_a_renamed_one(run, data, generalist, tmp_path):
    for name in ("sem-0001", "sem-0002"):
        (data / "images" / f"{name}.png").unlink()
        (data / "masks" / f"{name}.png").unlink()
    out = tmp_path / "out"
    code, said, _ = run(
        "evaluate", "--model", "generalist", "--model", f"mine={generalist}", "--on", data,
        "-o", out, "--no-pictures", "--threads", 1, "--views", 1,
    )  # fmt: skip
    assert code == 0
    assert {p.name for p in out.iterdir()} == TABLES
    one, other = (values(out, m, "dice", "axon") for m in ("generalist", "mine"))
    assert one == other
    assert one["sem-0000"] > 0.8
    found = rows(out / "scores.csv")
    assert {r["model_sha256"] for r in found} == {open_bundle(generalist).sha256}
    assert {r["seen_in_training"] for r in found} == {"no"}
    assert {(r["pixel_size_um"], r["pixel_size_source"]) for r in found} == {
        ("0.1", "dataset.json")
    }
    assert "TRAINED" not in said
    record = json.loads((out / "run.json").read_text())
    assert record["models"][1]["inference"]["views"] == 1
    assert record["models"][1]["inference"]["zoom"] == "auto"
    assert [len(m["zooms"]) for m in record["models"]] == [1, 1]
    assert record["models"][1]["model"]["name"] == "generalist"


def test_images_that_a_model_was_trained_on_are_no_test(run, phantoms, generalist, tmp_path):
    source, names = next(iter(open_bundle(generalist).about["training"]["trained_on"].items()))
    write_dataset(tmp_path / "known", phantoms[:2])
    about = tmp_path / "known" / "dataset.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "name": source}))
    for folder in ("images", "masks"):
        place = tmp_path / "known" / folder
        (place / "sem-0000.png").rename(place / f"{names[0]}.png")
    out = tmp_path / "out"
    code, said, err = run(
        "evaluate", "--model", "generalist", "--on", tmp_path / "known", "-o", out,
        "--no-pictures", "--threads", 1, "--views", 1,
    )  # fmt: skip
    assert code == 0
    assert f"warning: generalist was TRAINED on 1 of 2 image(s) of {source}" in err
    assert "generalist †" in said
    seen = {r["image"]: r["seen_in_training"] for r in rows(out / "scores.csv")}
    assert seen == {names[0]: "yes", "sem-0001": "no"}
    assert {r["seen_in_training"] for r in rows(out / "summary.csv")} == {"yes"}
    assert "no score" in (out / "summary.md").read_text(encoding="utf-8")


def test_two_folders_of_masks(run, tmp_path, phantoms, perfect):
    moved = masks(tmp_path / "moved", phantoms, shifted)
    out = tmp_path / "out"
    call = ("evaluate", "--pred", moved, "--truth", perfect, "-o", out)
    code, said, _ = run(*call, "--no-pictures")
    assert code == 0
    assert "perfect: 3 true mask(s)" in said
    assert {r["pixel_size_um"] for r in rows(out / "scores.csv")} == {""}
    assert "um" not in {r["unit"] for r in rows(out / "scores.csv")}
    before = values(out, "moved", "axon_diameter_bias", "axon", "px")
    code, _, _ = run(*call, "--no-pictures", "--overwrite", "--pixel-size", 0.5)
    assert code == 0
    after = values(out, "moved", "axon_diameter_bias", "axon", "um")
    assert after == {k: pytest.approx(0.5 * v) for k, v in before.items()}


def test_masks_alone_have_pictures_of_their_errors(run, tmp_path, phantoms, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    moved = masks(tmp_path / "moved", phantoms[:1], shifted)
    truth = masks(tmp_path / "truth", phantoms[:1])
    out = tmp_path / "out"
    code, _, err = run("evaluate", "--pred", moved, "--truth", truth, "-o", out)
    assert code == 0
    assert "heat maps and agreement plots are left out" in err
    assert "ranvier[report]" in err
    assert {p.name for p in out.iterdir()} == {*TABLES, "errors"}
    assert [p.name for p in (out / "errors").iterdir()] == ["truth__moved__only.png"]


def test_a_missing_mask_is_one_clear_error(run, data, perfect, tmp_path):
    (perfect / "sem-0001.png").unlink()
    out = tmp_path / "out"
    code, _, err = run("evaluate", "--pred", perfect, "--on", data, "-o", out)
    assert code == 1
    assert "no mask of 1 of 3 image(s) (seen: none of PHANTOM_SEM/sem-0001)" in err
    assert err.count("error:") == 1
    assert not out.exists()


def test_a_broken_image_is_named_and_the_rest_scored(run, data, perfect, tmp_path):
    (data / "images" / "sem-0001.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    out = tmp_path / "out"
    code, _, err = run("evaluate", "--pred", perfect, "--on", data, "-o", out, "--no-pictures")
    assert code == 1
    assert "error: PHANTOM_SEM/sem-0001: " in err
    assert "1 problem(s)" in err
    assert set(values(out, "perfect", "dice", "axon")) == {"sem-0000", "sem-0002"}
    record = json.loads((out / "run.json").read_text())
    assert [f["image"] for f in record["failures"]] == ["sem-0001"]
    (data / "masks" / "sem-0002.png").unlink()
    code, _, err = run(
        "evaluate", "--pred", perfect, "--on", data, "-o", out, "--no-pictures", "--overwrite"
    )
    assert code == 1
    assert "sem-0002.png has no mask" in err
    assert set(values(out, "perfect", "dice", "axon")) == {"sem-0000"}


def test_nothing_is_scored_and_nothing_written(run, data, phantoms, tmp_path):
    small = masks(tmp_path / "small", phantoms, lambda c: c[:-1])
    out = tmp_path / "out"
    code, _, err = run("evaluate", "--pred", small, "--on", data, "-o", out)
    assert code == 1
    assert "mask (95, 112), image (96, 112)" in err
    assert not out.exists()


def test_earlier_scores_are_safe(run, data, perfect, tmp_path):
    out = tmp_path / "out"
    call = ("evaluate", "--pred", perfect, "--on", data, "-o", out, "--no-pictures")
    assert run(*call)[0] == 0
    before = (out / "scores.csv").read_bytes()
    code, _, err = run(*call)
    assert code == 1
    assert "scores are there already" in err
    assert run(*call, "--overwrite")[0] == 0
    assert (out / "scores.csv").read_bytes() == before
    (out / "scores.csv").write_text("mine")
    code, _, err = run(*call, "--overwrite")
    assert code == 1
    assert "changed since" in err


def test_datasets_may_follow_one_after_the_other(run, data, perfect, phantoms, tmp_path):
    write_dataset(tmp_path / "tem", [draw(PhantomSettings(shape=(96, 112), look="TEM", seed=0))])
    Image.fromarray(LEVELS[phantoms[0].classes]).save(perfect / "tem-0000.png")
    out = tmp_path / "out"
    code, said, _ = run(
        "evaluate", "--pred", perfect, "--on", data, tmp_path / "tem", "-o", out, "--no-pictures"
    )
    assert code == 0
    assert {r["test_set"] for r in rows(out / "scores.csv")} == {"PHANTOM_SEM", "PHANTOM_TEM"}
    assert "PHANTOM_TEM: all 1 image(s)" in said


def test_settings_reach_the_figures(run, data, perfect, tmp_path):
    out = tmp_path / "out"
    call = ("evaluate", "--pred", perfect, "--on", data, "-o", out, "--no-pictures")
    assert run(*call)[0] == 0
    every = values(out, "perfect", "count_true", "axon", "axons")
    assert run(*call, "--overwrite", "--min-axon-area", 400)[0] == 0
    large = values(out, "perfect", "count_true", "axon", "axons")
    assert all(0 < large[k] < every[k] for k in every)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--on", "x"), "--model or --pred"),
        (("--pred", "x"), "--on DATASET, or --truth"),
        (("--pred", "x", "--on", "y", "--truth", "z"), "--truth and datasets"),
        (("--pred", "x", "--truth", "z", "--fold", "0"), "--truth and --fold"),
        (("--pred", "x", "--truth", "z", "--role", "all"), "--truth and --role"),
        (("--model", "x", "--truth", "z"), "--truth and --model"),
    ],
)
def test_wrong_usage(run, tmp_path, arguments, what):
    code, _, err = run("evaluate", *arguments, "-o", tmp_path / "out")
    assert code == 2
    assert what in err


def test_faithful_is_for_imported_models(run, data, tmp_path):
    code, _, err = run(
        "evaluate", "--model", "generalist", "--faithful", "--on", data, "-o", tmp_path / "out"
    )
    assert code == 2
    assert "imported from nnU-Net" in err


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("--pred", "=x"), "not NAME=FOLDER"),
        (("--pred", "nowhere"), "no such folder of masks"),
        (("--model", "nobody"), "no such model"),
        (("--model", "generalist", "--model", "generalist", "--views", "1"), "have one name"),
        (("--pred", "x", "--fold", "0"), "folds are those of an aggregate"),
        (("--pred", "x", "--pixel-size", "-1"), "pixel size outside"),
    ],
)
def test_one_clear_error(run, data, tmp_path, arguments, what):
    code, _, err = run("evaluate", *arguments, "--on", data, "-o", tmp_path / "out")
    assert code == 1
    assert what in err
    assert err.count("error:") == 1
    assert not (tmp_path / "out").exists()
