"""A bundle read back into a network, and trained further without calling a worse model better."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from ranvier.apps import cli_finetune
from ranvier.bundle import open_bundle
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import Split, everything, split
from ranvier.datasets.phantom import PhantomSettings, draw, write_dataset
from ranvier.errors import BundleFormatError, DatasetError, SettingsError
from ranvier.training import finetune as tuning
from ranvier.training.checkpoint import load_checkpoint
from ranvier.training.export import ExportSettings, Product, write_bundle
from ranvier.training.finetune import finetune
from ranvier.training.holding_out import FinetuneSettings, plan
from ranvier.training.lessons import part_of, replayed
from ranvier.training.monitor import curves_png
from ranvier.training.network import make_network
from ranvier.training.reading_back import read_back
from ranvier.training.recipe import NetworkSettings, Recipe, ScheduleSettings, read_recipe
from ranvier.training.sampling import PatchSampler, with_replay

RECIPE = Recipe(
    network=NetworkSettings(channels=(8, 12)),
    schedule=ScheduleSettings(
        steps=2, batch=2, patch=64, validate_every_steps=2, warmup_steps=1, precision="f32",
        learning_rate=1e-4,
    ),
)  # fmt: skip
PLAIN = Recipe(network=NetworkSettings(kind="plain", channels=(4, 8), deep_supervision=True))


def untrained(recipe, images, folder, **settings):
    """A bundle of a network with random weights, normalisations that do something, and no scores."""
    torch.manual_seed(1)
    network = make_network(recipe.network)
    with torch.no_grad():
        for layer in network.modules():
            if isinstance(layer, torch.nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 2)
                layer.weight.uniform_(0.5, 2)
                layer.bias.normal_()
    summary = {
        "recipe": recipe.as_dict(), "validation": {}, "steps": 3, "seconds": 4,
        "trained_on": {"A": ["x"]}, "validated_on": {},
    }  # fmt: skip
    made = Product(network.eval(), recipe, images, summary, "")
    return network, write_bundle(
        made, folder, name="toy", settings=ExportSettings(int8=False, **settings)
    )


@pytest.fixture(scope="module", autouse=True)
def fonts():
    """Let Matplotlib open its fonts, which it keeps open."""
    curves_png([{"step": 1, "loss": 1.0}])


@pytest.fixture(scope="module")
def images(phantom_data):
    return read_datasets([phantom_data])


@pytest.fixture(scope="module")
def toy(images, tmp_path_factory):
    return untrained(RECIPE, everything(images), tmp_path_factory.mktemp("out") / "m")


def rebuilt(checkpoint, recipe):
    network = make_network(recipe.network).eval()
    network.load_state_dict(checkpoint.average)
    return network


def test_a_bundle_gives_its_network_back(toy):
    network, bundle = toy
    batches = [torch.randn(4, 1, 64, 64) for _ in range(3)]
    checkpoint = read_back(bundle, batches)
    again = rebuilt(checkpoint, RECIPE)
    grey = torch.randn(1, 1, 64, 96)
    with torch.inference_mode():
        expected, found = network(grey), again(grey)
    assert (found - expected).abs().max() < 5e-3 * np.ptp(expected.numpy())  # 16 bits
    assert checkpoint.about["images"]["train"] == ["A/x"]
    assert bundle.sha256 in checkpoint.about["notes"]
    # In training mode, batches like those seen give about the same, though normalised by themselves.
    with torch.no_grad():
        own = again.train()(batches[0])
        kept = again.eval()(batches[0])
    assert (own - kept).abs().mean() < 0.1 * kept.std()


def test_the_embedded_model_can_be_read_back(generalist):
    checkpoint = read_back(open_bundle(generalist), [])
    assert sum(v.numel() for k, v in checkpoint.average.items() if "running" not in k) > 2e6


def test_other_networks_need_their_weights_kept(images, tmp_path):
    _, bundle = untrained(PLAIN, everything(images), tmp_path / "without")
    with pytest.raises(BundleFormatError, match="cannot be read back"):
        read_back(bundle, [])
    network, bundle = untrained(PLAIN, everything(images), tmp_path / "with", keep_weights=True)
    bundle.verify()
    again = read_back(bundle, []).average
    for name, value in network.state_dict().items():
        assert torch.equal(again[name], value.half().float())


def test_a_graph_of_another_network_is_not_read_back(toy, monkeypatch):
    _, bundle = toy
    about = json.loads(json.dumps(dict(bundle.about)))
    about["training"]["recipe"]["network"]["channels"] = [8, 16]
    with pytest.raises(BundleFormatError, match="not of the recipe's network"):
        read_back(dataclasses.replace(bundle, about=about), [])
    about["training"]["ensemble"] = [{}]
    with pytest.raises(BundleFormatError, match="ensemble"):
        read_back(dataclasses.replace(bundle, about=about), [])


def test_whole_subjects_are_held_out(images):
    planned = plan(images, FinetuneSettings(validation_share=0.3))
    own = planned.own
    held = {(a.source, a.subject) for a in own.validation}
    assert not planned.by_strip
    assert len(own.validation) == 2
    assert len(own.train) + len(own.validation) == len(images)
    assert not held & {(a.source, a.subject) for a in own.train}
    two = plan(images[:2], FinetuneSettings(validation_share=0.9)).own
    assert (len(two.train), len(two.validation)) == (1, 1)
    with pytest.raises(DatasetError, match="no images"):
        plan(())


def test_of_one_subject_a_strip_is_held_out(images):
    planned = plan(images[:1])
    (train,), (held,) = planned.own.train, planned.own.validation
    assert planned.by_strip
    assert planned.own.warnings
    (seen, classes), (rest, _) = train.load(), held.load()
    whole = images[0].load()[0].pixels
    assert rest.shape == (48, 160)
    assert seen.shape == classes.shape
    assert np.array_equal(np.concatenate((seen.pixels, rest.pixels)), whole)
    assert train.name != held.name
    small = part_of(images[0], (0, 0, 80, 80))
    with pytest.raises(DatasetError, match="too small"):
        plan((small,))


def test_replayed_images_have_their_share(images):
    assert with_replay(np.array([0.5, 0.5]), (None, None)).tolist() == [0.5, 0.5]
    found = with_replay(np.array([0.2, 0.2, 0.6]), (None, 0.25, 0.25))
    assert found == pytest.approx([0.75, 0.0625, 0.1875])
    again = [replayed(a, 0.25) for a in images]
    sampler = PatchSampler((images[0], *again), RECIPE, np.random.default_rng(0))
    assert len(sampler._sources) == 3
    assert sampler._weights[0] == pytest.approx(0.75)
    assert sampler.batch()[1].dtype == torch.int64


def test_files_of_ones_own_are_not_replayed(images):
    planned = plan(images[:2], replay=Split(images[:5], images[5:]))
    assert [a.name for a in planned.replay.train] == [a.name for a in images[2:5]]
    assert planned.split.validation == planned.own.validation
    assert {a.share for a in planned.replay.train} == {0.5}


def test_impossible_shares_are_refused():
    for wrong in ({"validation_share": 0}, {"replay_share": 1}):
        with pytest.raises(SettingsError):
            FinetuneSettings(**wrong)


def test_a_fine_tuning_begins_with_the_model_and_compares(toy, images, tmp_path):
    replay = split(images, fold=0, folds=3)
    planned = plan(images[:2], replay=replay)
    other = dataclasses.replace(RECIPE, network=NetworkSettings(channels=(8, 8)))
    tuned = finetune(toy[1].folder, planned, other, tmp_path, report=lambda text: None)
    about = load_checkpoint(tuned.result.best).about
    assert about["recipe"]["network"]["channels"] == [8, 12]
    assert toy[1].sha256 in about["begun_from"]["notes"]
    assert set(tuned.before) == set(tuned.after)
    assert set(tuned.replay_before) == set(tuned.replay_after) == {a.source for a in images}
    assert tuned.better == (tuned.gain >= 0)
    again = finetune(tuned.result.best, planned, RECIPE, tmp_path / "b", report=lambda text: None)
    assert again.before == tuned.after


@pytest.mark.parametrize(("own", "known"), [(0.0, 30.0), (20.0, 30.0), (36.0, 0.0)])
def test_images_are_brought_to_the_width_of_axons_that_the_model_knows(own, known):
    theirs = dataclasses.replace(
        RECIPE, augmentation=dataclasses.replace(RECIPE.augmentation, axon_px=known)
    )
    mine = dataclasses.replace(
        RECIPE, augmentation=dataclasses.replace(RECIPE.augmentation, axon_px=own, invert=0.1)
    )
    fitted = tuning._fitted(mine, theirs)
    assert fitted.augmentation.axon_px == known
    assert fitted.augmentation.invert == 0.1
    published = read_recipe("paper")
    assert tuning._fitted(published, theirs).augmentation == published.augmentation


@pytest.fixture
def command(toy, tmp_path):
    (tmp_path / "tiny.toml").write_text(
        "[schedule]\nsteps = 1\nbatch = 1\npatch = 64\nvalidate_every_steps = 1\nprecision = 'f32'\n"
    )
    write_dataset(
        tmp_path / "mine",
        [draw(PhantomSettings(shape=(96, 160), look="SEM", seed=30))],
    )
    return [
        str(toy[1].folder), str(tmp_path / "mine"), "-o", str(tmp_path / "run"), "--no-int8",
        "--drop-failing", "--recipe", str(tmp_path / "tiny.toml"),
    ]  # fmt: skip


@pytest.mark.parametrize("worse", [True, False])
def test_the_command_does_not_call_a_worse_model_better(command, tmp_path, monkeypatch, worse):
    found = iter((0.8, None, 0.7 if worse else 0.8, None) * 2)

    def score(checkpoint, images):
        value = next(found)
        return {} if value is None else {"MINE": {"dice_axon": value, "dice_myelin": value}}

    monkeypatch.setattr(tuning, "score", score)
    runner = CliRunner()
    done = runner.invoke(cli_finetune.finetune, command, catch_exceptions=False)
    assert "held out: strips" in done.output
    assert "before  axon 0.800, myelin 0.800" in done.output
    written = tmp_path / "run" / "model" / "model.json"
    assert done.exit_code == (1 if worse else 0)
    assert written.is_file() != worse
    if worse:
        assert "worse than before by 0.1000: no model is written" in done.output
        anyway = [*command, "--resume", "--keep-anyway"]
        done = runner.invoke(cli_finetune.finetune, anyway, catch_exceptions=False)
        assert done.exit_code == 0
        assert "written all the same" in done.output
    told = json.loads(written.read_text())
    assert told["training"]["finetuned"]["held_out"] == "strips"
    assert "strips" in told["how_scored"]


def test_a_training_can_begin_with_a_model(toy, images, tmp_path):
    begun = tuning.beginning(toy[1].folder, everything(images), RECIPE, tmp_path)
    assert begun == tmp_path / "begun_with.safetensors"
    assert tuning.beginning(begun, everything(images), RECIPE, tmp_path / "no") == begun
