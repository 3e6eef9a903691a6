from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest

from ranvier.backends import OpenVinoBackend, bf16_is_native
from ranvier.bundle import Field
from ranvier.errors import BackendError, PrecisionError, SettingsError
from ranvier.inference import InferenceSettings, classify, load_model, segment, tile_logits
from ranvier.preprocess import statistics
from ranvier.reading import from_array


class FakeBackend:
    """Calls bright pixels axon, dark ones background, and remembers the tiles it was shown."""

    def __init__(self):
        self.shapes = []

    @property
    def description(self):
        return {"runtime": "fake"}

    def logits(self, tiles):
        self.shapes.append(tiles.shape[2:])
        grey = tiles[:, 0]
        return np.stack((-grey, np.full_like(grey, -9), grey), axis=1).astype(np.float32)


FIELD = Field(stride=32, receptive_radius=60)


@pytest.mark.parametrize("shape", [(1, 2), (40, 40), (33, 500), (200, 131)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("limit", [1, 10**9])
def test_every_pixel_gets_its_own_class(shape, dtype, limit):
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 200, shape).astype(dtype)
    pixels[0, 0], pixels[-1, -1] = 0, 200
    backend = FakeBackend()
    classes = classify(
        from_array(pixels),
        backend,
        field=FIELD,
        settings=InferenceSettings(zoom=1.0, max_tile_px=limit),
    )
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, np.where(pixels > statistics(pixels).mean, 2, 0))
    assert all(n % 32 == 0 for shape in backend.shapes for n in shape)


@pytest.mark.parametrize("zoom", [0.5, 2.0, 1.7])
def test_a_zoomed_result_is_at_the_pixels_of_the_input(zoom):
    rows, columns = np.mgrid[:310, :430]
    disc = (rows - 70) ** 2 + (columns - 220) ** 2 < 60**2
    backend = FakeBackend()
    classes = classify(
        from_array(np.where(disc, 200, 20).astype(np.uint8)),
        backend,
        field=FIELD,
        settings=InferenceSettings(zoom=zoom),
    )
    assert classes.shape == disc.shape
    assert ((classes == 2) != disc).mean() < 0.01
    shown = sum(r * c for r, c in backend.shapes)
    assert shown == pytest.approx(disc.size * zoom**2, rel=0.5)


class LopsidedBackend(FakeBackend):
    """Adds to each logit of axon how far down and across the tile it lies."""

    def logits(self, tiles):
        out = super().logits(tiles)
        rows, columns = out.shape[2:]
        out[:, 2] += np.arange(rows)[:, None] * 3 + np.arange(columns) * 0.5
        return out


@pytest.mark.parametrize("views", [1, 2, 4])
def test_views_are_turned_back_before_they_are_averaged(views):
    pixels = np.random.default_rng(0).integers(0, 255, (64, 96)).astype(np.uint8)
    backend = LopsidedBackend()
    field = Field(stride=32, receptive_radius=60, minimum=32)
    grey = statistics(pixels)
    settings = InferenceSettings(zoom=1.0, views=views)
    ((_, logits),) = tile_logits(pixels, grey, backend, field=field, settings=settings)
    assert len(backend.shapes) == views
    lean = logits[2] - (pixels - grey.mean) / grey.std
    flat = np.ptp(lean) < 1e-3
    assert flat == (views > 1)
    if flat:
        assert lean.mean() == pytest.approx(63 / 2 * 3 + 95 / 2 * 0.5, rel=1e-4)


@pytest.mark.parametrize("value", [0, 255])
def test_a_blank_image_has_no_fibre(value):
    backend = FakeBackend()
    blank = from_array(np.full((50, 60), value, np.uint8))
    assert not classify(blank, backend, field=FIELD).any()
    assert backend.shapes == []


def test_progress_ends_at_the_whole():
    seen = []
    settings = InferenceSettings(zoom=1.0, max_tile_px=200 * 200)
    pixels = np.random.default_rng(0).integers(0, 255, (300, 310)).astype(np.uint8)
    classify(
        from_array(pixels),
        FakeBackend(),
        field=FIELD,
        settings=settings,
        progress=lambda done, total: seen.append((done, total)),
    )
    assert len(seen) > 1
    assert seen[-1] == (300 * 310, 300 * 310)
    assert [d for d, _ in seen] == sorted(d for d, _ in seen)


def test_a_zoom_that_would_fill_the_memory_is_refused():
    pixels = from_array(np.eye(300, dtype=np.uint8))
    settings = InferenceSettings(zoom=10, max_zoomed_px=1_000_000)
    with pytest.raises(SettingsError, match="3000 x 3000 pixels at zoom 10"):
        classify(pixels, FakeBackend(), field=FIELD, settings=settings)


def test_settings_are_checked():
    with pytest.raises(SettingsError, match="zoom"):
        InferenceSettings(zoom=0)
    with pytest.raises(SettingsError, match="views"):
        InferenceSettings(views=3)
    with pytest.raises(SettingsError, match="max_tile_px"):
        InferenceSettings(max_tile_px=0)


@pytest.mark.parametrize("precision", ["f32", "bf16", "int8"])
def test_precisions_are_recorded_and_agree(precision, phantom):
    if precision == "bf16" and not bf16_is_native():
        with pytest.raises(PrecisionError, match="does not compute bf16"):
            load_model(precision=precision)
        return
    model = load_model(precision=precision, threads=1)
    result = segment(phantom.image, model)
    assert result.provenance["backend"]["precision"] == precision
    assert result.provenance["backend"]["threads"] == "1"
    assert result.provenance["model"]["sha256"] == model.bundle.sha256
    exact = segment(phantom.image, load_model(threads=1)).classes
    assert (result.classes == exact).mean() > 0.95


def test_the_same_image_gives_the_same_bytes(phantom):
    one, two = (segment(phantom.image, load_model(threads=n)).classes for n in (2, 2))
    assert one.tobytes() == two.tobytes()


COME_AND_GO = """
import gc, os, signal
from ranvier.inference import load_model
signal.signal(signal.SIGINT, signal.default_int_handler)
models = [load_model("generalist", precision="f32", threads=1) for _ in range(2)]
models.pop(0)
gc.collect()
models.clear()
gc.collect()
try:
    os.kill(os.getpid(), signal.SIGINT)
except KeyboardInterrupt:
    print("heard")
"""


def test_ctrl_c_is_heard_after_models_have_come_and_gone():
    done = subprocess.run(
        [sys.executable, "-c", COME_AND_GO], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout.strip()) == (0, "heard"), done.stderr


def test_a_broken_graph_is_one_clear_error():
    with pytest.raises(BackendError, match="cannot load the graph"):
        OpenVinoBackend(b"<net/>", b"")
