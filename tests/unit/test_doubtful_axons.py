"""Axons with hardly any myelin around them, and those that the network is not sure of, in memory and streamed."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ranvier._doubtful_axons import AxonLimits, LeftOut, without_doubtful_axons
from ranvier.errors import SettingsError
from ranvier.streaming.doubtful_axons import drop_doubtful_axons
from ranvier.streaming.planes import Plane
from ranvier.tilewise import InferenceSettings
from ranvier.tiling import Box

PLANES = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=13),
    elements=st.sampled_from([0, 1, 2, 2]),
)


def with_confidence(draw):
    """Classes, and a confidence of the same shape."""
    classes = draw(PLANES)
    return classes, draw(hnp.arrays(np.uint8, classes.shape, elements=st.integers(0, 255)))


SEEN = st.composite(with_confidence)()
LIMITS = st.builds(
    AxonLimits,
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]),
    st.sampled_from([0.0, 0.4, 0.5, 0.65, 1.0]),
)


def by_hand(classes, confidence, limits):
    """Pixel by pixel, from the definition."""
    labels, count = ndimage.label(classes == 2, np.ones((3, 3)))
    out, bare, unsure = classes.copy(), 0, 0
    for label in range(1, count + 1):
        myelin = background = 0
        for row, col in np.argwhere(labels == label):
            for there in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
                if 0 <= there[0] < classes.shape[0] and 0 <= there[1] < classes.shape[1]:
                    myelin += classes[there] == 1
                    background += classes[there] == 0
        probabilities = confidence[labels == label].astype(int)
        if myelin < limits.closure * (myelin + background):
            bare += 1
        elif probabilities.sum() < limits.confidence * 255 * probabilities.size:
            unsure += 1
        else:
            continue
        out[labels == label] = 0
    return out, LeftOut(limits, bare, unsure)


@settings(deadline=None, max_examples=200)
@given(SEEN, LIMITS)
def test_as_counted_pixel_by_pixel(seen, limits):
    classes, confidence = seen
    before = classes.copy()
    found, left_out = without_doubtful_axons(classes, confidence, limits)
    expected, gone = by_hand(classes, confidence, limits)
    assert np.array_equal(found, expected)
    assert left_out == gone
    assert np.array_equal(classes, before)


@settings(deadline=None, max_examples=80)
@given(seen=SEEN, limits=LIMITS, tile=st.sampled_from([1, 2, 4, 64]))
def test_streamed_as_in_memory(tmp_path_factory, seen, limits, tile):
    folder = tmp_path_factory.mktemp("bare")
    shape, whole = seen[0].shape, Box(0, 0, *seen[0].shape)
    planes = [Plane(folder / f"{k}.plane", shape, np.uint8, tile=tile) for k in range(2)]
    with planes[0] as classes, planes[1] as confidence:
        for plane, values in zip(planes, seen, strict=True):
            plane.write(whole, values)
            plane.commit()
        gone = drop_doubtful_axons(classes, confidence, limits)
        expected, left_out = without_doubtful_axons(*seen, limits)
        assert gone == left_out
        assert np.array_equal(classes.read(whole), expected)


def test_without_a_confidence_none_goes_for_it():
    classes = np.array([[1, 2, 1], [0, 0, 0], [0, 2, 0]], np.uint8)
    found, left_out = without_doubtful_axons(classes, None, AxonLimits(0.3, 1.0))
    assert (left_out.bare, left_out.unsure) == (1, 0)
    assert np.array_equal(found, [[1, 2, 1], [0, 0, 0], [0, 0, 0]])


def test_what_is_left_out_is_said():
    left_out = LeftOut(AxonLimits(0.3, 0.65), bare=2, unsure=5)
    assert [note.split(" left out")[0] for note in left_out.notes] == [
        "2 axon(s) with hardly any myelin",
        "5 axon(s) that the model is not sure of",
    ]
    assert left_out.record == {
        "bare_axons": {"min_closure": 0.3, "left_out": 2},
        "unsure_axons": {"min_confidence": 0.65, "left_out": 5},
    }
    assert LeftOut(AxonLimits(0.3, 0.65)).notes == ()


def test_a_ring_keeps_its_axon_and_an_open_blob_goes():
    rows, columns = np.mgrid[:60, :120]
    near, far = np.hypot(rows - 30, columns - 30), np.hypot(rows - 30, columns - 90)
    classes = np.zeros((60, 120), np.uint8)
    classes[near < 20] = 1
    classes[near < 14] = 2
    classes[far < 14] = 2
    sure = np.full(classes.shape, 255, np.uint8)
    found, left_out = without_doubtful_axons(classes, sure, AxonLimits(0.3, 0.65))
    assert (left_out.bare, left_out.unsure) == (1, 0)
    assert np.array_equal(found[:, :60], classes[:, :60])
    assert not found[:, 60:].any()


def test_an_axon_that_fills_the_image_stays():
    classes = np.full((5, 6), 2, np.uint8)
    assert without_doubtful_axons(classes, None, AxonLimits(1.0, 0.0))[1].bare == 0


def test_zero_keeps_all():
    classes = np.array([[0, 2, 0]], np.uint8)
    found, left_out = without_doubtful_axons(classes, np.zeros_like(classes), AxonLimits(0.0, 0.0))
    assert found is classes
    assert (left_out.bare, left_out.unsure) == (0, 0)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("name", ["closure", "confidence"])
def test_a_share_out_of_range_is_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        InferenceSettings(**{f"min_{name}": value})
