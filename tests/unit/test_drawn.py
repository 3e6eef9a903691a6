"""Drawn micrographs to learn from."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from ranvier.datasets.collection import read_datasets
from ranvier.errors import SettingsError
from ranvier.training import sampling
from ranvier.training.drawn import drawings, varied
from ranvier.training.recipe import Recipe, SamplingSettings, ScheduleSettings
from ranvier.training.sampling import PatchSampler


@settings(max_examples=200)
@given(st.integers(0, 2**32 - 1), st.sampled_from(["TEM", "SEM", "BF", "CARS"]))
def test_whatever_is_drawn_can_be_drawn(seed, look):
    made = varied(look, np.random.default_rng(seed), seed=seed)
    assert (made.look, made.seed, made.shape) == (look, seed, (512, 512))
    across = made.diameter_mean_um / made.pixel_size_um
    assert 18 <= across <= 45.001


def test_drawings_are_of_all_looks_and_the_same_for_one_seed():
    first, again = (list(drawings(np.random.default_rng(3), count=8, edge=128)) for _ in range(2))
    assert [d.settings.look for d in first[::2]] == ["TEM", "SEM", "BF", "CARS"]
    assert [d.settings.look for d in first[1::2]] == ["TEM", "SEM", "BF", "CARS"]
    assert ["at random" in d.image.notes[0] for d in first] == [False, True] * 4
    for one, other in zip(first, again, strict=True):
        assert np.array_equal(one.image.pixels, other.image.pixels)
        assert np.array_equal(one.classes, other.classes)
    other = next(drawings(np.random.default_rng(4), count=1, edge=128))
    assert not np.array_equal(other.image.pixels, first[0].image.pixels)


def test_shares_of_patches_are_drawn_and_without_nerve(phantom_data, monkeypatch):
    few = list(drawings(np.random.default_rng(0), count=2, edge=128))
    monkeypatch.setattr(sampling, "drawings", lambda rng: iter(few))
    recipe = dataclasses.replace(
        Recipe(),
        schedule=ScheduleSettings(batch=8, patch=64),
        sampling=SamplingSettings(nothing=0.2, drawn=0.3),
    )
    sampler = PatchSampler(tuple(read_datasets([phantom_data])), recipe, np.random.default_rng(0))
    (_, pictures), (_, drawn) = sampler._beside
    counts = {"drawn": 0, "nothing": 0, "images": 0}
    for _ in range(1000):
        chosen = sampler._image()
        kind = next(
            (
                k
                for k, some in (("drawn", drawn), ("nothing", pictures))
                if any(c is chosen for c in some)
            ),
            "images",
        )
        counts[kind] += 1
    assert abs(counts["drawn"] - 300) < 60
    assert abs(counts["nothing"] - 200) < 60
    grey, classes = sampler.batch()
    assert torch.isfinite(grey).all()
    assert classes.max() <= 2


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"drawn": -0.1}, r"sampling\.drawn"),
        ({"drawn": 1.0}, r"sampling\.drawn"),
        ({"drawn": 0.6, "nothing": 0.4}, "must leave patches"),
    ],
)
def test_shares_that_make_no_sense_are_refused(changes, what):
    with pytest.raises(SettingsError, match=what):
        SamplingSettings(**changes)
