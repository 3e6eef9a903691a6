from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier._patch_classes import decided
from ranvier._patch_input import as_channels, nonzero_box, normalised
from ranvier._patch_plan import Channel, PatchPlan, patch_plan
from ranvier.errors import BackendError, BundleFormatError, SettingsError
from ranvier.inference import InferenceSettings, load_model, segment
from ranvier.patchwise import (
    FAITHFUL,
    FAST,
    Window,
    patch_weights,
    predict_patchwise,
    starts,
    window_logits,
)
from ranvier.reading import from_array
from ranvier.tiling import Box

GREY = Channel("grey", "rescale-0-1")
LABELS = {"background": (0,), "myelin": (1,), "axon": (2,)}


def plan(**changes):
    base = {
        "patch": (8, 12),
        "channels": (GREY,),
        "labels": LABELS,
        "outputs": ((0,), (1,), (2,)),
        "mirror_axes": (0, 1),
    }
    return PatchPlan(**{**base, **changes})


class Pointwise:
    """Logits that depend on each pixel alone: the dark is myelin, the bright axon."""

    def __init__(self, folds=1):
        self.folds, self.seen = folds, []

    def logits(self, tiles):
        self.seen.append(tiles.copy())
        grey = tiles[:, :1]
        one = np.concatenate([1 - np.abs(grey - 0.5) * 4, 1 - 4 * grey, 4 * grey - 3], axis=1)
        return np.concatenate([one + f for f in range(self.folds)], axis=1).astype(np.float32)


@given(
    rows=st.integers(1, 40),
    columns=st.integers(1, 40),
    step=st.sampled_from([0.3, 0.5, 0.875, 1.0]),
    mirror=st.booleans(),
    folds=st.integers(1, 3),
)
@settings(max_examples=30, deadline=None)
def test_any_laying_of_patches_gives_what_each_pixel_says(rows, columns, step, mirror, folds):
    image = np.random.default_rng(rows * 41 + columns).random((1, rows, columns), np.float32)
    chosen = plan(folds=tuple(map(str, range(folds))))
    expected = Pointwise().logits(image[None])[0] + (folds - 1) / 2
    for each_fold in (False, True):
        backend = Pointwise(folds)
        window = Window(step, mirror, each_fold)
        found = window_logits(image, backend, chosen, window=window)
        assert found.dtype == np.float16
        assert found.shape == (3, rows, columns)
        np.testing.assert_allclose(found, expected, atol=0.02)
        assert {t.shape for t in backend.seen} == {(1, 1, 8, 12)}


@given(length=st.integers(1, 300), patch=st.integers(1, 60), step=st.floats(0.1, 1.0))
@settings(deadline=None)
def test_patches_reach_from_end_to_end(length, patch, step):
    length = max(length, patch)
    found = starts(length, patch, step)
    assert found[0] == 0
    assert found[-1] == length - patch
    gaps = np.diff(found)
    assert (gaps <= patch * step + 1).all()
    if gaps.size:
        assert gaps.max() - gaps.min() <= 1
        fewer = (length - patch) / max(1, gaps.size - 1) if gaps.size > 1 else np.inf
        assert fewer > patch * step - 1e-6


def test_weights_can_have_a_floor():
    plain, raised = patch_weights((32, 48)), patch_weights((32, 48), 0.01)
    assert plain.min() < 1e-5
    assert raised.min() == np.float16(0.01)
    assert (raised[plain > 0.01] == plain[plain > 0.01]).all()


def test_weights_fall_from_the_middle_and_are_never_0():
    weights = patch_weights((32, 48))
    assert weights.dtype == np.float16
    assert weights[16, 24] == 10 == weights.max()
    assert weights.min() > 0
    drop = float(weights[16, 24 + 6] / weights[16, 24])
    assert drop == pytest.approx(np.exp(-0.5), rel=2e-3)
    assert float(weights[20, 24] / weights[16, 24]) == pytest.approx(np.exp(-0.5), rel=2e-3)


class Sided:
    """Logits of axon that grow to the right, whatever is shown."""

    def logits(self, tiles):
        n, _, rows, columns = tiles.shape
        out = np.zeros((n, 3, rows, columns), np.float32)
        out[:, 2] = np.linspace(-1, 1, columns)
        out[:, 1] = np.linspace(-1, 1, rows)[:, None]
        return out


def test_mirror_images_are_turned_back():
    image = np.zeros((1, 8, 12), np.float32)
    plain = window_logits(image, Sided(), plan(), window=FAST)
    assert plain[2, 0, -1] == 1
    both = window_logits(image, Sided(), plan(), window=FAITHFUL)
    np.testing.assert_allclose(both, 0, atol=1e-3)
    rows = window_logits(image, Sided(), plan(mirror_axes=(0,)), window=FAITHFUL)
    np.testing.assert_allclose(rows[1], 0, atol=1e-3)
    np.testing.assert_allclose(rows[2], plain[2], atol=4e-3)


def test_small_images_lie_in_the_middle_of_zeros():
    backend = Pointwise()
    image = np.ones((1, 5, 7), np.float32)
    window_logits(image, backend, plan(), window=FAST)
    (shown,) = backend.seen
    expected = np.zeros((8, 12), np.float32)
    expected[1:6, 2:9] = 1
    np.testing.assert_array_equal(shown[0, 0], expected)


def test_logits_beyond_16_bits_are_an_error():
    class Huge:
        def logits(self, tiles):
            return np.full((1, 3, 8, 12), 1e5, np.float32)

    with pytest.raises(BackendError, match="too great"):
        window_logits(np.ones((1, 8, 12), np.float32), Huge(), plan(), window=FAST)


def test_the_box_holds_what_any_channel_shows():
    image = np.zeros((3, 6, 9), np.uint8)
    assert nonzero_box(image) == Box(0, 0, 6, 9)
    image[0, 2, 3] = image[2, 4, 7] = 1
    assert nonzero_box(image) == Box(2, 3, 5, 8)


def test_channels_are_brought_to_their_scale():
    image = np.array([[0, 10, 30], [20, 0, 40]], np.uint16)[None]
    rescaled = normalised(image, (GREY,))
    np.testing.assert_allclose(rescaled[0], image[0] / 40, rtol=1e-6)
    scored = normalised(image, (Channel("a", "z-score"),))[0]
    np.testing.assert_allclose(scored, (image[0] - image.mean()) / image.std(), rtol=1e-5)
    masked = normalised(image, (Channel("a", "z-score", masked=True),))[0]
    seen = image[0] > 0
    own = image[0][seen].astype(float)
    np.testing.assert_allclose(masked[seen], (own - own.mean()) / own.std(), rtol=1e-5)
    assert (masked[~seen] == 0).all()
    assert (normalised(image, (Channel("a", "none"),)) == image).all()
    np.testing.assert_allclose(
        normalised(image, (Channel("a", "rgb-0-1"),)), image / 255, rtol=1e-6
    )
    for flat in (np.zeros((1, 3, 3)), np.full((1, 3, 3), 7.0)):
        for scheme in ("rescale-0-1", "z-score"):
            assert (normalised(flat, (Channel("a", scheme, masked=True),)) == 0).all()
    with pytest.raises(SettingsError, match="from 0 to 255"):
        normalised(image * 10, (Channel("a", "rgb-0-1"),))


def test_grey_stands_for_all_channels_but_colour_not_for_one():
    colour = plan(channels=(Channel("r", "rgb-0-1"),) * 3)
    grey = np.arange(6, dtype=np.uint8).reshape(2, 3)
    assert (as_channels(grey, colour) == grey).all()
    rgb = np.stack([grey, grey + 1, grey + 2], axis=-1)
    assert (as_channels(rgb, colour)[2] == grey + 2).all()
    with pytest.raises(SettingsError, match=r"1 channel"):
        as_channels(rgb, plan())


def test_labels_are_decided_by_the_greatest_and_shared_by_class():
    labels = {"background": (0,), "axon": (1,), "vessel": (2,), "myelin": (3,)}
    chosen = plan(labels=labels, outputs=((0,), (1,), (2,), (3,)))
    logits = np.array([[1.0, 0, 0, 5], [2, 2, 0, 1], [1.9, 0, 9, 1], [0, 2, 0, 1]], np.float16)
    classes, confidence = decided(logits[:, None], chosen)
    assert classes.tolist() == [[2, 2, 0, 0]]
    shares = np.exp(logits.astype(float)) / np.exp(logits.astype(float)).sum(axis=0)
    expected = [
        shares[1, 0],
        shares[1, 1],
        shares[[0, 2], 2].sum(),
        shares[[0, 2], 3].sum(),
    ]
    np.testing.assert_allclose(confidence[0], np.rint(255 * np.array(expected)), atol=1)


@given(st.lists(st.tuples(*[st.floats(-8, 8, width=16)] * 3), min_size=1, max_size=20))
@settings(deadline=None)
def test_regions_overwrite_in_their_order(rows):
    labels = {"background": (0,), "myelin": (1, 2), "axon": (2,), "debris": (3,)}
    chosen = plan(labels=labels, outputs=((1, 2), (2,), (3,)), order=(1, 2, 3))
    assert chosen.classes == (1, 2, 0)
    classes, confidence = decided(np.array(rows, np.float16).T[:, None], chosen)
    for row, ours, sure in zip(rows, classes[0], confidence[0], strict=True):
        value, certain = 0, 1.0
        for logit, index in zip(row, (1, 2, 0), strict=True):
            p = float(np.float32(1) / (np.float32(1) + np.exp(np.float32(-logit))))
            value, certain = (index, p) if p > 0.5 else (value, min(certain, 1 - p))
        assert ours == value
        assert sure == pytest.approx(255 * certain, abs=1)
        assert sure >= 127


@pytest.mark.parametrize("zoom", [0.5, 1.0, 2.0])
def test_a_zoomed_image_keeps_its_shape_and_places(zoom):
    pixels = np.full((40, 60), 128, np.uint8)
    pixels[10:30, 20:40] = 255
    pixels[:8, :8] = 1
    classes, confidence = predict_patchwise(pixels, Pointwise(), plan(), zoom=zoom)
    assert classes.shape == confidence.shape == (40, 60)
    assert (classes[14:26, 24:36] == 2).all()
    assert not classes[:6, 14:].any()
    assert (classes[:4, :4] == 1).all()


def test_progress_ends_at_all_pixels():
    told = []
    predict_patchwise(
        np.arange(600, dtype=np.uint16).reshape(20, 30) + 1,
        Pointwise(),
        plan(),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == sorted(told)
    assert told[-1] == (600, 600)


def test_what_a_model_says_of_itself_survives_being_written():
    made = plan(order=None, folds=("0", "1"), labels={**LABELS, "vessel": (3,)})
    import json
    from pathlib import Path

    assert patch_plan(json.loads(json.dumps(made.as_dict())), Path("model.json")) == made


@pytest.mark.parametrize(
    "changes",
    [
        {"style": "other"},
        {"patch": [8]},
        {"patch": [8, 0]},
        {"patch": [8, 10**6]},
        {"channels": []},
        {"channels": [{"name": "a", "normalisation": "none", "masked": False}] * 2},
        {"channels": [{"name": "a", "normalisation": "ct", "masked": False}]},
        {"channels": [{"name": "a", "normalisation": "none", "masked": 1}]},
        {"labels": {"background": [0], "axon": [1]}},
        {"labels": {"background": [0], "axon": [1, 2], "myelin": [1, 2]}},
        {"labels": {"background": [0], "axon": [0], "myelin": [1]}},
        {"labels": []},
        {"outputs": [[0], [1]]},
        {"outputs": [[0], [1, 2], [2]]},
        {"order": [1, 2]},
        {"mirror_axes": [2]},
        {"mirror_axes": [0, 0]},
        {"mirror_axes": "01"},
        {"folds": []},
        {"more": 1},
    ],
)
def test_a_broken_plan_is_refused(changes):
    from pathlib import Path

    with pytest.raises(BundleFormatError):
        patch_plan({**plan().as_dict(), **changes}, Path("model.json"))


@pytest.mark.parametrize("step", [0, -1, 1.01, float("nan")])
def test_a_window_has_a_sensible_step(step):
    with pytest.raises(SettingsError, match="step"):
        Window(step, mirror=False)


def test_other_models_are_not_run_faithfully(generalist):
    with pytest.raises(SettingsError, match="imported from nnU-Net"):
        segment(
            from_array(np.eye(64, dtype=np.uint8)),
            load_model(generalist, threads=1),
            settings=InferenceSettings(faithful=True),
        )
