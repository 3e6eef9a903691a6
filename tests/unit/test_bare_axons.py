"""Axons with hardly any myelin around them, in memory and streamed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ranvier._bare_axons import without_bare_axons
from ranvier.errors import SettingsError
from ranvier.streaming.bare_axons import drop_bare_axons
from ranvier.streaming.planes import Plane
from ranvier.tilewise import InferenceSettings
from ranvier.tiling import Box

PLANES = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=13),
    elements=st.sampled_from([0, 1, 2, 2]),
)


def by_hand(classes, least):
    """Pixel by pixel, from the definition."""
    labels, count = ndimage.label(classes == 2, np.ones((3, 3)))
    out, gone = classes.copy(), 0
    for label in range(1, count + 1):
        myelin = background = 0
        for row, col in np.argwhere(labels == label):
            for there in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
                if 0 <= there[0] < classes.shape[0] and 0 <= there[1] < classes.shape[1]:
                    myelin += classes[there] == 1
                    background += classes[there] == 0
        if myelin < least * (myelin + background):
            out[labels == label] = 0
            gone += 1
    return out, gone


@settings(deadline=None, max_examples=150)
@given(PLANES, st.sampled_from([0.1, 0.3, 0.5, 1.0]))
def test_as_counted_pixel_by_pixel(classes, least):
    before = classes.copy()
    found, count = without_bare_axons(classes, least)
    expected, gone = by_hand(classes, least)
    assert np.array_equal(found, expected)
    assert count == gone
    assert np.array_equal(classes, before)


@settings(deadline=None, max_examples=60)
@given(classes=PLANES, least=st.sampled_from([0.3, 0.7]), tile=st.sampled_from([1, 2, 4, 64]))
def test_streamed_as_in_memory(tmp_path_factory, classes, least, tile):
    path = tmp_path_factory.mktemp("bare") / "classes.plane"
    whole = Box(0, 0, *classes.shape)
    with Plane(path, classes.shape, np.uint8, tile=tile) as plane:
        plane.write(whole, classes)
        plane.commit()
        gone = drop_bare_axons(plane, least)
        expected, count = without_bare_axons(classes, least)
        assert gone == count
        assert np.array_equal(plane.read(whole), expected)


def test_a_ring_keeps_its_axon_and_an_open_blob_goes():
    rows, columns = np.mgrid[:60, :120]
    near, far = np.hypot(rows - 30, columns - 30), np.hypot(rows - 30, columns - 90)
    classes = np.zeros((60, 120), np.uint8)
    classes[near < 20] = 1
    classes[near < 14] = 2
    classes[far < 14] = 2
    found, count = without_bare_axons(classes, 0.3)
    assert count == 1
    assert np.array_equal(found[:, :60], classes[:, :60])
    assert not found[:, 60:].any()


def test_an_axon_that_fills_the_image_stays():
    classes = np.full((5, 6), 2, np.uint8)
    assert without_bare_axons(classes, 1.0)[1] == 0


def test_zero_keeps_all():
    classes = np.array([[0, 2, 0]], np.uint8)
    found, count = without_bare_axons(classes, 0.0)
    assert found is classes
    assert count == 0


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_a_share_out_of_range_is_refused(value):
    with pytest.raises(SettingsError, match="closure"):
        InferenceSettings(min_closure=value)
