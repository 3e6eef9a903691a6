"""Phantoms of any settings keep their promises."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier.datasets._outlines import Packing, ellipse, wobble, wrap
from ranvier.datasets.phantom import PhantomSettings, draw

unit = st.floats(0.0, 1.0)


@st.composite
def any_settings(draw_from: st.DrawFn) -> PhantomSettings:
    low = draw_from(st.floats(1.0, 1.8))
    return PhantomSettings(
        shape=(draw_from(st.integers(8, 72)), draw_from(st.integers(8, 72))),
        seed=draw_from(st.integers(0, 2**40)),
        look=draw_from(st.sampled_from(["TEM", "SEM", "BF", "CARS"])),
        diameter_law=draw_from(st.sampled_from(["gamma", "log-normal"])),
        diameter_mean_um=draw_from(st.floats(0.9, 2.5)),
        diameter_sd_um=draw_from(st.floats(0.0, 2.0)),
        diameter_max_um=3.0,
        g_ratio_mean=draw_from(st.floats(0.4, 0.9)),
        g_ratio_sd=draw_from(st.floats(0.0, 0.3)),
        fibre_fraction=draw_from(st.floats(0.0, 0.9)),
        irregularity=draw_from(unit),
        aspect_range=(low, draw_from(st.floats(low, 4.0))),
        alignment=draw_from(unit),
        unmyelinated_share=draw_from(st.floats(0.0, 0.9)),
        touching_share=draw_from(unit),
        noise=draw_from(st.floats(0.0, 60.0)),
        blur=draw_from(st.floats(0.0, 10.0)),
        debris=draw_from(unit),
    )


@settings(max_examples=40, deadline=None, derandomize=True)
@given(any_settings())
def test_every_phantom_is_consistent(wanted: PhantomSettings) -> None:
    phantom = draw(wanted)
    truth, size = phantom.truth, wanted.pixel_size_um
    for array in (phantom.image.pixels, phantom.classes, phantom.axons, phantom.fibres):
        assert array.shape == wanted.shape
    np.testing.assert_array_equal(phantom.classes == 2, phantom.axons > 0)
    np.testing.assert_array_equal(phantom.classes > 0, phantom.fibres > 0)
    inside = phantom.axons > 0
    np.testing.assert_array_equal(phantom.axons[inside], phantom.fibres[inside])
    np.testing.assert_array_equal(np.unique(phantom.fibres[phantom.fibres > 0]), truth["id"])
    assert all(np.isfinite(column).all() for column in truth.values())
    assert ((truth["g_ratio"] >= 0.3 - 1e-9) & (truth["g_ratio"] <= 0.9 + 1e-9)).all()
    pixels = np.bincount(phantom.fibres.ravel(), minlength=len(phantom) + 1)[1:]
    whole = ~truth["touches_border"]
    relative = np.abs(pixels * size**2 / truth["fibre_area_um2"] - 1)[whole]
    assert (relative < 4 * size / truth["fibre_diameter_um"][whole]).all()


@settings(max_examples=12, deadline=None, derandomize=True)
@given(any_settings())
def test_every_phantom_is_the_same_again(wanted: PhantomSettings) -> None:
    first, second = draw(wanted), draw(wanted)
    assert first.image.pixels.tobytes() == second.image.pixels.tobytes()
    assert first.classes.tobytes() == second.classes.tobytes()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32),
    st.floats(3.0, 200.0),
    st.floats(1.0, 4.0),
    unit,
    st.floats(0.3, 0.9),
)
def test_areas_and_g_ratio_are_exact_for_any_outline(
    seed: int, diameter: float, aspect: float, irregularity: float, g_ratio: float
) -> None:
    coefficients = wobble(np.random.default_rng(seed), irregularity)
    fibre = wrap(ellipse(diameter, aspect, 0.7, coefficients), g_ratio)
    assert fibre.axon.area == pytest.approx(np.pi * diameter**2 / 4, rel=1e-9)
    assert np.sqrt(fibre.axon.area / fibre.sheath.area) == pytest.approx(g_ratio, rel=1e-9)
    for outline in (fibre.axon, fibre.sheath):
        rows, cols = outline.points(20_000)
        shoelace = 0.5 * abs(np.sum(cols * np.roll(rows, -1) - rows * np.roll(cols, -1)))
        assert shoelace == pytest.approx(outline.area, rel=1e-5)
        np.testing.assert_allclose(outline.level(rows, cols), 1.0, rtol=1e-9)
        assert np.hypot(rows, cols).max() <= outline.reach * (1 + 1e-9)
    assert fibre.sheath.level(*fibre.axon.points(2_000)).max() < 1


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 2**32), st.floats(1.0, 4.0), unit)
def test_packed_outlines_never_overlap(seed: int, aspect: float, irregularity: float) -> None:
    rng = np.random.default_rng(seed)
    packing = Packing((80, 80), 10.0)
    placed = []
    for diameter in np.linspace(24.0, 5.0, 30):
        outline = ellipse(diameter, aspect, rng.uniform(0, np.pi), wobble(rng, irregularity))
        centre = packing.place(rng, outline, touching=bool(rng.integers(2)))
        if centre:
            placed.append(outline.moved(*centre))
    assert len(placed) > 8
    for one in placed:
        points = one.points(1_500)
        assert all(other is one or other.level(*points).min() > 1 for other in placed)
