from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from ranvier import _resampling
from ranvier._resampling import Stretch
from ranvier.errors import SettingsError
from ranvier.preprocess import resample, standardise, statistics, zoomed_shape


@given(
    hnp.arrays(
        st.sampled_from([np.uint8, np.uint16]),
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=40),
    )
)
def test_integer_statistics_are_those_of_numpy(pixels):
    grey = statistics(pixels)
    assert grey.mean == pytest.approx(pixels.mean(dtype=np.float64), rel=1e-12, abs=1e-12)
    assert grey.std == pytest.approx(pixels.std(dtype=np.float64), rel=1e-9, abs=1e-9)


def test_float_statistics_are_those_of_numpy():
    pixels = np.random.default_rng(0).normal(1e4, 3, (700, 3000)).astype(np.float32)
    grey = statistics(pixels)
    assert grey.mean == pytest.approx(pixels.mean(dtype=np.float64))
    assert grey.std == pytest.approx(pixels.std(dtype=np.float64))


@pytest.mark.parametrize("scale", [1, 16, 257])
def test_bit_depth_does_not_change_what_the_network_sees(scale):
    eight = np.random.default_rng(1).integers(0, 255, (50, 60)).astype(np.uint8)
    wide = eight.astype(np.uint16) * np.uint16(scale)
    a, b = standardise(eight, statistics(eight)), standardise(wide, statistics(wide))
    assert np.allclose(a, b, atol=1e-5)
    assert a.mean() == pytest.approx(0, abs=1e-4)
    assert a.std() == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_flat_image_is_flat_at_any_depth(dtype):
    pixels = np.full((300, 300), 0.1 if dtype is np.float32 else 77, dtype=dtype)
    grey = statistics(pixels)
    assert grey.is_flat
    assert not standardise(pixels, grey).any()


@pytest.mark.parametrize("zoom", [0, -1, float("nan"), float("inf"), 0.01, 50])
def test_impossible_zooms_are_refused(zoom):
    with pytest.raises(SettingsError, match="zoom out of range"):
        zoomed_shape((10, 10), zoom)


def test_zoom_never_loses_the_last_pixel():
    assert zoomed_shape((1, 100), 0.05) == (1, 5)


def test_there_and_back_keeps_structures_in_place():
    rows, columns = np.mgrid[:90, :120]
    blob = np.exp(-((rows - 40.0) ** 2 + (columns - 70.0) ** 2) / 200).astype(np.float32)
    for zoom in (0.5, 0.7, 1.3, 2.0):
        back = resample(resample(blob, zoomed_shape(blob.shape, zoom)), blob.shape)
        assert np.abs(back - blob).max() < 0.05
        centre = [(back * axis).sum() / back.sum() for axis in (rows, columns)]
        truth = [(blob * axis).sum() / blob.sum() for axis in (rows, columns)]
        assert np.allclose(centre, truth, atol=0.05)
    assert resample(blob, blob.shape) is blob


# Resampling

LENGTHS = st.integers(1, 150)


def by_pillow(plane, shape):
    image = Image.fromarray(np.ascontiguousarray(plane, dtype=np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), Image.Resampling.BILINEAR))


@settings(max_examples=60, deadline=None)
@given(before=st.tuples(LENGTHS, LENGTHS), after=st.tuples(LENGTHS, LENGTHS))
def test_resampling_is_that_of_pillow(before, after):
    plane = np.random.default_rng(0).normal(100, 30, before).astype(np.float32)
    found = resample(plane, after)
    assert found.dtype == np.float32
    assert found.flags.c_contiguous
    assert np.allclose(found, by_pillow(plane, after), rtol=0, atol=2e-4)


@settings(max_examples=60, deadline=None)
@given(
    before=st.tuples(LENGTHS, LENGTHS),
    after=st.tuples(LENGTHS, LENGTHS),
    seed=st.integers(0, 10**6),
    rows_at_once=st.integers(1, 70),
)
def test_any_window_of_what_is_resampled_has_the_numbers_of_the_whole(
    before, after, seed, rows_at_once, monkeypatch_module
):
    rng = np.random.default_rng(seed)
    plane = rng.normal(0, 1e3, before).astype(np.float32)
    whole = _resampling.resample_part(plane, *map(Stretch.whole, before, after))
    if before != after:
        assert np.array_equal(whole, resample(plane, after))
    cuts = []
    for length, of in zip(after, before, strict=True):
        start = int(rng.integers(length))
        cuts.append(Stretch(of, length, start, int(rng.integers(start, length)) + 1))
    needed = tuple(slice(*cut.needed) for cut in cuts)
    lonely = np.full(before, np.nan, np.float32)
    lonely[needed] = plane[needed]
    monkeypatch_module.setattr(_resampling, "_ROWS", rows_at_once)
    found = _resampling.resample_part(lonely[needed], *cuts)
    assert np.array_equal(found, whole[tuple(slice(c.start, c.stop) for c in cuts)])


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float64, np.float32])
def test_planes_of_any_type_and_order_are_resampled_as_float32(dtype):
    plane = np.random.default_rng(2).integers(0, 255, (90, 70)).astype(dtype)
    expected = resample(plane.astype(np.float32), (50, 120))
    assert np.array_equal(resample(plane, (50, 120)), expected)
    assert np.array_equal(resample(np.asfortranarray(plane), (50, 120)), expected)
    wide = np.zeros((180, 210), dtype)
    wide[::2, ::-3] = plane
    assert np.array_equal(resample(wide[::2, ::-3], (50, 120)), expected)


def test_a_flat_plane_stays_flat_and_a_mean_stays():
    plane = np.random.default_rng(3).random((120, 90)).astype(np.float32)
    for shape in ((60, 45), (240, 180), (37, 201)):
        assert np.allclose(resample(np.ones_like(plane), shape), 1, rtol=0, atol=1e-6)
    assert resample(plane, (1, 1))[0, 0] == pytest.approx(by_pillow(plane, (1, 1))[0, 0], rel=1e-5)
    assert resample(plane, (60, 45)).mean() == pytest.approx(plane.mean(), rel=0.01)
