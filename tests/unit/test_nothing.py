"""Pictures without nerve, to learn what fibres are not."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from ranvier.datasets.collection import read_datasets
from ranvier.errors import MissingExtraError, SettingsError
from ranvier.training import nothing
from ranvier.training.nothing import HELD_OUT, LEARNED, pictures
from ranvier.training.recipe import Recipe, SamplingSettings, ScheduleSettings
from ranvier.training.sampling import PatchSampler


def test_what_is_learned_from_is_not_measured_on():
    learned, held_out = dict(pictures(LEARNED)), dict(pictures(HELD_OUT))
    assert set(learned) & set(held_out) == {"ihc.png"}
    left, right = learned["ihc.png"], held_out["ihc.png"]
    assert left.shape == right.shape == (512, 256)
    assert not np.array_equal(left, right)
    for grey in (*learned.values(), *held_out.values()):
        assert grey.dtype == np.uint8
        assert grey.std() > 5


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_a_share_of_patches_shows_nothing(phantom_data, share):
    schedule = ScheduleSettings(batch=8, patch=64)
    sampling = SamplingSettings(foreground=1.0, nothing=share)
    recipe = dataclasses.replace(Recipe(), schedule=schedule, sampling=sampling)
    images = tuple(read_datasets([phantom_data]))
    sampler = PatchSampler(images, recipe, np.random.default_rng(0))
    empty = 0
    for _ in range(12):
        grey, classes = sampler.batch()
        assert torch.isfinite(grey).all()
        empty += int((classes.flatten(1).max(dim=1).values == 0).sum())
    # A patch about a pixel of fibre may lose it to rounding, but hardly ever all of it.
    assert abs(empty / 96 - share) < 0.15


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_share_out_of_range_is_refused(share):
    with pytest.raises(SettingsError, match=r"sampling\.nothing"):
        SamplingSettings(nothing=share)


def test_pictures_that_are_not_there_are_told(monkeypatch):
    monkeypatch.setattr(nothing, "_TISSUE", "none.png")
    with pytest.raises(MissingExtraError, match="not installed"):
        list(pictures(LEARNED))
