from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

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
