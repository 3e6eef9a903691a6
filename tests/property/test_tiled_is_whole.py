"""Tiles of any size give exactly what the whole image gives, with the real network in f32."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.inference import InferenceSettings, load_model, tile_logits
from ranvier.preprocess import statistics
from ranvier.tiling import Box

WHOLE = 10**9


@pytest.fixture(scope="module")
def model():
    return load_model(precision="f32")


@pytest.fixture(scope="module")
def pixels():
    return draw(PhantomSettings(shape=(760, 820), look="TEM", seed=11)).image.pixels


def logits_of(model, pixels, limit, views=1):
    out = np.full((3, *pixels.shape), np.nan, dtype=np.float32)
    everything = Box(0, 0, *pixels.shape)
    grey, tiles = statistics(pixels), 0
    for box, logits in tile_logits(
        pixels,
        grey,
        model.backend,
        field=model.bundle.field,
        settings=InferenceSettings(zoom=1.0, max_tile_px=limit, views=views),
    ):
        out[(slice(None), *box.within(everything))] = logits
        tiles += 1
    return out, tiles


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.integers(1, 760),
    columns=st.integers(1, 820),
    tile=st.integers(1, 700 * 700),
    views=st.sampled_from([1, 2, 4]),
)
def test_tiled_equals_whole_exactly(model, pixels, rows, columns, tile, views):
    part = pixels[:rows, :columns]
    if part.min() == part.max():
        return
    whole, _ = logits_of(model, part, WHOLE, views)
    tiled, _ = logits_of(model, part, tile, views)
    assert np.array_equal(whole, tiled)


def test_small_tiles_really_are_many_and_still_exact(model, pixels):
    whole, one = logits_of(model, pixels, WHOLE)
    tiled, many = logits_of(model, pixels, 480 * 480)
    assert one == 1
    assert many >= 9
    assert np.array_equal(whole, tiled)


def test_a_halo_below_the_receptive_radius_would_show(model, pixels):
    """The property is not empty: with half the halo the numbers differ."""
    field = model.bundle.field
    narrow = type(field)(field.stride, field.receptive_radius // 4, field.minimum)
    whole, _ = logits_of(model, pixels, WHOLE)
    out = np.empty_like(whole)
    everything = Box(0, 0, *pixels.shape)
    for box, logits in tile_logits(
        pixels,
        statistics(pixels),
        model.backend,
        field=narrow,
        settings=InferenceSettings(zoom=1.0, max_tile_px=300 * 300, views=1),
    ):
        out[(slice(None), *box.within(everything))] = logits
    assert not np.array_equal(whole, out)


def test_nothing_beyond_the_stated_receptive_radius_matters(model):
    """A change of one pixel moves no logit further away than the radius from a stride-aligned block."""
    rng = np.random.default_rng(0)
    field = model.bundle.field
    grey = rng.standard_normal((1, 1, 832, 832)).astype(np.float32)
    touched = grey.copy()
    touched[0, 0, 416, 416] += 50
    moved = (model.backend.logits(grey) != model.backend.logits(touched)).any(axis=(0, 1))
    rows, columns = np.nonzero(moved)
    assert rows.size
    reach = field.receptive_radius + field.stride
    for found in (rows, columns):
        assert found.min() >= 416 - reach
        assert found.max() <= 416 + reach
