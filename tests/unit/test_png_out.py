"""PNG files: an independent decoder gets every pixel back, and the colours of an overlay are those of the formula."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ranvier import _png_out, pictures
from ranvier._png_out import encode_png
from ranvier.pictures import overlay_png

SHAPES = st.one_of(
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
    st.tuples(st.integers(1, 9), st.integers(1, 9), st.just(3)),
)


def decoded(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        image.verify()  # checksums
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@settings(max_examples=40, deadline=None)
@given(SHAPES.flatmap(lambda shape: arrays(np.uint8, shape)))
def test_every_pixel_comes_back(pixels):
    content = encode_png(pixels)
    assert np.array_equal(decoded(content), pixels)
    assert encode_png(pixels.copy(order="F")) == content


def test_long_data_are_cut_into_chunks(monkeypatch):
    monkeypatch.setattr(_png_out, "_LARGEST_CHUNK", 100)
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3)).astype(np.uint8)
    content = encode_png(pixels, per_metre=4000)
    assert content.count(b"IDAT") > 50
    assert np.array_equal(decoded(content), pixels)
    with Image.open(io.BytesIO(content)) as image:
        assert image.info["dpi"] == pytest.approx((101.6, 101.6))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_colours_looked_up_are_those_worked_out(kind, monkeypatch):
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, np.iinfo(kind).max + 1, (600, 31)).astype(kind)
    classes = rng.integers(0, 3, pixels.shape).astype(np.uint8)
    labels = np.zeros(pixels.shape, np.int32)
    labels[100:520, 3:20] = 1
    worked_out = overlay_png(pixels, classes, labels)
    monkeypatch.setattr(pictures, "_FEW_PIXELS", 0)
    assert overlay_png(pixels, classes, labels) == worked_out
