"""A tiny training from drawn data to a bundle that the ordinary inference runs."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ranvier.backends import OpenVinoBackend
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import everything, split
from ranvier.errors import DatasetError, OutputExistsError, SettingsError
from ranvier.inference import load_model, segment
from ranvier.reading import from_array
from ranvier.training import loop
from ranvier.training.augment import canvas, cut
from ranvier.training.checkpoint import load_checkpoint
from ranvier.training.export import export_bundle
from ranvier.training.loop import BEST, LAST, train
from ranvier.training.loss import segmentation_loss
from ranvier.training.network import CompactUNet, TorchBackend, field_of
from ranvier.training.recipe import (
    AugmentationSettings,
    NetworkSettings,
    Recipe,
    ScheduleSettings,
)
from ranvier.training.sampling import _weights

NETWORK = NetworkSettings(channels=(8, 12, 16))
RECIPE = Recipe(
    network=NETWORK,
    schedule=ScheduleSettings(
        steps=6, batch=2, patch=64, validate_every_steps=3, warmup_steps=2, precision="f32"
    ),
)
PLAIN = AugmentationSettings(
    rotate=False, flip=False, zoom=(1, 1), anisotropy=1, invert=0, gamma=(1, 1), contrast=(1, 1),
    brightness=0, blur_share=0, noise_share=0, bias_field=0,
)  # fmt: skip


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
    def stops(run, loss, report):
        validate(run, loss, report)
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
    monkeypatch.setattr(loop, "validate", lambda *rest: empty)
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


@pytest.mark.parametrize("shuffle", [1, 2, 4])
@pytest.mark.parametrize("depth", [2, 3, 5])
def test_the_receptive_field_is_what_the_geometry_says(shuffle, depth):
    """Found by experiment: a change beyond the radius from an aligned block moves nothing."""
    settings = NetworkSettings(shuffle=shuffle, channels=(4,) * depth)
    field = field_of(settings)
    torch.manual_seed(0)
    network = CompactUNet(settings).eval()
    edge = -(-(2 * field.receptive_radius + 3 * field.stride) // field.stride) * field.stride
    grey = torch.randn(1, 1, edge, edge)
    block = edge // 2 // field.stride * field.stride
    outside = grey.clone()
    left = block - field.receptive_radius
    assert left > 0
    outside[..., :left] += 100
    with torch.inference_mode():
        before, after = network(grey), network(outside)
    assert torch.equal(before[..., block:], after[..., block:])
    assert not torch.equal(before[..., :block], after[..., :block])


def test_the_loss_falls_to_zero_for_the_truth_and_only_for_it():
    classes = torch.randint(0, 3, (2, 16, 16))
    truth = torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).float() * 50
    assert float(segmentation_loss(truth, classes)) < 1e-3
    assert float(segmentation_loss(truth.roll(1, dims=1), classes)) > 1


@pytest.fixture(scope="module")
def source(phantom_data):
    micrograph, classes = read_datasets([phantom_data])[0].load()
    return canvas(micrograph.pixels, classes, np.random.default_rng(0)), classes


@pytest.mark.parametrize(
    ("sampling", "shares"),
    [("balanced", [0.5, 0.5]), ("root", [0.25, 0.75]), ("proportional", [0.5, 0.5])],
)
def test_sources_get_their_shares(source, sampling, shares):
    whole, _ = source
    few, many = torch.zeros(1, 1, 10, 10), torch.zeros(1, 1, 10, 10)
    few[..., 0, :4], many[..., :6, :6] = 1, 2
    sources = [[dataclasses.replace(whole, classes=c)] for c in (few, many)]
    assert _weights(sources, sampling) == pytest.approx(np.array(shares))
    assert _weights([[dataclasses.replace(whole, classes=few * 0)]], sampling) == [1.0]


def test_a_patch_without_randomisation_is_a_crop(source):
    whole, classes = source
    grey, labels = cut(whole, patch=64, foreground=0, settings=PLAIN, rng=np.random.default_rng(1))
    found = [
        (r, c)
        for r in range(classes.shape[0] - 63)
        for c in range(classes.shape[1] - 63)
        if np.array_equal(classes[r : r + 64, c : c + 64], labels.numpy())
    ]
    assert len(found) == 1
    ((r, c),) = found
    crop = whole.levels[0][0, 0, r : r + 64, c : c + 64].numpy()
    assert np.corrcoef(crop.ravel(), grey[0].numpy().ravel())[0, 1] > 0.99


def test_polarity_turns_the_grey_and_not_the_labels(source):
    whole, _ = source
    upright, inverted = (
        cut(
            whole, patch=64, foreground=0, rng=np.random.default_rng(1),
            settings=dataclasses.replace(PLAIN, invert=p),
        )
        for p in (0.0, 1.0)
    )  # fmt: skip
    assert torch.equal(upright[1], inverted[1])
    assert (
        float(torch.corrcoef(torch.stack((upright[0].ravel(), inverted[0].ravel())))[0, 1]) < -0.99
    )


@pytest.mark.parametrize("seed", range(20))
def test_any_patch_is_finite_standardised_and_repeatable(source, seed):
    whole, _ = source
    settings = AugmentationSettings()
    (grey, labels), again = (
        cut(whole, patch=64, foreground=0.5, settings=settings, rng=np.random.default_rng(seed))
        for _ in range(2)
    )
    assert torch.equal(grey, again[0])
    assert torch.equal(labels, again[1])
    assert grey.shape == (1, 64, 64)
    assert torch.isfinite(grey).all()
    assert float(grey.abs().mean()) < 4
    assert set(labels.unique().tolist()) <= {0, 1, 2}
