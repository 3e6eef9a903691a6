"""A tiny training from drawn data to a bundle that the ordinary inference runs."""

from __future__ import annotations

import dataclasses
import io
import signal
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from ranvier.backends import OpenVinoBackend
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import everything, split
from ranvier.errors import DatasetError, OutputExistsError, SettingsError
from ranvier.inference import load_model, segment
from ranvier.reading import from_array
from ranvier.training import loop
from ranvier.training.checkpoint import load_checkpoint
from ranvier.training.device import take_place
from ranvier.training.export import export_bundle
from ranvier.training.loop import BEST, LAST, train
from ranvier.training.monitor import CONFUSED, INVENTED, RIGHT, error_png
from ranvier.training.network import CompactUNet, TorchBackend
from ranvier.training.recipe import NetworkSettings, Recipe, ScheduleSettings, read_recipe

NETWORK = NetworkSettings(channels=(8, 12, 16))
RECIPE = Recipe(
    network=NETWORK,
    schedule=ScheduleSettings(
        steps=6, batch=2, patch=64, validate_every_steps=3, warmup_steps=2, precision="f32"
    ),
)


@pytest.fixture(scope="module")
def images(phantom_data):
    return split(read_datasets([phantom_data]), fold=0, folds=3)


@pytest.fixture(scope="module")
def trained(images, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "new"
    return train(images, RECIPE, folder, report=lambda text: None)


def tensors(path):
    checkpoint = load_checkpoint(path)
    return {**checkpoint.network, **{f"a/{k}": v for k, v in checkpoint.average.items()}}


def test_a_training_learns_logs_and_keeps_its_best(trained):
    about = load_checkpoint(trained.best).about
    assert trained.steps == 6
    assert set(trained.scores) == set(about["scores"])
    assert len(trained.scores) == 2
    log = (trained.best.parent / "log.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in log] == ["step", "3", "6"]


def test_an_interrupted_training_goes_on_bit_for_bit(images, trained, tmp_path, monkeypatch):
    def stops(run, *rest):
        validate(run, *rest)
        if run.step == 3:
            raise KeyboardInterrupt

    validate = loop._Run._validate
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop._Run, "_validate", stops)
        train(images, RECIPE, tmp_path, report=lambda text: None)
    train(images, RECIPE, tmp_path, resume=True, report=lambda text: None)
    resumed, whole = tensors(tmp_path / LAST), tensors(trained.best.parent / LAST)
    assert resumed.keys() == whole.keys()
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)


SCRIPT = """
import os, signal, sys
from pathlib import Path
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import split
from ranvier.training import loop
from ranvier.training.recipe import read_recipe

step = loop._Run._train_step
def until_killed(run):
    if run.step == 5:  # after the checkpoint of step 3, before that of step 6
        os.kill(os.getpid(), signal.SIGKILL)
    return step(run)
loop._Run._train_step = until_killed
images = split(read_datasets([Path(sys.argv[1])]), fold=0, folds=3)
loop.train(images, read_recipe(sys.argv[2]), Path(sys.argv[3]), report=print)
"""


def test_a_killed_training_goes_on_bit_for_bit(phantom_data, images, trained, tmp_path):
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(
        "[network]\nchannels = [8, 12, 16]\n[schedule]\nsteps = 6\nbatch = 2\npatch = 64\n"
        "validate_every_steps = 3\nwarmup_steps = 2\nprecision = 'f32'\n"
    )
    assert read_recipe(recipe) == RECIPE
    command = [sys.executable, "-c", SCRIPT, phantom_data, recipe, tmp_path / "run"]
    killed = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert load_checkpoint(tmp_path / "run" / LAST).about["step"] == 3
    train(images, RECIPE, tmp_path / "run", resume=True, report=lambda text: None)
    resumed, whole = tensors(tmp_path / "run" / LAST), tensors(trained.best.parent / LAST)
    assert all(torch.equal(resumed[k], whole[k]) for k in whole)


def test_a_training_shows_itself(trained):
    folder = trained.best.parent
    assert len((folder / "log.csv").read_text().splitlines()) == 3
    assert list((folder / "tensorboard").glob("events.out.tfevents.*"))
    pictures = sorted(p.name for p in (folder / "pictures").iterdir())
    assert len(pictures) == 4  # two sources, two validations
    assert pictures[0].endswith("_step-000003.png")
    with Image.open(folder / "pictures" / pictures[0]) as image:
        assert image.size == (160, 160)
    with Image.open(folder / "curves.png") as image:
        assert image.size[0] > 500


def test_errors_have_their_colours():
    truth = np.array([[0, 1, 2, 1, 0]], np.uint8)
    predicted = np.array([[0, 1, 2, 2, 1]], np.uint8)
    content = error_png(np.array([[0, 0, 0, 0, 0]], np.uint8), predicted, truth)
    with Image.open(io.BytesIO(content)) as image:
        shown = [tuple(c) for c in (np.asarray(image)[0] / 0.4).round().astype(int)]
    near = [RIGHT, RIGHT, CONFUSED, INVENTED]
    assert shown[0] == (0, 0, 0)
    assert all(np.abs(np.subtract(a, b)).max() <= 2 for a, b in zip(shown[1:], near, strict=True))


def test_devices_are_refused_that_are_not_there():
    assert take_place("auto", "f32").device.type in ("cpu", "cuda", "mps")
    with pytest.raises(SettingsError, match="unknown device"):
        take_place("tpu", "f32")
    if not torch.cuda.is_available():
        with pytest.raises(SettingsError, match="has no cuda"):
            take_place("cuda", "f32")
    with pytest.raises(SettingsError, match="f16 needs a CUDA"):
        take_place("cpu", "f16")


TOGETHER = """
import sys
from pathlib import Path
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import split
from ranvier.training.loop import train
from ranvier.training.recipe import read_recipe
images = split(read_datasets([Path(sys.argv[1])]), fold=0, folds=3)
train(images, read_recipe(sys.argv[2]), Path(sys.argv[3]), device="cpu", report=print)
"""


@pytest.mark.slow
def test_two_processes_train_one_network(phantom_data, tmp_path):
    recipe, script = tmp_path / "tiny.toml", tmp_path / "together.py"
    script.write_text(TOGETHER)
    recipe.write_text(
        "[network]\nchannels = [8, 12]\n[schedule]\nsteps = 2\nbatch = 1\npatch = 64\n"
        "validate_every_steps = 2\nprecision = 'f32'\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    command += [str(script), str(phantom_data), str(recipe), str(tmp_path / "run")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("step 2") == 1  # one of them reports
    assert load_checkpoint(tmp_path / "run" / LAST).about["step"] == 2


def test_a_training_can_begin_with_another_one_and_use_all_images(images, trained, tmp_path):
    everyone = everything(images.train + images.validation)
    recipe = dataclasses.replace(
        RECIPE,
        schedule=dataclasses.replace(RECIPE.schedule, steps=1, learning_rate=1e-9, weight_decay=0),
    )
    result = train(everyone, recipe, tmp_path / "r", init=trained.best, report=lambda text: None)
    begun, now = load_checkpoint(trained.best).average, load_checkpoint(result.best).average
    weights = [k for k in begun if k.endswith("weight")]
    assert all(torch.allclose(begun[k], now[k], atol=1e-6) for k in weights)
    assert result.scores == {}
    bundle = export_bundle(result.best, everyone, tmp_path / "m", name="toy", int8=False)
    training = bundle.about["training"]
    assert training["begun_from"]["scores"] == trained.scores
    assert training["validated_on"] == {}
    assert sum(map(len, training["trained_on"].values())) == 6


def test_a_training_does_not_begin_with_another_network(images, trained, tmp_path):
    other = dataclasses.replace(RECIPE, network=NetworkSettings(channels=(8, 12)))
    with pytest.raises(SettingsError, match="another network"):
        train(images, other, tmp_path, init=trained.best, report=lambda text: None)


def test_a_training_does_not_go_on_with_another_recipe(images, trained):
    other = dataclasses.replace(RECIPE, schedule=dataclasses.replace(RECIPE.schedule, batch=3))
    with pytest.raises(SettingsError, match=r"schedule\.batch"):
        train(images, other, trained.best.parent, resume=True, report=lambda text: None)


def test_a_training_does_not_go_on_with_another_fold(phantom_data, trained):
    other = split(read_datasets([phantom_data]), fold=1, folds=3)
    with pytest.raises(SettingsError, match="other images or another fold"):
        train(other, RECIPE, trained.best.parent, resume=True, report=lambda text: None)


def test_validation_without_a_class_loses_nothing(images, tmp_path, monkeypatch):
    empty = {"A": {"dice_axon": 0.5, "iou_axon": 0.4}, "B": {}}
    monkeypatch.setattr(loop, "validate", lambda *rest, **more: empty)
    result = train(images, RECIPE, tmp_path, report=lambda text: None)
    assert result.scores == empty
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 3


def test_a_time_budget_ends_a_training(images, tmp_path):
    result = train(images, RECIPE, tmp_path, time_budget_s=1e-6, report=lambda text: None)
    assert result.steps == 1
    assert (tmp_path / BEST).is_file()


@pytest.fixture(scope="module")
def bundle(images, trained, tmp_path_factory):
    return export_bundle(
        trained.best, images, tmp_path_factory.mktemp("out") / "m", name="toy", int8=False
    )


def test_the_bundle_computes_what_the_network_computes(bundle, trained, images):
    network = CompactUNet(NETWORK).eval()
    network.load_state_dict(load_checkpoint(trained.best).average)
    tile = np.random.default_rng(0).standard_normal((1, 1, 96, 64)).astype(np.float32)
    ours = OpenVinoBackend(*bundle.graph("float")).logits(tile)
    theirs = TorchBackend(network).logits(tile)
    assert ours.shape == theirs.shape == (1, 3, 96, 64)
    assert np.abs(ours - theirs).max() < 5e-3 * np.ptp(theirs)  # weights are stored in 16 bits


def test_the_bundle_runs_and_says_what_it_was_trained_on(bundle, trained, images):
    model = load_model(bundle.folder)
    pixels = np.random.default_rng(0).integers(0, 255, (70, 90)).astype(np.uint8)
    assert segment(from_array(pixels), model).shape == (70, 90)
    training = bundle.about["training"]
    assert sum(map(len, training["trained_on"].values())) == len(images.train)
    assert training["recipe"]["network"]["channels"] == [8, 12, 16]
    assert training["steps"] == load_checkpoint(trained.best).about["step"]


def test_an_export_replaces_models_only(bundle, trained, images, tmp_path):
    again = export_bundle(trained.best, images, bundle.folder, name="toy", int8=False)
    again.verify()
    (tmp_path / "thesis.txt").write_text("mine")
    for name in (None, "model.json"):
        if name:
            (tmp_path / name).write_text('{"another": "tool"}')
        with pytest.raises(OutputExistsError, match="not only a model"):
            export_bundle(trained.best, images, tmp_path, name="toy", int8=False)
        assert (tmp_path / "thesis.txt").read_text() == "mine"
    (bundle.folder / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"notes\.txt"):
        export_bundle(trained.best, images, bundle.folder, name="toy", int8=False)
    (bundle.folder / "notes.txt").unlink()
    assert [p.name for p in bundle.folder.parent.iterdir()] == ["m"]


def test_a_damaged_checkpoint_is_one_clear_error(tmp_path):
    (tmp_path / LAST).write_bytes(b"x" * 100)
    with pytest.raises(DatasetError, match="not a usable checkpoint"):
        load_checkpoint(tmp_path / LAST)
