"""Masks of any tool: what is taken, what is refused, and what becomes of grey pixels."""

from __future__ import annotations

import functools
import io
import itertools

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

from ranvier._levels import counted
from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.errors import MaskError
from ranvier.masks import classes_from_mask, classes_from_masks

AXON, MYELIN, BOTH = ([0, 0, 255], [0, 255, 0], [0, 127, 255])
FINE = 8
"""Truth is drawn so many times finer."""


@functools.cache
def truth(sheath: float, *, side: int = 160, spacing: int = 26, fine: int = 1) -> np.ndarray:
    """Rows of fibres, at odd places, with sheaths of one width."""
    places = (np.arange(side * fine) + 0.5) / fine
    row, col = np.meshgrid(places, places, indexing="ij")
    classes = np.zeros(row.shape, np.uint8)
    rng = np.random.default_rng(0)
    for top, left in itertools.product(range(0, side - spacing + 1, spacing), repeat=2):
        away = np.hypot(
            row - top - spacing / 2 - rng.uniform(-1, 1), col - left - spacing / 2 + rng.uniform()
        )
        radius = rng.uniform(0.5, 0.8) * (spacing / 2 - sheath - 1)
        classes[away <= radius + sheath] = 1
        classes[away <= radius] = 2
    return classes


def hard(sheath: float, levels: list[int]) -> np.ndarray:
    return np.array(levels, np.uint8)[truth(sheath)]


def smooth(sheath: float, levels: list[int]) -> np.ndarray:
    """Each pixel the mean of what it covers, as drawing programs do it."""
    drawn = np.array(levels, float)[truth(sheath, fine=FINE)]
    side = len(drawn) // FINE
    return drawn.reshape(side, FINE, side, FINE).mean((1, 3)).round().astype(np.uint8)


def jpeg(grey: np.ndarray, quality: int = 75) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "JPEG", quality=quality)
    with Image.open(file) as image:
        return np.array(image)


@pytest.mark.parametrize("sheath", [2, 3, 4, 6])
@pytest.mark.parametrize("kind", ["jpeg", "smooth", "both"])
def test_thin_sheaths_that_were_compressed_or_smoothed(kind: str, sheath: int) -> None:
    def made(levels: list[int]) -> np.ndarray:
        if kind == "jpeg":
            return jpeg(hard(sheath, levels))
        return smooth(sheath, levels) if kind == "smooth" else jpeg(smooth(sheath, levels))

    expected = truth(sheath)
    least = {"jpeg": 0.999, "smooth": 0.985, "both": 0.98}[kind]  # an edge pixel may go either way
    pair = classes_from_masks(made(AXON), made(MYELIN))
    assert np.mean(pair == expected) > least
    assert np.mean(classes_from_mask(made(BOTH)) == expected) > least - 0.01
    myelin = (expected == 1).sum()
    assert (pair == 1).sum() == pytest.approx(myelin, rel=0.04)


def test_deep_and_float_masks_are_judged_alike() -> None:
    grey = jpeg(smooth(3, MYELIN))
    none = np.zeros(grey.shape, bool)
    expected = classes_from_masks(none, grey)
    assert (expected == 1).any()
    for other in (
        grey.astype(np.uint16) * 257,
        grey.astype(np.int32),
        grey / 255,
        np.float32(grey),
    ):
        assert np.array_equal(classes_from_masks(none, other), expected)


@pytest.mark.parametrize("look", ["SEM", "TEM", "BF"])
@pytest.mark.parametrize("cut", [0, 5, 20])
def test_micrographs_are_refused_even_if_half_of_them_is_saturated(look: str, cut: int) -> None:
    pixels = draw(PhantomSettings(shape=(128, 160), look=look, seed=1)).image.pixels
    grey = pixels.astype(float)
    low, high = np.percentile(grey, (cut, 100 - cut))
    grey = (np.clip((grey - low) / (high - low), 0, 1) * 255).astype(np.uint8)
    for one in (grey, 255 - grey):
        with pytest.raises(MaskError, match="values"):
            classes_from_mask(one)
        with pytest.raises(MaskError, match="values"):
            classes_from_masks(one, np.zeros(one.shape, bool))


def discs(values: list[float]) -> np.ndarray:
    row, col = np.mgrid[:100, : 40 * len(values)]
    plane = np.zeros(row.shape)
    for i, value in enumerate(values):
        plane[np.hypot(row - 50, col - 20 - 40 * i) < 15] = value
    return plane


@pytest.mark.parametrize(
    "bad",
    [
        discs([255, 60, 120, 180]),
        discs([255, 255, 170, 85]),
        np.clip(255 * ndimage.gaussian_filter(discs([1, 1, 1, 1]), 9) * 1.5, 0, 255),
    ],
    ids=["labels", "few labels", "probabilities"],
)
def test_labels_and_unsure_probabilities_are_refused(bad: np.ndarray) -> None:
    mask = bad.astype(np.uint8)
    with pytest.raises(MaskError, match="values"):
        classes_from_masks(mask, np.zeros(mask.shape, bool))
    with pytest.raises(MaskError, match="values"):
        classes_from_mask(mask)


def test_a_mask_with_three_levels_and_thin_sheaths_is_none_of_one_class() -> None:
    with pytest.raises(MaskError, match=r"one class \(myelin mask\).*three levels"):
        classes_from_masks(hard(3, AXON), np.where(truth(8) == 1, 127, hard(8, BOTH)))


def test_an_error_names_the_file_that_is_wrong_and_no_function() -> None:
    good, bad = np.zeros((4, 4), bool), np.arange(16, dtype=np.uint8).reshape(4, 4) * 17
    for pair, name in (((bad, good), "a.png"), ((good, bad), "m.png")):
        with pytest.raises(MaskError) as caught:
            classes_from_masks(*pair, where="a.png", where_myelin="m.png")
        assert caught.value.where == name
        assert "classes_from" not in str(caught.value)
    for alone in (good, bad):
        with pytest.raises(MaskError) as caught:
            classes_from_mask(alone)
        assert "classes_from" not in str(caught.value)


@pytest.mark.parametrize("quality", [None, 90, 75])
def test_the_smooth_edge_of_a_bare_axon_is_no_myelin(quality: int | None) -> None:
    left = np.arange(160) < 78  # in a gap between two columns of fibres
    mask = np.where(left, smooth(3, BOTH), smooth(3, AXON))
    if quality is not None:
        mask = jpeg(mask, quality)
    expected = np.where((truth(3) == 1) & ~left, 0, truth(3))
    found = classes_from_mask(mask)
    nearest = np.array([0, 1, 2])[np.abs(mask[..., None] - np.array([0, 127, 255.0])).argmin(2)]
    rim = (nearest == 1) & ~left
    assert rim.sum() > 300  # so much myelin there was
    assert ((found == 1) & ~left).sum() < 0.03 * rim.sum()
    assert np.mean(found == expected) > 0.98
    assert (found[:, left] == 1).sum() == pytest.approx((expected[:, left] == 1).sum(), rel=0.06)


def test_an_untouched_mask_keeps_sheaths_one_pixel_wide() -> None:
    classes = np.zeros((30, 30), np.uint8)
    classes[5:15, 5:15], classes[6:14, 6:14] = 1, 2
    mask = np.array(BOTH, np.uint8)[classes]
    assert np.array_equal(classes_from_mask(mask), classes)
    mask[25, 20:25] = 255
    mask[26, 20:25] = 60  # stray pixels far away change nothing
    assert np.array_equal(classes_from_mask(mask)[:20], classes[:20])


def test_masks_that_cover_each_other_are_refused() -> None:
    check_wrong_pairs(truth(4))
    check_wrong_pairs(np.pad(truth(4), 400))  # few fibres in much background
    tight = np.tile([2, 2, 2, 1, 1, 1, 0], (20, 9))  # the inverted masks share a quarter only
    with pytest.raises(MaskError, match="inverted"):
        classes_from_masks(tight != 2, tight != 1)


def check_wrong_pairs(classes: np.ndarray) -> None:
    axon, myelin = classes == 2, classes == 1
    wrong = {
        "both": (~axon, ~myelin),
        "axon": (~axon, myelin),
        "myelin": (axon, ~myelin),
        "twice": (axon, axon),
        "blank inverted": (axon, np.ones_like(axon)),
        "all": (np.ones_like(axon), np.ones_like(axon)),
    }
    for name, pair in wrong.items():
        with pytest.raises(MaskError, match="inverted, or the same mask twice") as caught:
            classes_from_masks(*pair, where="a.png")
        assert caught.value.where == "a.png", name


def test_masks_that_overlap_a_little_or_hold_whole_fibres_are_taken() -> None:
    classes = truth(4)
    axon, myelin = classes == 2, classes == 1
    assert np.array_equal(classes_from_masks(axon, axon | myelin), classes)  # sheaths filled in
    swollen = ndimage.binary_dilation(axon)
    found = classes_from_masks(swollen, myelin)
    assert np.array_equal(found == 2, swollen)
    none = np.zeros_like(axon)
    assert (classes_from_masks(none, ~none) == 1).all()
    assert (classes_from_masks(~none, none) == 2).all()


def test_counting_by_code_is_counting_by_value() -> None:
    rng = np.random.default_rng(0)
    for plane in (
        rng.integers(0, 256, (70, 80)).astype(np.uint8),
        rng.integers(0, 60000, (70, 80)).astype(np.uint16)[:, ::2],
    ):
        values, counts = np.unique(plane, return_counts=True)
        found = counted(plane)
        assert np.array_equal(np.flatnonzero(found), values)
        assert np.array_equal(found[values], counts)
