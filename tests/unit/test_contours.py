"""Outlines of label images: every edge, in walking order."""

from __future__ import annotations

import numpy as np
import pytest

from ranvier import contours
from ranvier.contours import OUTSIDE, trace
from ranvier.errors import MaskError


def random_labels(seed, shape=(13, 17), count=4):
    return np.random.default_rng(seed).integers(0, count + 1, shape).astype(np.int32)


def edges_by_hand(labels):
    """Every edge as (owner, other, start corner, end corner), from the definition."""
    padded = np.pad(labels, 1, constant_values=OUTSIDE)
    found = set()
    for r, c in zip(*np.nonzero(labels), strict=True):
        own = labels[r, c]
        for (dr, dc), start, end in (
            ((-1, 0), (r, c), (r, c + 1)),
            ((0, 1), (r, c + 1), (r + 1, c + 1)),
            ((1, 0), (r + 1, c + 1), (r + 1, c)),
            ((0, -1), (r + 1, c), (r, c)),
        ):
            other = padded[r + 1 + dr, c + 1 + dc]
            if other != own:
                found.add((int(own), int(other), start, end))
    return found


def edges_of(outlines):
    ahead = outlines.following
    start = list(zip(outlines.row, outlines.col, strict=True))
    end = list(zip(outlines.row[ahead], outlines.col[ahead], strict=True))
    return set(zip(outlines.owner.tolist(), outlines.other.tolist(), start, end, strict=True))


@pytest.mark.parametrize("band", [1, 40, 2**18])
@pytest.mark.parametrize("seed", range(5))
def test_every_edge_is_found_once_and_leads_to_the_next(seed, band, monkeypatch):
    monkeypatch.setattr(contours, "_BAND", band)
    labels = random_labels(seed)
    outlines = trace(labels, 4)
    assert edges_of(outlines) == edges_by_hand(labels)
    assert len(outlines) == len(edges_by_hand(labels))
    assert np.array_equal(outlines.preceding[outlines.following], np.arange(len(outlines)))
    assert np.all(np.diff(outlines.owner) >= 0)
    for first, last in zip(outlines.starts[:-1], outlines.starts[1:], strict=True):
        assert np.unique(outlines.owner[first:last]).size == 1
        loop = np.arange(first, last)
        assert np.array_equal(outlines.following[loop], np.roll(loop, -1))


@pytest.mark.parametrize("seed", range(5))
def test_loops_are_those_of_parts_and_of_their_holes(seed):
    from scipy import ndimage

    labels = (random_labels(seed) > 1).astype(np.int32)
    outlines = trace(labels, 1)
    _, parts = ndimage.label(labels)
    background, regions = ndimage.label(
        np.pad(labels == 0, 1, constant_values=True), np.ones((3, 3))
    )
    assert background[0, 0] == 1
    assert outlines.starts.size - 1 == parts + regions - 1


def test_pixels_that_touch_at_a_corner_have_loops_of_their_own():
    outlines = trace(np.array([[1, 0], [0, 1]], np.int32), 1)
    assert outlines.starts.tolist() == [0, 4, 8]
    assert list(zip(outlines.row[:4], outlines.col[:4], strict=True)) == [
        (0, 0),
        (0, 1),
        (1, 1),
        (1, 0),
    ]
    assert outlines.other[:4].tolist() == [OUTSIDE, 0, 0, OUTSIDE]


def test_midpoints_lie_half_a_pixel_from_the_centre_and_smoothing_rounds_them():
    labels = np.zeros((101, 101), np.int32)
    r, c = np.mgrid[:101, :101] - 50
    labels[r**2 + c**2 <= 40**2] = 1
    outlines = trace(labels, 1)
    rows, cols = outlines.midpoints()
    inner = np.hypot(rows - 50, cols - 50)
    assert abs(inner.mean() - 40) < 0.5
    smooth = np.hypot(*(v - 50 for v in outlines.smoothed(4)))
    assert smooth.std() < inner.std() / 2
    assert np.array_equal(outlines.smoothed(0), outlines.midpoints())
    one = trace(np.pad(np.ones((1, 1), np.int32), 2), 1)
    assert sorted(zip(*(v.tolist() for v in one.midpoints()), strict=True)) == [
        (1.5, 2.0),
        (2.0, 1.5),
        (2.0, 2.5),
        (2.5, 2.0),
    ]
    for row, col in (one.smoothed(4), one.smoothed(7)):
        assert np.abs(row - 2).max() < 0.2
        assert np.abs(col - 2).max() < 0.2


def test_no_object_and_wrong_labels():
    empty = trace(np.zeros((5, 6), np.int32), 0)
    assert len(empty) == 0
    assert empty.starts.tolist() == [0]
    assert empty.smoothed(3)[0].size == empty.midpoints()[0].size == 0
    with pytest.raises(MaskError, match="rows and columns"):
        trace(np.zeros((0, 4), np.int32), 0)
    with pytest.raises(MaskError, match="higher than the count"):
        trace(np.full((2, 2), 3, np.int32), 2)
    with pytest.raises(MaskError, match="negative"):
        trace(np.array([[1, -4]], np.int32), 2)
