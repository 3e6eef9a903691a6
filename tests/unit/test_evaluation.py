from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ranvier.errors import MaskError
from ranvier.evaluation import confusion, evaluate, scores
from ranvier.micrograph import Segmentation

SHAPE = (7, 9)
CLASSES = hnp.arrays(np.uint8, SHAPE, elements=st.integers(0, 2))


def naive(predicted, truth, value):
    p, t = set(np.flatnonzero(predicted == value)), set(np.flatnonzero(truth == value))
    dice = 2 * len(p & t) / (len(p) + len(t)) if p or t else math.nan
    iou = len(p & t) / len(p | t) if p or t else math.nan
    return dice, iou


@given(CLASSES, CLASSES)
def test_scores_are_those_of_counting_by_hand(predicted, truth):
    result = evaluate(predicted, truth)
    for value, name in ((1, "myelin"), (2, "axon")):
        dice, iou = naive(predicted, truth, value)
        assert result[f"dice_{name}"] == pytest.approx(dice, nan_ok=True)
        assert result[f"iou_{name}"] == pytest.approx(iou, nan_ok=True)


@given(CLASSES, CLASSES, CLASSES, CLASSES)
def test_pooled_counts_are_those_of_one_large_image(p1, t1, p2, t2):
    pooled = confusion(p1, t1) + confusion(p2, t2)
    assert pooled == confusion(np.concatenate((p1, p2)), np.concatenate((t1, t2)))


@pytest.mark.parametrize(
    ("predicted", "truth", "dice"),
    [(0, 0, math.nan), (2, 2, 1.0), (2, 0, 0.0), (0, 2, 0.0), (1, 2, 0.0)],
)
def test_what_0_over_0_is(predicted, truth, dice):
    flat = [np.full((4, 4), v, np.uint8) for v in (predicted, truth)]
    assert scores(confusion(*flat))["dice_axon"] == pytest.approx(dice, nan_ok=True)


def test_segmentations_are_taken_as_they_are():
    classes = np.array([[0, 1, 2]], np.uint8)
    assert evaluate(Segmentation(classes), classes) == dict.fromkeys(
        ("dice_myelin", "iou_myelin", "dice_axon", "iou_axon"), 1.0
    )


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(MaskError, match="differ in shape"):
        evaluate(np.zeros((2, 2), np.uint8), np.zeros((2, 3), np.uint8))
    with pytest.raises(MaskError, match="values other than"):
        evaluate(np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
