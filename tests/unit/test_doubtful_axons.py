"""Axons with hardly any myelin, those that the network is not sure of, and faint ones, in memory and streamed."""

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
from ranvier.streaming.sources import ArraySource
from ranvier.tilewise import InferenceSettings
from ranvier.tiling import Box

PLANES = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=13),
    elements=st.sampled_from([0, 1, 2, 2]),
)


def with_confidence(draw):
    """Classes, and a confidence and grey levels of the same shape."""
    classes = draw(PLANES)
    levels = [
        draw(hnp.arrays(kind, classes.shape, elements=st.integers(0, most)))
        for kind, most in ((np.uint8, 255), (np.uint16, 900))
    ]
    return classes, *levels


SEEN = st.composite(with_confidence)()
LIMITS = st.builds(
    AxonLimits,
    st.sampled_from([0.0, 0.1, 0.3, 0.5, 1.0]),
    st.sampled_from([0.0, 0.4, 0.5, 0.65, 1.0]),
    st.sampled_from([0.0, 0.2, 0.6, 1.0]),
)


def middle(weighted):
    """Weighted median, the lower one."""
    half, reached = sum(weight for _, weight in weighted) / 2, 0
    for value, weight in sorted(weighted):
        reached += weight
        if reached >= half:
            return value
    raise AssertionError


def by_hand(classes, confidence, pixels, limits):
    """Pixel by pixel, from the definition."""
    labels, count = ndimage.label(classes == 2, np.ones((3, 3)))
    out, bare, unsure, left = classes.copy(), 0, 0, []
    for label in range(1, count + 1):
        myelin = background = 0
        sheath = []
        for row, col in np.argwhere(labels == label):
            for there in ((row - 1, col), (row + 1, col), (row, col - 1), (row, col + 1)):
                if 0 <= there[0] < classes.shape[0] and 0 <= there[1] < classes.shape[1]:
                    myelin += classes[there] == 1
                    background += classes[there] == 0
                    if classes[there] == 1:
                        sheath.append(int(pixels[there]))
        probabilities = confidence[labels == label].astype(int)
        if myelin < limits.closure * (myelin + background):
            bare += 1
        elif probabilities.sum() < limits.confidence * 255 * probabilities.size:
            unsure += 1
        else:
            if sheath:
                inside = pixels[labels == label].astype(int)
                differs = inside.sum() / inside.size - sum(sheath) / len(sheath)
                left.append((differs, probabilities.sum(), label))
            continue
        out[labels == label] = 0
    faint = []
    if left and limits.contrast > 0:
        usual = middle([(differs, weight) for differs, weight, _ in left])
        spread = middle([(abs(differs - usual), weight) for differs, weight, _ in left])
        faint = [label for d, _, label in left if d * np.sign(usual) < limits.contrast * abs(usual)]
        if len(faint) > 0.2 * len(left) or spread > 0.55 * abs(usual):
            faint = []
    out[np.isin(labels, faint)] = 0
    pieces, many = ndimage.label(classes == 1, np.ones((3, 3)))
    for piece in range(1, many + 1):
        around = ndimage.binary_dilation(pieces == piece)
        if np.isin(labels, faint)[around].any() and not (out == 2)[around].any():
            out[pieces == piece] = 0
    return out, LeftOut(limits, bare, unsure, len(faint))


@settings(deadline=None, max_examples=200)
@given(SEEN, LIMITS)
def test_as_counted_pixel_by_pixel(seen, limits):
    classes, confidence, pixels = seen
    before = classes.copy()
    found, left_out = without_doubtful_axons(classes, confidence, limits, pixels=pixels)
    expected, gone = by_hand(classes, confidence, pixels, limits)
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
        for plane, values in zip(planes, seen[:2], strict=True):
            plane.write(whole, values)
            plane.commit()
        source = ArraySource(seen[2])
        gone = drop_doubtful_axons(classes, confidence, source, limits)
        expected, left_out = without_doubtful_axons(*seen[:2], limits, pixels=seen[2])
        assert gone == left_out
        assert np.array_equal(classes.read(whole), expected)


def test_without_a_confidence_none_goes_for_it():
    classes = np.array([[1, 2, 1], [0, 0, 0], [0, 2, 0]], np.uint8)
    found, left_out = without_doubtful_axons(classes, None, AxonLimits(0.3, 1.0))
    assert (left_out.bare, left_out.unsure) == (1, 0)
    assert np.array_equal(found, [[1, 2, 1], [0, 0, 0], [0, 0, 0]])


def test_what_is_left_out_is_said():
    left_out = LeftOut(AxonLimits(0.3, 0.65, 0.2), bare=2, unsure=5, faint=7)
    assert [note.split(" left out")[0] for note in left_out.notes] == [
        "2 axon(s) with hardly any myelin",
        "5 axon(s) that the model is not sure of",
        "7 axon(s) that hardly differ in grey from their sheaths",
    ]
    assert left_out.record == {
        "bare_axons": {"min_closure": 0.3, "left_out": 2},
        "unsure_axons": {"min_confidence": 0.65, "left_out": 5},
        "faint_axons": {"min_contrast": 0.2, "left_out": 7},
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


def rings(levels):
    """Axons in rings, side by side: a level of each, of the myelin around it, and the classes."""
    rows, columns = np.mgrid[:40, : 40 * len(levels)]
    away = np.hypot(rows - 20, columns % 40 - 20)
    classes = np.where(away < 8, 2, np.where(away < 14, 1, 0)).astype(np.uint8)
    pair = np.array(levels)[columns // 40]
    pixels = np.where(away < 8, pair[..., 0], np.where(away < 14, pair[..., 1], 120))
    return classes, pixels.astype(np.uint8)


@pytest.mark.parametrize("dark", [False, True])
def test_a_vessel_among_fibres_goes_whatever_the_polarity(dark):
    levels = [(200, 60)] * 6 + [(230, 210), (60, 200), (200, 165)]
    classes, pixels = rings([(255 - a, 255 - b) for a, b in levels] if dark else levels)
    sure = np.full(classes.shape, 255, np.uint8)
    limits = AxonLimits(0.3, 0.6, 0.2)
    found, left_out = without_doubtful_axons(classes, sure, limits, pixels=pixels)
    assert (left_out.bare, left_out.unsure, left_out.faint) == (0, 0, 0), "a third of them: no"
    classes, pixels = rings([*([levels[0]] * 6), *levels])
    found, left_out = without_doubtful_axons(
        classes, np.full(classes.shape, 255, np.uint8), limits, pixels=pixels
    )
    assert left_out.faint == 2
    there = [bool((found[:, 40 * k : 40 * k + 40] == 2).any()) for k in range(15)]
    assert there == [True] * 12 + [False, False, True]
    walls = [bool((found[:, 40 * k : 40 * k + 40] == 1).any()) for k in range(15)]
    assert walls == there, "and so do their walls"
    assert found.max() == 2


@pytest.mark.parametrize("tile", [4, 7, 64])
@pytest.mark.parametrize("turned", [False, True])
def test_walls_go_streamed_as_in_memory(tmp_path, tile, turned):
    classes, pixels = rings([(200, 60)] * 9 + [(230, 220), (60, 200)])
    # Between a fibre and a vessel: that wall stays, for it is the fibre's, too.
    classes[18:22, 352:368] = 1
    if turned:
        classes, pixels = classes.T.copy(), pixels.T.copy()
    sure, limits = np.full(classes.shape, 250, np.uint8), AxonLimits(0.3, 0.6, 0.1)
    whole = Box(0, 0, *classes.shape)
    planes = [Plane(tmp_path / f"{k}.plane", classes.shape, np.uint8, tile=tile) for k in range(2)]
    with planes[0] as on_disk, planes[1] as confidence:
        for plane, values in zip(planes, (classes, sure), strict=True):
            plane.write(whole, values)
            plane.commit()
        gone = drop_doubtful_axons(on_disk, confidence, ArraySource(pixels), limits)
        found = on_disk.read(whole)
    expected, left_out = without_doubtful_axons(classes, sure, limits, pixels=pixels)
    assert np.array_equal(found, expected)
    assert gone == left_out == LeftOut(limits, faint=2)
    along = found.T if turned else found
    assert not (along[:, 360:] == 2).any()
    assert (along[:, 366:400] == 1).any()
    assert not along[:, 402:].any()


def test_where_contrasts_spread_too_far_they_tell_nothing():
    levels = [(200, 60), (200, 195)] + [(200, 60 + 12 * k) for k in range(9)]
    classes, pixels = rings(levels)
    sure = np.full(classes.shape, 255, np.uint8)
    limits = AxonLimits(0.3, 0.6, 0.1)
    assert without_doubtful_axons(classes, sure, limits, pixels=pixels)[1].faint == 1
    classes, pixels = rings([(200, 195 - 17 * k) for k in range(11)] + [(30, 200)] * 2)
    sure = np.full(classes.shape, 255, np.uint8)
    assert without_doubtful_axons(classes, sure, limits, pixels=pixels)[1].faint == 0


def test_without_grey_levels_none_goes_for_its_contrast():
    classes, _ = rings([(200, 60)] * 9 + [(210, 200)])
    sure = np.full(classes.shape, 255, np.uint8)
    assert without_doubtful_axons(classes, sure, AxonLimits(0.0, 0.0, 0.5))[0] is classes


def test_zero_keeps_all():
    classes = np.array([[0, 2, 0]], np.uint8)
    found, left_out = without_doubtful_axons(classes, np.zeros_like(classes), AxonLimits(0.0, 0.0))
    assert found is classes
    assert (left_out.bare, left_out.unsure) == (0, 0)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("name", ["closure", "confidence", "contrast"])
def test_a_share_out_of_range_is_refused(name, value):
    with pytest.raises(SettingsError, match=name):
        InferenceSettings(**{f"min_{name}": value})
