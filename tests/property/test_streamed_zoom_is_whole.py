"""An image that is streamed at a zoom gives what it gives in memory at that zoom, to the last bit."""

from __future__ import annotations

import filecmp
import json
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ranvier.bundle import Field
from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.inference import InferenceSettings, Model, load_model
from ranvier.jobs import Options
from ranvier.pipeline import segment_file
from ranvier.preprocess import resample, statistics, zoomed_shape
from ranvier.reading import from_array, read
from ranvier.streaming import zoomed
from ranvier.streaming.classes import BlankSettings, classify_streamed
from ranvier.streaming.grey import streamed_statistics
from ranvier.streaming.planes import Plane
from ranvier.streaming.running import segment_streamed
from ranvier.streaming.settings import StreamSettings
from ranvier.streaming.sheaths import Rounds
from ranvier.streaming.sources import ArraySource
from ranvier.tilewise import predict
from ranvier.tiling import Box

SHOW_ALL = BlankSettings(skip=False)


class Blurred:
    """Bright is axon, dark is myelin, as far as six neighbours say; a network that sees seven pixels."""

    description = {"runtime": "fake", "threads": "1"}  # noqa: RUF012

    def __init__(self):
        self.shown = 0

    def logits(self, tiles):
        self.shown += 1
        x = np.stack([ndimage.median_filter(tile[0], 7, mode="constant") for tile in tiles])
        return np.stack([np.full_like(x, 0.1), -x, x - 0.8], axis=1)


def fake_model():
    bundle = SimpleNamespace(
        name="fake",
        patches=None,
        classical=None,
        field=Field(stride=4, receptive_radius=3, minimum=8),
        normalisation="image-standardisation",
        about={},
    )
    return Model(bundle, Blurred())


def classified(pixels, model, settings, *, blank=SHOW_ALL, tile=50):
    """What is seen, classes and confidence."""
    full = Box(0, 0, *pixels.shape)
    with (
        TemporaryDirectory() as home,
        Plane(Path(home) / "classes", pixels.shape, np.uint8, tile=tile) as classes,
        Plane(Path(home) / "confidence", pixels.shape, np.uint8, tile=tile) as confidence,
    ):
        planes = {"classes": classes, "confidence": confidence}
        seen = classify_streamed(
            ArraySource(pixels), model, **planes, settings=settings, blank=blank
        )
        left = {path.name for path in Path(home).iterdir()}
        assert left == {"classes", "confidence"}
        return seen, classes.read(full), confidence.read(full)


def in_memory(pixels, model, settings):
    bundle = model.bundle
    return predict(
        from_array(pixels),
        model.backend,
        field=bundle.field,
        settings=settings,
        normalisation=bundle.normalisation,
    )


@settings(max_examples=25, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 130), st.integers(1, 130)),
    zoom=st.sampled_from([0.05, 0.5, 0.71, 0.99, 1.7, 3.3]),
    tile=st.integers(1, 60 * 60),
    edges=st.tuples(st.integers(1, 90), st.integers(1, 90), st.integers(5, 90)),
    dtype=st.sampled_from([np.uint8, np.uint16, np.float32]),
    views=st.sampled_from([1, 4]),
    seed=st.integers(0, 10**6),
)
def test_any_zoom_in_any_windows_gives_the_same(shape, zoom, tile, edges, dtype, views, seed):
    grey = np.random.default_rng(seed).random(shape)
    pixels = (255 * ndimage.gaussian_filter(grey, 1.2)).astype(dtype)
    asked = InferenceSettings(zoom=zoom, max_tile_px=tile, views=views)
    whole = in_memory(pixels, fake_model(), asked)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoomed, "_EDGE", max(edges[0], round(1 / min(1, zoom))))
        patch.setattr(zoomed, "_COPIED", edges[1])
        seen, classes, confidence = classified(pixels, fake_model(), asked, tile=edges[2])
    assert np.array_equal(classes, whole.classes)
    assert np.array_equal(confidence, whole.confidence)
    assert seen.zoom == {"asked": zoom, "chosen": zoom}
    zoomed_to = zoomed_shape(shape, zoom)
    if zoomed_to != shape and not statistics(pixels).is_flat:
        assert seen.grey == statistics(resample(pixels, zoomed_to))


@pytest.mark.parametrize("shape", [(600, 4100), (1500, 900)])
def test_statistics_at_a_zoom_are_those_in_memory(shape):
    """The image has several of the blocks of rows over which float pixels are summed."""
    pixels = np.random.default_rng(0).normal(9e3, 40, (700, 2000)).astype(np.float32)
    found = streamed_statistics(zoomed.ZoomedSource(ArraySource(pixels), shape))
    assert found == statistics(resample(pixels, shape))


@pytest.fixture(scope="module")
def model():
    return load_model(threads=1)


def test_the_model_that_ships(model):
    pixels = draw(PhantomSettings(shape=(330, 260), look="TEM", seed=11)).image.pixels
    asked = InferenceSettings(zoom=0.71, max_tile_px=210 * 210)
    whole = in_memory(pixels, model, asked)
    seen, classes, confidence = classified(pixels, model, asked)
    assert seen.windows > 1
    assert np.array_equal(classes, whole.classes)
    assert np.array_equal(confidence, whole.confidence)
    assert (classes == 2).any()


def test_results_of_a_zoom_that_was_chosen_are_the_same_files(model, tmp_path):
    pixels = draw(
        PhantomSettings(
            shape=(560, 600), pixel_size_um=0.03, look="SEM", seed=1, diameter_min_um=1.0
        )
    ).image.pixels
    path = tmp_path / "x.tif"
    tifffile.imwrite(path, pixels, tile=(64, 64), photometric="minisblack")
    options = {"inference": InferenceSettings(max_tile_px=260 * 260), "pixel_size": 0.03}
    whole = segment_file(path, model, Options(output=tmp_path / "a", **options))
    stream = StreamSettings(
        when="always", blank=SHOW_ALL, rounds=Rounds(window=110, many=30), crop_px=90
    )
    streamed = segment_streamed(
        path, model, Options(output=tmp_path / "b", **options), stream=stream
    )
    for name in ("x_morphometrics.csv", "x_overlay.png"):
        assert filecmp.cmp(tmp_path / "a" / name, tmp_path / "b" / name, shallow=False), name
    labels = [tifffile.imread(tmp_path / f / "x_instances.tif") for f in "ab"]
    assert labels[0].max() > 3
    assert np.array_equal(*labels)
    masks = [
        read(tmp_path / f).pixels for f in ("a/x_seg-axonmyelin.png", "b/x_seg-axonmyelin.tif")
    ]
    assert np.array_equal(*masks)
    runs = [json.loads((tmp_path / f / "x_run.json").read_text()) for f in "ab"]
    assert runs[0]["zoom"] == runs[1]["zoom"]
    assert 0.2 < runs[1]["zoom"]["chosen"] < 0.8
    assert runs[0]["summary"]["zoom"] == runs[1]["summary"]["zoom"]
    (note,) = (note for note in whole.notes if note.startswith("zoom "))
    assert note in streamed.notes


@pytest.mark.parametrize("zoom", [0.5, 1.7])
def test_empty_glass_at_a_zoom(zoom):
    tissue = draw(PhantomSettings(shape=(100, 110), look="SEM", seed=5)).image.pixels
    slide = np.random.default_rng(0).normal(235, 1.5, (500, 480)).round().astype(np.uint8)
    slide[20:120, 30:140] = tissue
    asked = InferenceSettings(zoom=zoom, max_tile_px=70 * 70, views=1)
    whole, skipping = in_memory(slide, fake_model(), asked), fake_model()
    seen, classes, confidence = classified(slide, skipping, asked, blank=BlankSettings())
    assert 0.3 < seen.blank_share < 1
    assert skipping.backend.shown == seen.windows - seen.blank_windows
    near = np.s_[15:125, 25:145]
    assert np.array_equal(classes[near], whole.classes[near])
    assert np.array_equal(confidence[near], whole.confidence[near])
    far = np.s_[300:, 300:]
    assert not classes[far].any()
    assert (confidence[far] == 255).all()


@pytest.mark.parametrize("zoom", [0.5, 2.0])
def test_a_flat_image_at_a_zoom_is_background(zoom):
    model = fake_model()
    pixels = np.full((60, 70), 9, np.uint8)
    seen, classes, confidence = classified(pixels, model, InferenceSettings(zoom=zoom))
    assert not classes.any()
    assert (confidence == 255).all()
    assert (model.backend.shown, seen.blank_share) == (0, 0)


def test_an_image_that_shrinks_is_read_about_once_and_in_small_parts():
    class Counted(ArraySource):
        read_px, largest = 0, 0

        def read(self, box):
            type(self).read_px += box.area
            type(self).largest = max(self.largest, box.area)
            return super().read(box)

    source = Counted(np.random.default_rng(0).integers(0, 255, (3000, 2600), dtype=np.uint8))
    model, asked = fake_model(), InferenceSettings(zoom=0.1, max_tile_px=60 * 60)
    with TemporaryDirectory() as home, pytest.MonkeyPatch.context() as patch:
        patch.setattr(zoomed, "_EDGE", 500)
        with (
            Plane(Path(home) / "classes", source.shape, np.uint8) as classes,
            Plane(Path(home) / "confidence", source.shape, np.uint8) as confidence,
        ):
            classify_streamed(
                source,
                model,
                classes=classes,
                confidence=confidence,
                settings=asked,
                blank=SHOW_ALL,
            )
    assert source.read_px < 2.2 * source.pixels.size  # once for its statistics, once to be shrunk
    assert source.largest <= 256 * 4096


def test_bands_that_are_no_longer_needed_are_deleted(tmp_path):
    zoomed_to, shape, kept = (400, 60), (100, 15), []
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(3, *zoomed_to)).astype(np.float32)
    with (
        Plane(tmp_path / "classes", shape, np.uint8) as classes,
        Plane(tmp_path / "confidence", shape, np.uint8) as confidence,
    ):
        with zoomed.LogitsBack(zoomed_to, classes=classes, confidence=confidence) as back:
            for top in range(0, 400, 40):
                for left in (0, 32):
                    box = Box(top, left, top + 40, min(left + 32, 60))
                    back.write(box, logits[(slice(None), *box.within(Box(0, 0, *zoomed_to)))])
                kept.append(len(list(tmp_path.glob("logits-*"))))
        assert max(kept) == 6
        assert not list(tmp_path.glob("logits-*"))
        classes.commit()
        expected = np.stack([resample(plane, shape) for plane in logits]).argmax(axis=0)
        assert np.array_equal(classes.read(Box(0, 0, *shape)), expected)


def test_an_error_on_the_way_deletes_the_bands(tmp_path):
    with (
        Plane(tmp_path / "classes", (10, 10), np.uint8) as classes,
        Plane(tmp_path / "confidence", (10, 10), np.uint8) as confidence,
        pytest.raises(KeyError),
        zoomed.LogitsBack((20, 20), classes=classes, confidence=confidence) as back,
    ):
        back.write(Box(0, 0, 20, 20), None)
        raise KeyError
    assert not list(tmp_path.iterdir())
