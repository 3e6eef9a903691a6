"""Images brought to one width of axons before a network learns from them, and shown to it likewise."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ranvier.datasets.collection import read_datasets
from ranvier.datasets.folds import split
from ranvier.errors import SettingsError
from ranvier.reading import from_array
from ranvier.tilewise import InferenceSettings, classify
from ranvier.training import looking, validation
from ranvier.training.augment import cut
from ranvier.training.axon_size import axon_px
from ranvier.training.canvas import canvas
from ranvier.training.looking import base_zoom
from ranvier.training.network import TorchBackend, field_of, make_network
from ranvier.training.recipe import (
    AugmentationSettings,
    NetworkSettings,
    Recipe,
    SamplingSettings,
    ScheduleSettings,
)
from ranvier.training.sampling import image_weights
from ranvier.training.teacher import probabilities

STILL = AugmentationSettings(zoom=(1, 1), rotate=False, flip=False, anisotropy=1)
RECIPE = Recipe(
    network=NetworkSettings(channels=(4, 8)),
    schedule=ScheduleSettings(precision="f32"),
    augmentation=AugmentationSettings(axon_px=20.0),
)


def discs(width, shape=(240, 240), step=80):
    """Axons of a width, each in a sheath."""
    rows, columns = np.mgrid[: shape[0], : shape[1]] % step - step / 2
    away = np.hypot(rows, columns)
    classes = np.zeros(shape, np.uint8)
    classes[away < 0.7 * width] = 1
    classes[away < width / 2] = 2
    return (classes * 90 + 20).astype(np.uint8), classes


@pytest.mark.parametrize(("width", "wanted"), [(40, 20.0), (40, 10.0), (16, 32.0)])
def test_axons_of_a_patch_are_as_wide_as_wanted(width, wanted):
    pixels, classes = discs(width)
    rng = np.random.default_rng(0)
    base = base_zoom(classes, wanted)
    assert base == pytest.approx(wanted / width, rel=0.03)
    source = canvas(pixels, classes, rng, base=base)
    _, seen = cut(source, patch=(96, 96), foreground=1.0, settings=STILL, rng=rng)
    inside = seen.numpy().astype(np.uint8)
    assert axon_px(inside) == pytest.approx(wanted, rel=0.12)


def test_nothing_wanted_or_no_axon_leaves_an_image_as_it_is():
    _, classes = discs(40)
    assert base_zoom(classes, 0) == 1
    assert base_zoom(np.zeros_like(classes), 20) == 1
    assert base_zoom(classes, 4000) == 4


def test_shares_of_images_go_by_their_size_at_the_base():
    rng = np.random.default_rng(0)
    small, large = (canvas(*discs(40), rng, base=base) for base in (0.5, 1.0))
    assert image_weights([small, large], SamplingSettings().images) == pytest.approx([1 / 3, 2 / 3])


@pytest.mark.parametrize("value", [-1.0, 2.0])
def test_a_width_that_is_no_axon_is_refused(value):
    with pytest.raises(SettingsError, match="axon_px"):
        AugmentationSettings(axon_px=value)


def test_validation_shows_images_at_the_zoom_that_suits_them(phantom_data, monkeypatch):
    images = split(read_datasets([phantom_data]), fold=0, folds=3).validation
    network = make_network(RECIPE.network).eval()
    asked = []

    class Half:
        zoom = 0.5

    def choose(pixels, backend, *, axon_px, **rest):
        asked.append(axon_px)
        return Half

    monkeypatch.setattr(looking, "choose_zoom", choose)
    seen = []
    validation.validate(network, images, RECIPE, look=lambda *all_: seen.append(all_))
    assert asked == [20.0] * len(images)
    _, micrograph, predicted, _ = seen[0]
    expected = classify(
        micrograph,
        TorchBackend(network, precision="f32"),
        field=field_of(RECIPE.network),
        settings=InferenceSettings(zoom=0.5, views=1),
    )
    assert np.array_equal(predicted, expected)
    asked.clear()
    plain = dataclasses.replace(RECIPE, augmentation=AugmentationSettings())
    validation.validate(network, images[:1], plain)
    assert not asked


def test_a_teacher_says_the_same_at_a_zoom_as_a_user_sees(monkeypatch):
    micrograph = from_array(discs(40)[0])
    network = make_network(RECIPE.network).eval()
    monkeypatch.setattr(looking, "choose_zoom", lambda *_, **__: type("Half", (), {"zoom": 0.5}))
    settings = InferenceSettings(zoom=1.0, views=1)
    planes = probabilities(micrograph, network, RECIPE, settings)
    rest = 255 - planes.astype(int).sum(axis=0)
    found = np.argmax(np.stack((rest, *planes.astype(int))), axis=0)
    expected = classify(
        micrograph,
        TorchBackend(network, precision="f32"),
        field=field_of(RECIPE.network),
        settings=InferenceSettings(zoom=0.5, views=1),
    )
    sure = np.sort(np.stack((rest, *planes.astype(int))), axis=0)
    clear = sure[-1] - sure[-2] > 3
    assert clear.mean() > 0.5
    assert np.array_equal(found[clear], expected[clear])
