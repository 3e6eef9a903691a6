"""Folds trained one by one, their networks as one model, and each as the judge of what it held out."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from ranvier.apps.cli_train import train as train_command
from ranvier.apps.training_options import several
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import split
from ranvier.errors import DatasetError, SettingsError
from ranvier.inference import load_model, segment
from ranvier.reading import from_array
from ranvier.training.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from ranvier.training.cross_validation import begun_from, load_dealt, trained_folds
from ranvier.training.ensemble import Fold, export_ensemble, make_ensemble, out_of_fold
from ranvier.training.export import ExportSettings
from ranvier.training.network import make_network
from ranvier.training.recipe import InputSettings, NetworkSettings, Recipe, ScheduleSettings

RECIPE = Recipe(
    network=NetworkSettings(channels=(8, 8)), schedule=ScheduleSettings(patch=64, precision="f32")
)
TINY = (
    "[network]\nchannels = [8, 8]\n[schedule]\nsteps = 2\nbatch = 2\npatch = 64\nvalidate_every_steps = 1\n"
    "precision = 'f32'\n"
)


def made_up(path, images, *, seed=0, recipe=RECIPE):
    """Write a checkpoint of an untrained network."""
    torch.manual_seed(seed)
    network = make_network(recipe.network)
    about = {
        "step": 1, "seconds": 1.0, "recipe": recipe.as_dict(), "scores": {}, "begun_from": None,
        "images": {
            "train": [f"{a.source}/{a.name}" for a in images.train],
            "validation": [f"{a.source}/{a.name}" for a in images.validation],
        },
    }  # fmt: skip
    save_checkpoint(Checkpoint({}, network.state_dict(), {}, about), path)
    return path


@pytest.fixture(scope="module")
def folds(phantom_data, tmp_path_factory):
    home, data = tmp_path_factory.mktemp("folds"), read_datasets([phantom_data])
    dealt = [split(data, fold=k, folds=3) for k in range(3)]
    return tuple(
        Fold(k, made_up(home / f"{k}.safetensors", images, seed=k), images)
        for k, images in enumerate(dealt)
    )


@pytest.fixture(scope="module")
def bundle(folds, tmp_path_factory):
    settings = ExportSettings(int8=False)
    folder = tmp_path_factory.mktemp("out") / "ensemble"
    return export_ensemble(folds, folder, name="three", settings=settings)


def test_an_ensemble_gives_the_mean_of_the_probabilities(folds):
    paths = [fold.checkpoint for fold in folds]
    grey = torch.randn(1, 1, 32, 32)
    with torch.inference_mode():
        mean = torch.stack(
            [make_ensemble([path])(grey).softmax(dim=1) for path in paths]
        ).mean(dim=0)  # fmt: skip
        log = make_ensemble(paths)(grey)
    assert torch.allclose(log.exp(), mean, atol=1e-6)
    assert torch.allclose(log.softmax(dim=1), mean, atol=1e-6)


def test_an_ensemble_needs_networks_of_one_shape_and_input(folds, tmp_path):
    fold = folds[0]
    with pytest.raises(SettingsError, match="at least one"):
        make_ensemble([])
    other = dataclasses.replace(RECIPE, network=NetworkSettings(channels=(8, 12)))
    shape = made_up(tmp_path / "shape.safetensors", fold.split, recipe=other)
    other = dataclasses.replace(
        RECIPE, input=InputSettings("rescale"),
        augmentation=dataclasses.replace(RECIPE.augmentation, scheme="nnunet"),
    )  # fmt: skip
    given = made_up(tmp_path / "input.safetensors", fold.split, recipe=other)
    for path in (shape, given):
        with pytest.raises(SettingsError, match=r"one \[network\]"):
            make_ensemble([fold.checkpoint, path])


def test_every_image_is_scored_by_the_fold_that_held_it_out(folds, monkeypatch):
    seen = []

    def image_scores(network, images, recipe):
        seen.append((next(network.parameters()).sum().item(), [a.name for a in images]))
        return [(a.source, {"dice_axon": len(seen) / 10, "iou_axon": np.nan}) for a in images]

    monkeypatch.setattr("ranvier.training.ensemble.image_scores", image_scores)
    found = out_of_fold(folds)
    assert [names for _, names in seen] == [[a.name for a in f.split.validation] for f in folds]
    assert len({weight for weight, _ in seen}) == 3
    each = {f.split.validation[0].source for f in folds}
    assert set(found) >= each
    assert all(set(values) == {"dice_axon"} for values in found.values())
    assert found[next(iter(found))]["dice_axon"] == pytest.approx(0.2)
    with pytest.raises(SettingsError, match="same image"):
        out_of_fold([folds[0], folds[0]])


def test_the_bundle_of_an_ensemble_lists_its_folds_and_segments(bundle, folds, phantom):
    training = bundle.about["training"]
    assert bundle.kinds == ("float",)
    assert [m["fold"] for m in training["ensemble"]] == [0, 1, 2]
    for member, fold in zip(training["ensemble"], folds, strict=True):
        held = [name for names in member["held_out"].values() for name in names]
        assert sorted(held) == sorted(a.name for a in fold.split.validation)
    assert set(training["validation"]) == set(training["validated_on"])
    assert "fold 2" in bundle.content("card.md").decode()
    pixels = phantom.image.pixels
    found = segment(from_array(pixels), load_model(bundle.folder))
    assert found.shape == pixels.shape
    assert found.confidence.min() >= 255 / 3 - 1


def test_an_ensemble_cannot_keep_weights(folds, tmp_path):
    settings = ExportSettings(int8=False, keep_weights=True)
    with pytest.raises(SettingsError, match="cannot be trained further"):
        export_ensemble(folds, tmp_path / "m", name="x", settings=settings, cross_validated={})
    assert list(tmp_path.iterdir()) == []


def test_several_folds_are_read_and_refused():
    assert several("0-4", lambda: 5) == (0, 1, 2, 3, 4)
    assert several("1-2", lambda: 5) == (1, 2)
    assert several("each", lambda: 3) == (0, 1, 2)
    assert several("3", lambda: 5) == several("all", lambda: 5) == ()
    for wrong in ("3-3", "4-2", "0-5"):
        with pytest.raises(SettingsError, match="not several"):
            several(wrong, lambda: 5)


@pytest.fixture(scope="module")
def trained(phantom_data, tmp_path_factory):
    home = tmp_path_factory.mktemp("each")
    (home / "tiny.toml").write_text(TINY)
    command = [
        str(phantom_data), "-o", str(home / "run"), "--recipe", str(home / "tiny.toml"), "--folds", "3",
        "--fold", "each", "--drop-failing", "--name", "three",
    ]  # fmt: skip
    done = CliRunner().invoke(train_command, command, catch_exceptions=False)
    return home / "run", command, done


@pytest.mark.slow
def test_train_each_makes_every_fold_and_the_ensemble(trained):
    folder, _, done = trained
    assert done.exit_code == 0, done.output
    assert {p.name for p in folder.iterdir()} == {
        "fold-0", "fold-1", "fold-2", "folds.json", "cross_validation.json", "ensemble",
    }  # fmt: skip
    scores = json.loads((folder / "cross_validation.json").read_text())["scores"]
    assert len(scores) == 2
    for source, values in scores.items():
        assert f"{source}: axon {values['dice_axon']:.3f}" in done.output
    about = json.loads((folder / "ensemble" / "model.json").read_text())
    assert about["training"]["validation"] == scores


@pytest.mark.slow
def test_finished_folds_are_not_trained_again(trained):
    folder, command, _ = trained
    runner, before = CliRunner(), (folder / "fold-1" / "last.safetensors").read_bytes()
    refused = runner.invoke(train_command, command)
    assert isinstance(refused.exception, SettingsError)
    again = runner.invoke(train_command, [*command, "--resume"], catch_exceptions=False)
    assert again.exit_code == 0
    assert again.output.count("going on from step 2") == 3
    assert (folder / "fold-1" / "last.safetensors").read_bytes() == before


@pytest.mark.slow
def test_what_was_dealt_can_be_dealt_again(trained, phantom_data, tmp_path):
    folder, _, _ = trained
    dealt = load_dealt(folder)
    assert dealt.datasets == (phantom_data.resolve(),)
    assert (dealt.folds, dealt.trained) == (3, (0, 1, 2))
    data = read_datasets([phantom_data])
    splits = {k: split(data, fold=k, folds=3) for k in dealt.trained}
    found = trained_folds(folder, splits)
    assert [f.number for f in found] == [0, 1, 2]
    assert all(load_checkpoint(f.checkpoint).about["step"] for f in found)
    with pytest.raises(DatasetError, match="no longer those"):
        trained_folds(folder, {0: splits[1]})
    with pytest.raises(DatasetError, match="no folds were trained"):
        load_dealt(tmp_path)
    (tmp_path / "folds.json").write_text('{"format": 2}')
    with pytest.raises(DatasetError, match="not a list of folds"):
        load_dealt(tmp_path)


@pytest.mark.slow
def test_each_fold_goes_on_from_its_own(trained, phantom_data, tmp_path):
    folder, command, _ = trained
    command = [*command, "--fold", "0-1", "--init", str(folder), "-o", str(tmp_path / "second")]
    done = CliRunner().invoke(train_command, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    for k in (0, 1):
        begun = load_checkpoint(folder / f"fold-{k}" / "best.safetensors").about
        then = load_checkpoint(tmp_path / "second" / f"fold-{k}" / "best.safetensors").about
        assert then["begun_from"]["images"] == begun["images"] == then["images"]
        assert then["begun_from"]["scores"] == begun["scores"]


def test_no_fold_goes_on_from_one_that_saw_what_it_holds_out(folds, tmp_path):
    splits = {f.number: f.split for f in folds}
    for fold in folds:
        (tmp_path / f"fold-{fold.number}").mkdir()
        (tmp_path / f"fold-{fold.number}" / "best.safetensors").write_bytes(
            fold.checkpoint.read_bytes()
        )
    assert set(begun_from(tmp_path, splits)) == set(splits)
    with pytest.raises(DatasetError, match="holds out now"):
        begun_from(tmp_path, {0: splits[1], 1: splits[0]})
    with pytest.raises(DatasetError):
        begun_from(tmp_path, {7: splits[0]})


def test_several_folds_do_not_go_on_from_any_folder(phantom_data, tmp_path):
    command = [str(phantom_data), "-o", str(tmp_path / "a"), "--fold", "each", "--init"]
    refused = CliRunner().invoke(train_command, [*command, str(tmp_path)])
    assert isinstance(refused.exception, SettingsError)
    assert "an earlier training of the same folds" in str(refused.exception)
