"""benchmarks/to_nnunet.py: a network trained here says the same once it has gone through nnU-Net's form."""

from __future__ import annotations

import importlib.util
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ranvier.errors import SettingsError
from ranvier.training.checkpoint import Checkpoint, save_checkpoint
from ranvier.training.imported.checkpoint import network_of, open_checkpoint
from ranvier.training.imported.convert import import_nnunet, rebuilt
from ranvier.training.imported.plans import read_plan
from ranvier.training.network import TorchBackend, make_network
from ranvier.training.recipe import Recipe
from ranvier.training.settings import (
    AugmentationSettings,
    InputSettings,
    NetworkSettings,
    ScheduleSettings,
)

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "to_nnunet.py"
PLAIN = NetworkSettings("plain", channels=(4, 6, 8), convs=2, deep_supervision=True)
RECIPE = Recipe(
    network=PLAIN,
    input=InputSettings("rescale"),
    schedule=ScheduleSettings(patch=(32, 48)),
    augmentation=AugmentationSettings(scheme="nnunet"),
)


@pytest.fixture(scope="module")
def script():
    if not SCRIPT.is_file():
        pytest.skip("benchmarks/ is not beside these tests")
    spec = importlib.util.spec_from_file_location("to_nnunet", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(path, recipe=RECIPE, seed=0):
    """A checkpoint with weights that differ in every tensor, and the network."""
    torch.manual_seed(seed)
    network = make_network(recipe.network).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    images = {"train": ["SEM/a", "SEM/b"], "validation": ["SEM/c"]}
    about = {"recipe": recipe.as_dict(), "images": images}
    save_checkpoint(Checkpoint({}, network.state_dict(), about=about), path)
    return path, network


@pytest.mark.parametrize("convs", [1, 2, 3])
def test_the_network_stays_what_it_was(script, tmp_path, convs):
    recipe = replace(RECIPE, network=replace(PLAIN, convs=convs))
    checkpoint, network = trained(tmp_path / "best.safetensors", recipe)
    home = script.convert([checkpoint], tmp_path / "nnunet")
    plan = read_plan(home, "2d")
    opened = open_checkpoint(home / "fold_0" / "checkpoint_final.pth")
    again = network_of(plan.architecture, opened.weights, home)
    image = torch.rand(2, 1, 32, 48)
    with torch.inference_mode():
        torch.testing.assert_close(again(image), network(image), rtol=0, atol=1e-5)
    assert (plan.patch, opened.mirror_axes, opened.trusted) == ((32, 48), (0, 1), False)
    assert plan.about["training_images"] == 3


def test_every_name_of_nnunet_is_there(script, tmp_path):
    """Those of a checkpoint that nnU-Net wrote of a network of the same shape; the values are copies."""
    written = Path(__file__).parents[1] / "golden/nnunet/plain_old/fold_all/checkpoint_final.pth"
    theirs = open_checkpoint(written).weights
    recipe = replace(RECIPE, network=replace(PLAIN, channels=(4, 8, 12)))
    checkpoint, _ = trained(tmp_path / "best.safetensors", recipe)
    home = script.convert([checkpoint], tmp_path / "nnunet")
    ours = open_checkpoint(home / "fold_0" / "checkpoint_final.pth").weights
    assert {n: t.shape for n, t in ours.items()} == {n: t.shape for n, t in theirs.items()}


def test_folds_become_an_ensemble(script, tmp_path):
    made = [trained(tmp_path / f"{seed}.safetensors", seed=seed) for seed in range(2)]
    home = script.convert([path for path, _ in made], tmp_path / "nnunet", patch=(16, 64))
    bundle = import_nnunet(home, tmp_path / "bundle", name="two").bundle
    assert (bundle.patches.folds, bundle.patches.patch) == (("0", "1"), (16, 64))
    image = np.random.default_rng(0).random((1, 1, 16, 64), np.float32)
    expected = np.concatenate([TorchBackend(n).logits(image) for _, n in made], axis=1)
    np.testing.assert_allclose(TorchBackend(rebuilt(bundle)).logits(image), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("recipe", "patch", "message"),
    [
        (Recipe(), None, "not a plain network"),
        (RECIPE, (30, 48), "multiple of 4"),
        (replace(RECIPE, input=InputSettings("standardise")), None, "another recipe"),
    ],
)
def test_what_cannot_be_converted_is_said(script, tmp_path, recipe, patch, message):
    first, _ = trained(tmp_path / "a.safetensors")
    second, _ = trained(tmp_path / "b.safetensors", recipe)
    with pytest.raises(SettingsError, match=message):
        script.convert([first, second], tmp_path / "nnunet", patch=patch)
    assert not (tmp_path / "nnunet").exists()


def test_the_benchmark_measures_what_it_says(monkeypatch, tmp_path, capsys):
    """Patches, agreement and Dice of its rows, against the same worked out here."""
    import csv

    from ranvier import patchwise
    from ranvier.datasets.phantom import PhantomSettings, draw, write_dataset
    from ranvier.inference import load_model

    monkeypatch.syspath_prepend(str(SCRIPT.parent))
    benchmark = pytest.importorskip("imported", reason="benchmarks/ is not beside these tests")
    drawn = [draw(PhantomSettings(shape=(90, 110), look="SEM", seed=s)) for s in range(3)]
    write_dataset(tmp_path / "sem", drawn)
    home = Path(__file__).parents[1] / "golden" / "nnunet" / "trained"
    model = load_model(import_nnunet(home, tmp_path / "m", name="m").bundle.folder, threads=1)
    rows = tmp_path / "rows.csv"
    call = [tmp_path / "sem", "--model", tmp_path / "m", "--crop", 100, "--limit", 2]
    benchmark.main([str(a) for a in (*call, "--threads", 1, "--rows", rows)])
    with rows.open(newline="") as file:
        found = {(r["image"], r["way"]): r for r in csv.DictReader(file)}
    assert len(found) == 4
    for number in range(2):
        pixels, truth = (a[:, 5:105] for a in (drawn[number].image.pixels, drawn[number].classes))
        faithful, fast = (
            patchwise.predict_patchwise(pixels, model.backend, model.bundle.patches, window=w)[0]
            for w in (patchwise.FAITHFUL, patchwise.FAST)
        )
        row = found[f"sem-{number:04d}", "fast"]
        assert (
            int(row["patches"]) == 4 * 3
        )  # no further apart than 28 and 42 pixels, over 58 and 52
        assert int(found[f"sem-{number:04d}", "faithful"]["patches"]) == 4 * 5 * 4
        assert float(row["same"]) == pytest.approx(np.mean(fast == faithful))
        for key, other, index in (("axon", faithful, 2), ("true_myelin", truth, 1)):
            a, b = fast == index, other == index
            expected = 2 * (a & b).sum() / (a.sum() + b.sum())
            assert float(row[key]) == pytest.approx(expected)
    table = capsys.readouterr().out
    assert "| PHANTOM_SEM, 2 | faithful | 160 |" in table
    assert "|  | fast | 24 |" in table
