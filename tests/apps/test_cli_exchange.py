from __future__ import annotations

import csv
import importlib.util
import json
import shutil
import subprocess
import sys
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


class Trap:
    """Runs code when it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_code_in_a_checkpoint_runs_with_trust_alone(run, tmp_path):
    home, sprung = tmp_path / "nnunet", tmp_path / "sprung"
    shutil.copytree(HOME / "trained", home)
    path = home / "fold_0" / "checkpoint_final.pth"
    content = torch.load(path, weights_only=False)
    torch.save({**content, "logging": Trap(sprung)}, path)
    call = ("models", "import", home, "--name", "m", "-o", tmp_path / "m")
    code, _, err = run(*call)
    assert code == 1
    assert "holds more than tensors" in err
    assert "give --trust: the file may then run any code with your rights" in err
    assert not sprung.exists()
    assert not (tmp_path / "m").exists()
    code, out, err = run(*call, "--trust")
    assert code == 0
    assert "lets the checkpoint run code on this computer" in err
    assert "opened with full trust" in out
    assert sprung.exists()
    sprung.unlink()
    assert run("models", "verify", tmp_path / "m")[0] == 0
    assert not sprung.exists()


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


def dice(out, kind):
    """Dice of each image, as ``ranvier evaluate`` wrote it."""
    with (out / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = [r for r in csv.DictReader(file) if (r["metric"], r["class"]) == ("dice", kind)]
    return {r["image"]: float(r["value"]) for r in rows}


def naive(predicted, truth, value):
    p, t = predicted == value, truth == value
    return 2 * (p & t).sum() / (p.sum() + t.sum())


def test_evaluation_shows_colour_to_a_model_of_colour(run, tmp_path, model, image):
    """Scored on what nnU-Net made of a colour image: all but equal in colour, and far from it in grey."""
    path, theirs = image
    with Image.open(path) as shot:
        rgb, grey = np.asarray(shot), np.asarray(shot.convert("L"))
    mask = np.array([0, 255, 0, 127], np.uint8)[theirs]
    for name, pixels in (("colour", rgb), ("grey", grey)):
        for folder, what in (("images", pixels), ("masks", mask)):
            (tmp_path / name / folder).mkdir(parents=True)
            Image.fromarray(what).save(tmp_path / name / folder / "shot.png")
        code, _, err = run(
            "evaluate", "--model", model, "--faithful", "--on", tmp_path / name,
            "-o", tmp_path / f"scores-{name}", "--no-pictures",
        )  # fmt: skip
        assert code == 0, err
    for kind in ("axon", "myelin"):
        assert dice(tmp_path / "scores-colour", kind)["shot"] >= 0.998
    assert dice(tmp_path / "scores-grey", "axon")["shot"] < 0.9


def test_the_whole_way_to_nnunet_and_back(run, tmp_path):
    """Phantoms -> our export, which nnU-Net was trained on -> its model here -> scores on that export."""
    from ranvier.datasets.phantom import PhantomSettings, draw, write_dataset
    from ranvier.inference import InferenceSettings, load_model, segment
    from ranvier.reading import read

    phantoms = [draw(PhantomSettings(shape=(96, 96), look="SEM", seed=s)) for s in range(5)]
    write_dataset(tmp_path / "sem", phantoms)
    agg, out = tmp_path / "agg", tmp_path / "scores"
    assert run("aggregate", tmp_path / "sem", "--name", "PHANTOMS", "-o", agg)[0] == 0
    export = ("data", "export", agg, "--to", "nnunet", "-o", tmp_path, "--id", 902)
    assert run(*export)[0] == 0
    raw = tmp_path / "Dataset902_PHANTOMS"
    trained_on = json.loads((HOME / "trained" / "dataset.json").read_text())
    assert json.loads((raw / "dataset.json").read_text()) == trained_on

    code, _, err = run(
        "models", "import", HOME / "trained", "--name", "mine", "-o", tmp_path / "mine"
    )
    assert code == 0, err
    code, said, err = run(
        "evaluate", "--model", tmp_path / "mine", "--faithful", "--on", raw, "-o", out, "--no-pictures"
    )  # fmt: skip
    assert code == 0, err
    assert "mine" in said
    scored = {kind: dice(out, kind) for kind in ("axon", "myelin")}
    assert len(scored["axon"]) == 5
    mine = load_model(tmp_path / "mine", threads=1)
    for number, phantom in enumerate(phantoms):
        name = f"sem-{number:04d}"
        shot = read(raw / "imagesTr" / f"PHANTOM_SEM_{name}_0000.png", pixel_size=0.1)
        np.testing.assert_array_equal(shot.pixels, phantom.image.pixels)
        found = segment(shot, mine, settings=InferenceSettings(faithful=True)).classes
        for kind, value in (("axon", 2), ("myelin", 1)):
            expected = naive(found, phantom.classes, value)
            assert scored[kind][name] == pytest.approx(expected, abs=1e-6)
    assert all(np.mean(list(each.values())) > 0.6 for each in scored.values()), scored


def test_an_imported_model_runs_without_torch(tmp_path, model, image):
    path, theirs = image
    code = "import sys; sys.modules['torch'] = None; from ranvier.apps.cli import main; main(sys.argv[1:])"
    call = ["segment", path, "--model", model, "--faithful", "-o", tmp_path / "out"]
    subprocess.run([sys.executable, "-c", code, *map(str, call)], check=True, capture_output=True)
    classes = np.asarray(Image.open(tmp_path / "out" / "shot_seg-axonmyelin.png"))
    ours = np.array([0, 255, 0, 127])[theirs]
    assert np.mean(classes == ours) >= 0.999


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
