from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ranvier.assessment import assess
from ranvier.calibration import PixelSize
from ranvier.errors import MaskError
from ranvier.instances import InstanceSettings

SIZE = PixelSize(0.1, "option")
CLASSES = hnp.arrays(np.uint8, (9, 11), elements=st.integers(0, 2))
ANY = InstanceSettings(min_axon_area=1)


def away(centre):
    row, col = np.indices((100, 160))
    return np.hypot(row - centre[0], col - centre[1])


def scene(*fibres):
    classes = np.zeros((100, 160), np.uint8)
    for row, col, axon, outer in fibres:
        classes[(away((row, col)) <= outer) & (classes == 0)] = 1
        classes[away((row, col)) <= axon] = 2
    return classes


TRUTH = scene((30, 30, 10, 15), (70, 40, 12, 18), (40, 110, 20, 30))


def test_the_truth_agrees_with_itself():
    figures = assess(TRUTH, TRUTH, pixel_size=SIZE).figures()
    for name in ("dice_axon", "axon_f1_75", "fibre_panoptic_quality_50", "axon_precision_30"):
        assert figures[name] == 1
    assert figures["count_true"] == figures["count_predicted"] == 3
    for name in ("count_bias", "axon_hd95_px", "myelin_surface_distance_um", "g_ratio_bias"):
        assert figures[name] == 0
    assert figures["axon_diameter_um_n"] == 3


def test_known_errors_have_known_figures():
    predicted = scene(
        (30, 30, 12, 15), (40, 110, 18, 30), (80, 130, 8, 11)
    )  # one missed, one invented
    figures = assess(predicted, TRUTH, pixel_size=SIZE).figures()
    assert figures["axon_precision_50"] == pytest.approx(2 / 3)
    assert figures["axon_recall_50"] == pytest.approx(2 / 3)
    assert figures["axon_f1_50"] == pytest.approx(2 / 3)
    assert (figures["count_predicted"], figures["count_true"], figures["count_bias"]) == (3, 3, 0)
    assert figures["axon_diameter_um_n"] == 2
    assert figures["axon_diameter_um_bias"] == pytest.approx(0, abs=0.04)
    assert figures["axon_diameter_um_sd"] == pytest.approx(np.std([0.4, -0.4], ddof=1), abs=0.02)
    assert figures["axon_diameter_um_upper_limit"] == pytest.approx(
        1.96 * 0.8 / math.sqrt(2), abs=0.08
    )
    # Found at 0.5 but not at 0.75: (10 / 12) ** 2 = 0.69.
    assert figures["axon_recall_75"] == pytest.approx(1 / 3)


def naive_surface(one, other):
    """Directed distances between borders by brute force."""

    def border(mask):
        padded = np.pad(mask, 1, constant_values=True)
        inner = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
        return np.argwhere(mask & ~inner)

    a, b = border(one), border(other)
    if not len(a) or not len(b):
        return math.nan, math.nan
    d = np.hypot(*(a[:, None] - b[None]).transpose(2, 0, 1))
    ways = d.min(axis=1), d.min(axis=0)
    mean = np.concatenate(ways).mean()
    return mean, max(np.quantile(w, 0.95, method="inverted_cdf") for w in ways)


@settings(max_examples=60, deadline=None)
@given(CLASSES, CLASSES)
def test_boundaries_against_brute_force(predicted, truth):
    figures = assess(predicted, truth, settings=ANY).figures()
    for name, value in (("axon", 2), ("myelin", 1)):
        mean, far = naive_surface(predicted == value, truth == value)
        assert figures[f"{name}_surface_distance_px"] == pytest.approx(mean, nan_ok=True)
        assert figures[f"{name}_hd95_px"] == pytest.approx(far, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(CLASSES, CLASSES), min_size=2, max_size=3))
def test_pooling_is_adding_counts(pairs):
    each = [assess(p, t, settings=ANY) for p, t in pairs]
    pooled = each[0]
    for other in each[1:]:
        pooled = pooled + other
    figures, single = pooled.figures(), [e.figures() for e in each]
    assert figures["count_true"] == sum(s["count_true"] for s in single)
    assert figures["axon_diameter_px_n"] == sum(s["axon_diameter_px_n"] for s in single)
    detection = pooled.detections["axon", 0.5]
    assert detection.found == sum(e.detections["axon", 0.5].found for e in each)
    table = np.array(pooled.pixels.counts)
    assert table.sum() == 99 * len(pairs)


BLANK = np.zeros((8, 8), np.uint8)
AXON = np.pad(np.full((4, 4), 2, np.uint8), 2)
NAN = math.nan


@pytest.mark.parametrize(
    ("predicted", "truth", "expected"),
    [
        (BLANK, BLANK, {"dice_axon": NAN, "axon_precision_50": NAN, "axon_recall_50": NAN, "axon_f1_50": NAN,
                        "axon_panoptic_quality_50": NAN, "axon_hd95_px": NAN, "count_bias": 0,
                        "count_bias_share": NAN, "g_ratio_n": 0, "g_ratio_bias": NAN}),
        (AXON, BLANK, {"dice_axon": 0, "axon_precision_50": 0, "axon_recall_50": NAN, "axon_f1_50": 0,
                       "axon_panoptic_quality_50": 0, "axon_hd95_px": NAN, "count_bias": 1,
                       "count_bias_share": NAN}),
        (BLANK, AXON, {"dice_axon": 0, "axon_precision_50": NAN, "axon_recall_50": 0, "axon_f1_50": 0,
                       "axon_panoptic_quality_50": 0, "axon_hd95_px": NAN, "count_bias": -1,
                       "count_bias_share": -1}),
        (AXON, AXON, {"dice_axon": 1, "axon_f1_50": 1, "axon_hd95_px": 0, "axon_diameter_px_n": 1,
                      "axon_diameter_px_bias": 0, "axon_diameter_px_sd": NAN, "g_ratio_n": 0}),
    ],
    ids=["nothing", "invented", "missed", "found"],
)  # fmt: skip
def test_what_0_over_0_is(predicted, truth, expected):
    figures = assess(predicted, truth).figures()
    for name, value in expected.items():
        assert figures[name] == pytest.approx(value, nan_ok=True), name


def test_units_are_those_of_the_pixel_size():
    um, px = assess(TRUTH, TRUTH, pixel_size=SIZE), assess(TRUTH, TRUTH)
    assert "axon_diameter_um_bias" in um.figures()
    assert "axon_hd95_um" in um.figures()
    assert not [name for name in px.figures() if "_um" in name]
    other = assess(TRUTH, TRUTH, pixel_size=PixelSize(0.2, "option"))
    assert "axon_hd95_um" not in (um + other).figures()  # no single scale
    assert (um + other).figures()["axon_diameter_um_n"] == 6


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(MaskError, match="differ in shape"):
        assess(TRUTH, TRUTH[:-1])
