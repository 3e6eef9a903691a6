from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

HOME = Path(__file__).parents[1] / "golden" / "nnunet"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    from ranvier.training.imported.convert import import_nnunet

    return import_nnunet(
        HOME / "colour", tmp_path_factory.mktemp("m") / "colour", name="colour"
    ).bundle.folder


@pytest.fixture
def image(tmp_path):
    with np.load(HOME / "colour.npz", allow_pickle=False) as kept:
        Image.fromarray(kept["plain/image"]).save(tmp_path / "shot.png")
        return tmp_path / "shot.png", kept["plain/classes"]


def test_import_show_verify(run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = run("models", "import", HOME / "trained", "--name", "mine", "--no-weights")
    assert code == 0
    assert "fold 0; checkpoint final; 2d" in out
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine"]
    code, out, _ = run("models", "show", "mine")
    assert code == 0
    assert "patches of 32 x 48 px; folds: 0; mirrored: rows, columns" in out
    assert "labels: background 0, myelin 1, axon 2" in out
    assert run("models", "verify", "mine")[0] == 0
    code, _, err = run(
        "models", "export", "mine", "--to", "bioimageio", "-o", "x.zip", "--author", "A"
    )
    assert code == 1
    assert "onnx" in err or "keeps no weights" in err


def test_a_path_as_name_needs_a_place(run):
    code, _, err = run("models", "import", HOME / "trained", "--name", "../mine")
    assert code == 2
    assert "needs -o" in err


def test_what_is_no_model_fails_with_a_reason(run, tmp_path):
    code, _, err = run("models", "import", tmp_path, "--name", "m", "-o", tmp_path / "out")
    assert code == 1
    assert "not the folder of an nnU-Net model" in err
    assert not (tmp_path / "out").exists()


def test_trust_is_warned_of(run, tmp_path):
    code, _, err = run(
        "models", "import", tmp_path, "--name", "m", "-o", tmp_path / "out", "--trust"
    )
    assert code == 1
    assert "lets the checkpoint run code" in err


@pytest.mark.parametrize("way", ["--faithful", "--fast"])
def test_colour_reaches_the_network(run, tmp_path, model, image, way):
    path, theirs = image
    code, out, err = run(
        "segment", path, "--model", model, way, "-o", tmp_path / "out", "--pixel-size", "0.1"
    )
    assert code == 0, err
    assert "red, green and blue kept for the model" in out
    classes = np.asarray(Image.open(tmp_path / "out" / "shot_seg-axonmyelin.png"))
    ours = np.array([0, 2, 0, 1])[theirs]
    agreement = np.mean(np.searchsorted([0, 127, 255], classes) == ours)
    assert agreement >= (0.999 if way == "--faithful" else 0.9)
    record = json.loads(next((tmp_path / "out").glob("*run.json")).read_text())
    assert record["settings"]["inference"]["faithful"] is (way == "--faithful")


def test_faithful_and_fast_results_are_not_taken_for_each_other(run, tmp_path, model, image):
    common = ("segment", image[0], "--model", model, "-o", tmp_path / "out", "--skip-existing")
    assert "skipped" not in run(*common, "--fast")[1]
    assert "skipped" in run(*common)[1]
    code, _, err = run(*common, "--faithful")
    assert code == 1
    assert "--overwrite" in err


def test_views_are_refused_for_imported_models(run, tmp_path, model, image):
    code, _, err = run("segment", image[0], "--model", model, "--views", "4", "-o", tmp_path / "o")
    assert code == 2
    assert "--views is not for imported models" in err


def test_other_models_are_not_run_faithfully(run, tmp_path, image):
    code, _, err = run("segment", image[0], "--faithful", "-o", tmp_path / "o")
    assert code == 1
    assert "imported from nnU-Net" in err


@pytest.mark.skipif(importlib.util.find_spec("onnx") is None, reason="onnx is not installed")
def test_export_to_bioimageio(run, tmp_path, model):
    target = tmp_path / "m.zip"
    common = ("models", "export", model, "--to", "bioimageio", "-o", target)
    code, _, err = run(*common)
    assert code == 1
    assert "names its authors" in err
    assert run(*common, "--author", "A. Maker")[0] == 0
    code, _, err = run(*common, "--author", "A. Maker")
    assert code == 1
    assert "already" in err
    assert run(*common, "--author", "A. Maker", "--overwrite")[0] == 0
