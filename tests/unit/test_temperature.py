"""Probabilities that mean what they say."""

from __future__ import annotations

import dataclasses
import math
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import split
from ranvier.errors import SettingsError
from ranvier.training.agreement import agree
from ranvier.training.checkpoint import Checkpoint, save_checkpoint
from ranvier.training.ensemble import Fold
from ranvier.training.network import make_network
from ranvier.training.recipe import NetworkSettings, Recipe
from ranvier.training.temperature import (
    LIMITS,
    Judged,
    calibrate,
    judge,
    reliability,
    tempered,
)

RECIPE = Recipe(network=NetworkSettings(channels=(8, 8)))


def saved(network, path):
    """A checkpoint of a network that learned nothing."""
    about = {
        "step": 1,
        "seconds": 1.0,
        "recipe": RECIPE.as_dict(),
        "scores": {},
        "begun_from": None,
    }
    save_checkpoint(Checkpoint({}, network.state_dict(), {}, about), path)
    return path


def judged(temperature, *, pixels=40_000, seed=0, source="A", name="a"):
    """Pixels whose truth is drawn from the softmax of their logits divided by a temperature."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (pixels, 3)).astype(np.float32)
    likely = np.exp(logits / temperature)
    likely /= likely.sum(axis=1, keepdims=True)
    truth = (rng.random((pixels, 1)) > likely.cumsum(axis=1)[:, :2]).sum(axis=1)
    return Judged(source, name, logits, truth.astype(np.uint8))


@pytest.mark.parametrize("true", [0.6, 1.0, 2.5])
def test_the_temperature_that_made_the_truth_is_found(true):
    found = calibrate([judged(true)])
    assert found.temperature == pytest.approx(true, rel=0.03)
    assert found.error_after < 0.01
    assert found.error_after <= found.error_before + 1e-3
    assert found.as_dict()["images"] == 1


def test_a_network_that_is_always_wrong_gets_the_limit():
    wrong = judged(1.0)
    turned = Judged(
        "A", "a", wrong.logits, ((wrong.logits.argmax(axis=1) + 1) % 3).astype(np.uint8)
    )
    assert calibrate([turned]).temperature == pytest.approx(LIMITS[1], rel=0.01)


def test_sources_count_alike_however_many_images_they_have():
    one = [judged(0.5, source="A", name="a")]
    many = [judged(2.0, source="B", name=str(k), seed=k) for k in range(6)]
    even = calibrate([*one, judged(2.0, source="B", name="b", seed=9)]).temperature
    assert calibrate([*one, *many]).temperature == pytest.approx(even, rel=0.03)


def test_bins_hold_what_was_said_and_what_came_true():
    sure = np.tile(np.float32([0, 0, 50]), (10, 1))
    found = reliability([Judged("A", "a", sure, np.uint8([2] * 8 + [0] * 2))])
    assert found.share[-1] == pytest.approx(1)
    assert found.said[-1] == pytest.approx(1)
    assert found.true[-1] == pytest.approx(0.8)
    assert np.isnan(found.true[:-1]).all()
    assert found.error == pytest.approx(0.2)


def test_nothing_held_out_is_an_error():
    with pytest.raises(SettingsError, match="no held-out image"):
        calibrate([])


@pytest.mark.parametrize("kind", ["compact", "plain"])
def test_a_tempered_network_says_the_same_less_surely(kind):
    torch.manual_seed(0)
    network = make_network(NetworkSettings(kind=kind, channels=(8, 8))).eval()
    grey = torch.randn(1, 1, 64, 64)
    before = network(grey).detach()
    after = tempered(network, 2.0).eval()(grey)
    assert torch.allclose(after, before / 2, atol=1e-5)
    assert torch.equal(network(grey), before)  # the network itself is as it was


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.inf, math.nan])
def test_impossible_temperatures_are_refused(wrong):
    with pytest.raises(SettingsError, match="positive"):
        tempered(make_network(RECIPE.network), wrong)


def test_only_networks_that_end_in_a_convolution_take_one():
    with pytest.raises(SettingsError, match="Identity"):
        tempered(torch.nn.Identity(), 2.0)


def test_networks_are_judged_on_what_they_held_out(phantom_data, tmp_path):
    data = read_datasets([phantom_data])
    folds = []
    for k in range(2):
        torch.manual_seed(k)
        path = saved(make_network(RECIPE.network), tmp_path / f"{k}.safetensors")
        folds.append(Fold(k, path, split(data, fold=k, folds=3)))
    found = judge(folds)
    assert [(j.source, j.name) for j in found] == [
        (a.source, a.name) for fold in folds for a in fold.split.validation
    ]
    for j in found:
        assert j.logits.shape == (len(j.truth), 3)
        assert len(j.truth) > 1000
        assert set(np.unique(j.truth)) == {0, 1, 2}
    assert LIMITS[0] <= calibrate(found).temperature <= LIMITS[1]
    micrograph, classes = folds[0].split.validation[0].load()
    flat = dataclasses.replace(micrograph, pixels=np.full_like(micrograph.pixels, 7))
    blank = SimpleNamespace(source="A", name="a", load=lambda: (flat, classes))
    held = dataclasses.replace(folds[0].split, validation=(blank,))
    assert judge([dataclasses.replace(folds[0], split=held)]) == ()


def test_a_student_becomes_as_sure_as_its_teacher(phantom_data, tmp_path):
    images = read_datasets([phantom_data])
    torch.manual_seed(0)
    teacher = make_network(RECIPE.network).eval()
    paths = {}
    for temperature in (1.0, 0.4):
        place = tmp_path / f"{temperature}.safetensors"
        paths[temperature] = saved(tempered(teacher, temperature), place)
    found = agree(paths[0.4], paths[1.0], images)
    assert found.temperature == pytest.approx(2.5, rel=0.01)
    assert found.as_dict() == {
        "temperature": 2.5,
        "as_sure_as": "teacher",
        "images": len(images),
    } | {"temperature": round(found.temperature, 4)}
    assert agree(paths[1.0], paths[1.0], images).temperature == pytest.approx(1, rel=0.01)
    with pytest.raises(SettingsError, match="no image"):
        agree(paths[1.0], paths[1.0], [])
