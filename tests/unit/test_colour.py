"""Colour that is kept beside the grey, for models that look at it."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ranvier.reading import from_array, read

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
NOTE = "red, green and blue kept for the model"


def test_colour_is_kept_only_where_it_is_asked_for(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    assert read(path).colour is None
    kept = read(path, keep_colour=True)
    assert (kept.colour == RGB).all()
    assert NOTE in kept.notes
    assert (kept.pixels == read(path).pixels).all()
    assert kept.sha256 == read(path).sha256


def test_a_chosen_channel_is_all_there_is(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path)
    assert read(path, keep_colour=True, channel=1).colour is None


def test_grey_has_no_colour(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB[..., 0]).save(path)
    found = read(path, keep_colour=True)
    assert found.colour is None
    assert NOTE not in found.notes


@pytest.mark.parametrize(
    ("dtype", "kept"),
    [
        (np.uint8, np.uint8),
        (np.uint16, np.uint16),
        (np.float64, np.float32),
        (np.int16, np.float32),
    ],
)
def test_alpha_is_dropped_and_types_are_those_of_grey(dtype, kept):
    opaque = np.iinfo(dtype).max if np.dtype(dtype).kind in "iu" else 1
    samples = np.dstack([RGB.astype(dtype), np.full(RGB.shape[:2], opaque, dtype)])
    found = from_array(samples, keep_colour=True)
    assert found.colour.dtype == kept == found.pixels.dtype
    assert (found.colour == RGB).all()
    assert found.colour.flags.c_contiguous
    assert not np.may_share_memory(found.colour, samples)
