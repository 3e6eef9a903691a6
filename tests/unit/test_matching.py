from __future__ import annotations

import itertools
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ranvier.errors import MaskError, SettingsError
from ranvier.matching import match, overlaps

LABELS = hnp.arrays(np.int32, (5, 7), elements=st.integers(0, 4))


def found(one, other, n=4):
    return overlaps(one, other, n_predicted=n, n_truth=n)


def naive_iou(one, other, p, t):
    a, b = one == p, other == t
    return (a & b).sum() / (a | b).sum()


def present(labels):
    return [int(i) for i in np.unique(labels) if i]


@given(LABELS, LABELS)
def test_overlaps_are_those_of_counting_by_hand(one, other):
    pairs = found(one, other)
    known = dict(zip(zip(pairs.predicted, pairs.truth, strict=True), pairs.iou, strict=True))
    for p, t in itertools.product(present(one), present(other)):
        assert known.pop((p, t), 0.0) == pytest.approx(naive_iou(one, other, p, t))
    assert not known


def best_by_trying(one, other, threshold):
    """Most pairs, then the largest sum of IoU, over all one-to-one choices."""
    ps, ts = present(one), present(other)
    best = (0, 0.0)
    for size in range(min(len(ps), len(ts)) + 1):
        for chosen in itertools.combinations(ps, size):
            for partners in itertools.permutations(ts, size):
                ious = [naive_iou(one, other, p, t) for p, t in zip(chosen, partners, strict=True)]
                if all(i >= threshold for i in ious):
                    best = max(best, (size, sum(ious)))
    return best


@settings(max_examples=60, deadline=None)
@given(LABELS, LABELS, st.sampled_from([0.05, 0.3, 0.5, 0.75, 1.0]))
def test_matches_are_the_best_of_all_choices(one, other, threshold):
    matches = match(found(one, other), threshold)
    assert len(set(matches.predicted)) == len(set(matches.truth)) == len(matches)
    assert (matches.iou >= threshold).all()
    number, total = best_by_trying(one, other, threshold)
    assert len(matches) == number
    assert matches.iou.sum() == pytest.approx(total)


def test_a_greedy_choice_would_lose_a_match():
    one = np.array([[1, 1, 1, 2, 2, 0]], np.int32)
    other = np.array([[1, 1, 2, 2, 2, 2]], np.int32)
    assert len(match(overlaps(one, other, n_predicted=2, n_truth=2), 0.3)) == 2


@pytest.mark.parametrize(("n_predicted", "n_truth"), [(0, 0), (0, 3), (3, 0)])
def test_nothing_matches_nothing(n_predicted, n_truth):
    shape = (4, 4)
    one = np.zeros(shape, np.int32)
    other = np.zeros(shape, np.int32)
    if n_predicted:
        one[0, :3] = 1, 2, 3
    if n_truth:
        other[0, :3] = 1, 2, 3
    pairs = overlaps(one, other, n_predicted=n_predicted, n_truth=n_truth)
    assert len(match(pairs, 0.5)) == 0


def test_many_objects_take_seconds_at_most():
    square = np.zeros((20, 20), np.int32)
    square[3:15, 3:15] = 1
    n = 140
    one = np.tile(square, (n, n))
    one[one > 0] = np.kron(np.arange(1, n * n + 1).reshape(n, n), square)[one > 0]
    start = time.process_time()
    pairs = overlaps(one, np.roll(one, 3, axis=1), n_predicted=n * n, n_truth=n * n)
    matches = match(pairs, 0.3)
    assert time.process_time() - start < 20  # no timing test: quadratic would take hours
    assert np.array_equal(matches.predicted, matches.truth)
    assert len(matches) == n * n


def test_what_cannot_be_matched_is_refused():
    labels = np.ones((2, 2), np.int32)
    with pytest.raises(MaskError, match="differ in shape"):
        overlaps(labels, labels[:1], n_predicted=1, n_truth=1)
    with pytest.raises(MaskError, match="out of its range"):
        overlaps(labels, labels, n_predicted=0, n_truth=1)
    pairs = overlaps(labels, labels, n_predicted=1, n_truth=1)
    for bad in (0, -0.1, 1.1, float("nan")):
        with pytest.raises(SettingsError, match="threshold"):
            match(pairs, bad)
