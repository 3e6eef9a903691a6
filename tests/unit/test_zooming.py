"""The zoom that is chosen: right for drawn fibres of any size, within its budget, the same each time, and recorded."""

from __future__ import annotations

import dataclasses
import json
import math
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ranvier._bundle_contract import check_about
from ranvier._doubtful_axons import AxonLimits, LeftOut
from ranvier._zoom_looks import AXON_PX, Look, look_of
from ranvier._zoom_search import Plan, Search
from ranvier._zoom_windows import HeldPixels, places, windows
from ranvier.bundle import Field, embedded
from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.errors import BundleFormatError, SettingsError
from ranvier.inference import InferenceSettings, load_model, segment, segmenting_notes, zoom_record
from ranvier.preprocess import GreyStatistics, statistics
from ranvier.reading import from_array
from ranvier.streaming.sources import ArraySource, part_of
from ranvier.streaming.suiting import check_zoom, taken_zoom
from ranvier.tilewise import predict
from ranvier.tiling import Box
from ranvier.training.axon_size import trained_axon_px as of_images
from ranvier.zooming import (
    ProbeSettings,
    Viewer,
    ZoomChoice,
    choose_zoom,
    choose_zoom_of,
    trained_axon_px,
)

FIELD = Field(stride=16, receptive_radius=30, minimum=32)
UM = 0.08
"""Size of a pixel at which the phantom's axons are about as wide as those of the training."""


@pytest.fixture(scope="module")
def model():
    return load_model(threads=2)


def drawn(scale):
    """The same tissue, seen with pixels so many times finer."""
    edge = round(256 * scale)
    return draw(
        PhantomSettings(
            shape=(edge, edge), pixel_size_um=UM / scale, look="SEM", seed=1, diameter_min_um=1.0
        )
    )


@pytest.fixture(scope="module")
def phantoms():
    return {scale: drawn(scale) for scale in (0.5, 1, 3)}


def chosen(pixels, model, **more):
    bundle = model.bundle
    return choose_zoom(
        pixels,
        model.looker,
        field=bundle.field,
        settings=InferenceSettings(),
        normalisation=bundle.normalisation,
        axon_px=trained_axon_px(bundle.about),
        **more,
    )


def true_axon_px(phantom):
    area = np.sort(np.bincount(phantom.axons.ravel())[1:])
    area = area[area > 0]
    middle = area[np.searchsorted(np.cumsum(area), area.sum() / 2)]
    return 2 * math.sqrt(middle / math.pi)


@pytest.mark.parametrize("scale", [0.5, 1, 3])
def test_the_zoom_is_what_the_size_of_the_fibres_needs(phantoms, model, scale):
    phantom = phantoms[scale]
    choice = chosen(phantom.image.pixels, model)
    needed = trained_axon_px(model.bundle.about) / true_axon_px(phantom)
    assert needed / 1.6 <= choice.zoom <= needed * 1.6
    assert (choice.zoom == 1) == (scale == 1)
    assert choice.best_score > -1
    assert not choice.is_unlike


def test_the_same_each_time(phantoms, model):
    pixels = phantoms[0.5].image.pixels
    assert chosen(pixels, model) == chosen(pixels.copy(), model)


def test_grey_levels_of_any_range_give_the_same_zoom(phantoms, model):
    pixels = phantoms[3].image.pixels
    assert chosen(pixels.astype(np.uint16) * 200 + 9, model).zoom == chosen(pixels, model).zoom


def test_results_lie_where_they_are_seen(phantoms, model):
    small, large = (phantoms[s].image.pixels for s in (1, 3))
    found = segment(from_array(large), model)
    assert found.shape == large.shape
    assert found.confidence.shape == large.shape
    zoom = found.provenance["zoom"]
    assert zoom["asked"] == "auto"
    assert 0.2 < zoom["chosen"] < 0.6
    assert found.provenance["inference"]["zoom"] == "auto"
    assert "zoom 0." in found.provenance["notes"][0]
    truth = phantoms[3].classes == 2
    overlaps = {
        shift: np.count_nonzero(np.roll(found.classes == 2, shift, (0, 1)) & truth)
        for shift in ((0, 0), (3, 0), (-3, 0), (0, 3), (0, -3))
    }
    assert max(overlaps, key=overlaps.get) == (0, 0)
    twice = 2 * overlaps[0, 0] / (np.count_nonzero(found.classes == 2) + np.count_nonzero(truth))
    assert twice > 0.85
    as_is = segment(from_array(small), model)
    assert as_is.provenance["zoom"]["chosen"] == 1
    assert as_is.provenance["notes"] == ()
    told = segment(from_array(small), model, settings=InferenceSettings(zoom=1))
    assert told.provenance["zoom"] == {"asked": 1, "chosen": 1}
    assert np.array_equal(as_is.classes, told.classes)


def test_a_record_of_what_was_tried(phantoms, model):
    about = chosen(phantoms[0.5].image.pixels, model).as_dict()
    assert json.loads(json.dumps(about)) == about
    zooms = [one["zoom"] for one in about["candidates"]]
    assert zooms == sorted(zooms)
    assert 1 in zooms
    assert about["chosen"] != 1
    assert {1} < {one["zoom"] for one in about["closer"]} <= set(zooms)
    assert about["best_score"] == max(c["score"] for c in about["closer"] if c["score"])
    again = [c for c in about["closer"] if c not in about["candidates"]]
    shown = sum(c["shown_px"] for c in about["candidates"] + again)
    assert shown <= about["shown_px"] <= shown + sum(c["shown_px"] for c in about["closer"])


def test_an_image_that_stays_as_it_is_is_not_looked_at_again(phantoms, model):
    choice = chosen(phantoms[1].image.pixels, model)
    assert (choice.zoom, choice.closer) == (1, ())
    assert choice.as_dict()["closer"] == []


def test_closer_looks_overrule_a_few_windows():
    """Two windows at zoom 4 say that fibres are seen best there; more of the image says otherwise."""

    class Misled:
        cost = staticmethod(lambda box, zoom: round(box.area * zoom**2))

        def look(self, pixels, grey, boxes, zoom):
            good = 0.95 if (zoom > 3 and len(boxes) <= 2) or zoom == 1 else 0.4
            axons = Look(zoom, 20, good, good, good, AXON_PX, len(boxes))
            return axons, np.zeros((4, 4), np.float32)

    pixels = np.random.default_rng(0).integers(0, 256, (900, 900), dtype=np.uint8)
    plan = Plan((0.5, 1.0, 2.0, 4.0), frozenset(), 64, 2, 400_000, 500_000)
    search = Search(HeldPixels(pixels), statistics(pixels), Misled(), plan, AXON_PX)
    search.looks = {
        zoom: Look(zoom, 20, good, good, good, AXON_PX, 2)
        for zoom, good in ((0.5, 0.4), (1.0, 0.5), (2.0, 0.6), (4.0, 0.95))
    }
    assert search.chosen() > 3
    search.confirm()
    assert set(search.closer) == {1.0, 4.0}
    assert search.chosen() == 1


def test_zoom_1_is_looked_at_before_it_is_left_though_the_climb_ended_below_it():
    class Viewer:
        cost = staticmethod(lambda box, zoom: round(box.area * zoom**2))

        def look(self, pixels, grey, boxes, zoom):
            good = {0.125: 0.9, 1.0: 0.99}.get(zoom, 0.3)
            axons = Look(zoom, 20, good, good, good, AXON_PX, len(boxes))
            return axons, np.zeros((4, 4), np.float32)

    pixels = np.random.default_rng(0).integers(0, 256, (900, 900), dtype=np.uint8)
    plan = Plan((0.125, 0.25, 1.0), frozenset({1.0}), 64, 2, 400_000, 500_000)
    search = Search(HeldPixels(pixels), statistics(pixels), Viewer(), plan, AXON_PX)
    search.looks = {
        zoom: Look(zoom, 20, good, good, good, AXON_PX, 2)
        for zoom, good in ((0.125, 0.9), (0.25, 0.3))
    }
    search.confirm()
    assert set(search.closer) == {0.125, 1.0}
    assert search.chosen() == 1


@pytest.mark.parametrize(
    ("axons", "good", "closer"), [(49, 0.92, {1.0, 1.5}), (50, 0.92, set()), (49, 0.912, set())]
)
def test_few_axons_are_looked_at_closer_before_the_image_stays_as_it_is(axons, good, closer):
    class Viewer:
        cost = staticmethod(lambda box, zoom: round(box.area * zoom**2))

        def look(self, pixels, grey, boxes, zoom):
            good = {1.5: 0.95}.get(zoom, 0.5)
            return Look(zoom, 200, good, good, good, AXON_PX, len(boxes)), np.zeros((4, 4))

    pixels = np.random.default_rng(0).integers(0, 256, (900, 900), dtype=np.uint8)
    plan = Plan((0.5, 1.0, 1.5), frozenset(), 64, 2, 400_000, 500_000)
    search = Search(HeldPixels(pixels), statistics(pixels), Viewer(), plan, AXON_PX)
    search.looks = {
        zoom: Look(zoom, axons, share, share, share, AXON_PX, 2)
        for zoom, share in ((0.5, 0.4), (1.0, 0.9), (1.5, good))
    }
    assert search.chosen() == 1
    search.confirm()
    assert set(search.closer) == closer
    assert (search.chosen() == 1) == (not closer)


def test_a_speck_at_zoom_1_does_not_keep_an_image_there():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)
    plan = Plan((0.125, 1.0), frozenset(), 64, 2, 400_000, 500_000)
    search = Search(HeldPixels(pixels), statistics(pixels), None, plan, AXON_PX)
    fibres = Look(0.125, 100, 0.97, 0.9, 0.9, AXON_PX, 500_000)
    speck = Look(1.0, 1, 0.9, 0.9, 0.9, AXON_PX, 500_000)
    search.looks = {0.125: fibres, 1.0: speck}
    assert speck.score(AXON_PX) > fibres.score(AXON_PX) - 0.3
    assert search.chosen() == 0.125
    search.looks[1.0] = dataclasses.replace(speck, axons=20)
    assert search.chosen() == 1


def test_few_axons_that_do_not_convince_do_not_choose_a_zoom():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)
    plan = Plan((1.0, 4.0), frozenset(), 64, 2, 400_000, 500_000)
    search = Search(HeldPixels(pixels), statistics(pixels), None, plan, AXON_PX)
    doubtful = Look(4.0, 20, 0.6, 0.4, 0.7, AXON_PX, 500_000)
    search.looks = {1.0: Look(1.0, 0, 0.0, 0.0, 0.99, None, 500_000), 4.0: doubtful}
    assert -1.5 < doubtful.score(AXON_PX) < -0.75
    assert doubtful.covered < 0.04
    assert search.chosen() == 1
    search.looks[4.0] = dataclasses.replace(doubtful, axons=30)
    assert search.chosen() == 4
    convincing = dataclasses.replace(doubtful, closure=0.99, enclosed=0.99, confidence=0.99)
    search.looks[4.0] = convincing
    assert convincing.covered < 0.04
    assert search.chosen() == 4


def test_of_two_zooms_that_are_as_good_the_nearer_to_the_image_s_own_is_taken():
    pixels = np.random.default_rng(0).integers(0, 256, (90, 90), dtype=np.uint8)
    plan = Plan((0.125, 0.5, 1.0), frozenset(), 64, 2, 400_000, 500_000)
    search = Search(HeldPixels(pixels), statistics(pixels), None, plan, AXON_PX)
    search.looks = {
        zoom: Look(zoom, 20, good, good, good, AXON_PX, 2)
        for zoom, good in ((0.125, 0.8), (0.5, 0.8), (1.0, 0.4))
    }
    assert search.chosen() == 0.5


def test_models_without_a_zoom_of_their_own_are_shown_images_as_they_are(phantoms):
    found = segment(from_array(phantoms[0.5].image.pixels), load_model("classical"))
    assert found.provenance["zoom"] == {"asked": "auto", "chosen": 1}


def test_every_precision_looks_in_int8_and_takes_the_same_zoom(phantoms, monkeypatch):
    micrograph = from_array(phantoms[0.5].image.pixels)
    monkeypatch.setattr("ranvier.inference.int8_is_cheap", lambda: True)
    found = [
        segment(micrograph, load_model(precision=precision)).provenance
        for precision in ("f32", "int8")
    ]
    assert found[0]["backend"]["precision"] == "f32"
    assert found[0]["zoom"] == found[1]["zoom"]
    assert found[0]["zoom"]["looked_in"] == "int8"
    monkeypatch.setattr("ranvier.inference.int8_is_cheap", lambda: False)
    assert segment(micrograph, load_model()).provenance["zoom"]["looked_in"] == "f32"


def test_no_second_network_is_loaded_for_a_zoom_that_is_given(phantoms):
    model = load_model()
    segment(from_array(phantoms[0.5].image.pixels), model, settings=InferenceSettings(zoom=1.0))
    assert "looker" not in vars(model)


def test_the_zoom_of_an_image_that_is_streamed_is_that_in_memory(phantoms, model):
    pixels = phantoms[3].image.pixels
    padded = np.pad(pixels, 7)
    part = part_of(ArraySource(padded), (7, 7, *pixels.shape[::-1]))
    for source in (ArraySource(pixels), part):
        zoom = taken_zoom(source, model, statistics(pixels), InferenceSettings())
        assert zoom == zoom_record(chosen(pixels, model), model)
    assert zoom["chosen"] < 0.6
    in_memory = segment(from_array(pixels), model)
    assert in_memory.provenance["zoom"] == zoom
    bare, unsure = (in_memory.provenance[f"{kind}_axons"] for kind in ("bare", "unsure"))
    limits = AxonLimits(bare["min_closure"], unsure["min_confidence"])
    left_out = LeftOut(limits, bare["left_out"], unsure["left_out"])
    assert in_memory.provenance["notes"] == segmenting_notes(zoom, left_out)
    given = taken_zoom(part, model, statistics(pixels), InferenceSettings(zoom=0.5))
    assert given == {"asked": 0.5, "chosen": 0.5}
    assert segmenting_notes(given, LeftOut(AxonLimits(0, 0))) == ()
    assert segmenting_notes({"asked": "auto", "chosen": 1.0}, LeftOut(AxonLimits(0, 0))) == ()


def test_memory_bounds_no_zoom_of_an_image_that_is_streamed(model):
    few = InferenceSettings(max_zoomed_px=95_000)
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    zoom = taken_zoom(ArraySource(noise), model, statistics(noise), few)
    assert max(look["zoom"] for look in zoom["candidates"]) > 1
    check_zoom((100_000, 100_000), InferenceSettings(zoom=1.4))
    check_zoom((200_000, 200_000), InferenceSettings(zoom=1))
    check_zoom((200_000, 200_000), InferenceSettings())
    with pytest.raises(SettingsError, match="150000 x 150000 pixels at zoom"):
        check_zoom((100_000, 100_000), InferenceSettings(zoom=1.5))


# Budget


class Counting:
    """Dark rings are myelin, what is bright is axon; counts what it is shown."""

    description: dict[str, str] = {}  # noqa: RUF012

    def __init__(self):
        self.shown = 0

    def logits(self, tiles):
        self.shown += tiles.size
        x = tiles[:, 0]
        return np.stack([np.full_like(x, 0.1), -x, x - 0.8], axis=1)


class Endless:
    """A huge image that is nowhere; counts what is read."""

    shape = (200_000, 150_000)

    def __init__(self):
        self.read_px = 0

    def read(self, box):
        self.read_px += box.area
        stripes = (np.arange(box.left, box.right) // 40 % 2 * 200).astype(np.uint8)
        return np.broadcast_to(stripes, box.shape)


def test_of_a_huge_image_little_is_read_and_less_is_shown():
    image, backend, probe = Endless(), Counting(), ProbeSettings()
    viewer = Viewer(backend, FIELD, "image-standardisation", InferenceSettings())
    choice = choose_zoom_of(image, GreyStatistics(100, 100, 0, 200), viewer)
    assert backend.shown == choice.shown_px <= probe.most_px + probe.closer_most_px
    assert image.read_px < 200_000_000
    assert all(look.zoom**2 * 3e10 <= 200_000_000 or look.zoom == 1 for look in choice.looks)


@settings(max_examples=12, deadline=None)
@given(st.tuples(st.integers(1, 900), st.integers(1, 900)), st.integers(0, 9), st.floats(0.05, 0.9))
def test_no_more_is_shown_than_the_budget_allows(shape, seed, share):
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    backend = Counting()
    probe = ProbeSettings(
        share=share,
        least_px=60_000,
        most_px=200_000,
        closer_least_px=75_000,
        closer_most_px=250_000,
    )
    choice = choose_zoom(pixels, backend, field=FIELD, settings=InferenceSettings(), probe=probe)
    assert backend.shown == choice.shown_px <= probe.budget(shape) + probe.closer(shape)
    assert sum(look.shown_px for look in choice.looks) <= probe.budget(shape)
    assert probe.budget(shape) <= max(60_000, share * pixels.size)
    assert 0.05 <= choice.zoom <= 20


def test_the_budget_of_images_of_any_size():
    budget = ProbeSettings().budget
    assert budget((100, 100)) == 1_000_000
    assert budget((2000, 3000)) == 1_500_000
    assert budget((100_000, 100_000)) == 2_000_000
    closer = ProbeSettings().closer
    assert closer((100, 100)) == 2_000_000
    assert closer((2000, 2000)) == 4_000_000
    assert closer((100_000, 100_000)) == 6_000_000
    for wrong in (
        {"share": 0},
        {"share": math.nan},
        {"least_px": 0},
        {"most_px": 10},
        {"closer_least_px": 0},
        {"closer_most_px": 10},
    ):
        with pytest.raises(SettingsError, match="positive number of pixels"):
            ProbeSettings(**wrong)


@pytest.mark.parametrize("pixels", [np.full((90, 80), 7, np.uint8), np.zeros((1, 1), np.uint8)])
def test_an_image_that_shows_nothing_is_not_looked_at(pixels):
    backend = Counting()
    choice = choose_zoom(pixels, backend, field=FIELD, settings=InferenceSettings())
    assert (choice.zoom, choice.looks, backend.shown) == (1, (), 0)
    assert choice.best_score is None


@pytest.mark.parametrize(
    ("kind", "seed"), [("noise", 0), ("noise", 2), ("noise", 3), ("glass", 0), ("shading", 0)]
)
def test_an_image_unlike_the_training_is_told(model, kind, seed):
    rng = np.random.default_rng(seed)
    pixels = {
        "noise": rng.integers(0, 256, (300, 300)),
        "glass": np.clip(rng.normal(230, 3, (300, 300)), 0, 255),
        "shading": np.tile(np.linspace(0, 255, 300), (300, 1)),
    }[kind]
    found = segment(from_array(pixels.astype(np.uint8)), model)
    assert found.provenance["zoom"]["unlike_training"]
    assert any("unlike those" in note for note in found.provenance["notes"])
    assert np.mean(found.classes > 0) < 0.002


def test_a_speck_does_not_make_an_image_one_of_nerve():
    def told(count, width):
        look = Look(1.0, count, 0.95, 0.95, 0.95, width, 500_000)
        return ZoomChoice(1.0, (look,)).is_unlike

    assert told(1, AXON_PX)
    assert not told(20, AXON_PX)
    assert told(5, AXON_PX)
    assert told(20, AXON_PX / 20)


def test_without_axons_the_image_stays_as_it_is():
    class Blind(Counting):
        def logits(self, tiles):
            return np.stack([np.ones_like(tiles[:, 0]), *[np.zeros_like(tiles[:, 0])] * 2], axis=1)

    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    choice = choose_zoom(noise, Blind(), field=FIELD, settings=InferenceSettings())
    assert choice.zoom == 1
    assert choice.looks
    assert choice.best_score is None
    assert {c["score"] for c in choice.as_dict()["candidates"]} == {None}


def test_a_zoom_that_memory_is_not_meant_for_is_not_chosen():
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), dtype=np.uint8)
    few = InferenceSettings(max_zoomed_px=95_000)
    choice = choose_zoom(noise, Counting(), field=FIELD, settings=few)
    assert max(look.zoom for look in choice.looks) == 1
    assert choice.zoom <= 1


# Looks


def ring(closed, radius=20.0, sure=1.0):
    """Probabilities of an axon with myelin around a share of it."""
    row, column = np.mgrid[-60:60, -60:60] + 0.5
    away, angle = np.hypot(row, column), np.arctan2(row, column) / (2 * math.pi) + 0.5
    classes = np.zeros(row.shape, int)
    classes[(away < radius * 1.5) & (angle < closed)] = 1
    classes[away < radius] = 2
    return ((1 - sure) / 2 + np.moveaxis(np.eye(3)[classes], 2, 0) * (1.5 * sure - 0.5)).astype(
        np.float32
    )


def test_a_closed_sheath():
    look = look_of(1.0, [ring(1.0)] * 30, shown_px=5)
    assert look.axons == 30
    assert look.closure == pytest.approx(1, abs=0.01)
    assert look.enclosed == pytest.approx(30 / 32)
    assert look.confidence == pytest.approx(1)
    assert look.axon_px == pytest.approx(40, abs=0.5)
    assert look.shown_px == 5


@pytest.mark.parametrize("closed", [0.25, 0.5, 0.85])
def test_a_sheath_in_part(closed):
    look = look_of(1.0, [ring(closed)] * 30, shown_px=0)
    assert look.closure == pytest.approx(closed, abs=0.03)
    expected = max(0, (closed - 0.7) / 0.3) * 30 / 32
    assert look.enclosed == pytest.approx(expected, abs=0.06)


def test_half_of_the_area_of_closed_axons_is_in_larger_ones():
    rings = [ring(1.0, 10), ring(1.0, 30), *[ring(0.0, 25)] * 5]
    assert look_of(1.0, rings, shown_px=0).axon_px == pytest.approx(60, abs=1)
    assert look_of(1.0, [ring(0.0)], shown_px=0).axon_px is None
    assert look_of(1.0, [ring(1.0, 1.2)], shown_px=0).axons == 0


def test_better_is_more_closed_surer_and_a_little_wider_than_in_training():
    best = Look(1.0, 9, 0.9, 0.8, 0.9, 40.0, 0)
    same = 40.0
    worse = [
        Look(1.0, 9, 0.5, 0.8, 0.9, 40.0, 0),
        Look(1.0, 9, 0.9, 0.2, 0.9, 40.0, 0),
        Look(1.0, 9, 0.9, 0.8, 0.6, 40.0, 0),
        Look(1.0, 9, 0.9, 0.8, 0.9, 4 / 3 * 10.0, 0),
        Look(1.0, 9, 0.9, 0.8, 0.9, 4 / 3 * 160.0, 0),
        Look(1.0, 9, 0.0, 0.0, 0.3, 1000.0, 0),
    ]
    assert all(look.score(same) < best.score(same) for look in worse)
    assert worse[3].score(same) == pytest.approx(worse[4].score(same))
    assert worse[3].score(10.0) > best.score(10.0)
    by_hand = 0.3 * math.log(0.9) + 0.2 * math.log(0.8) + 0.5 * math.log(0.8) - 0.1
    assert best.score(20.0 / (4 / 3)) == pytest.approx(by_hand)
    assert Look(1.0, 0, 0.0, 0.0, 0.9, None, 0).score() is None


# Windows


@settings(deadline=None)
@given(
    st.tuples(st.integers(1, 500), st.integers(1, 500)),
    st.lists(st.tuples(st.floats(0, 0.999), st.floats(0, 0.999)), min_size=1, max_size=5),
    st.floats(0.05, 20),
    st.integers(16, 256),
)
def test_windows_lie_in_the_image(shape, shares, zoom, edge):
    middles = [(int(a * shape[0]), int(b * shape[1])) for a, b in shares]
    found = windows(shape, middles, zoom, edge)
    assert 1 <= len(found) <= len(middles)
    assert len(set(found)) == len(found)
    expected = tuple(min(n, max(1, round(edge / zoom))) for n in shape)
    for box in found:
        assert box.shape == expected
        assert box.clipped(shape) == box
        assert min(box.top, box.left) >= 0


def test_places_are_where_structure_is():
    pixels = np.full((600, 600), 100, np.uint8)
    pixels[300:, 300:] = np.random.default_rng(0).integers(0, 255, (300, 300))
    found = places(HeldPixels(pixels), 3)
    assert found == places(HeldPixels(pixels.copy()), 3)
    assert len(set(found)) == 3
    assert all(row > 270 and column > 270 for row, column in found)
    seen = np.zeros((60, 60), np.float32)
    seen[:20, 40:] = 1
    ((row, column),) = places(HeldPixels(pixels), 1, seen)
    assert row < 200
    assert column > 400


@settings(deadline=None)
@given(st.tuples(st.integers(1, 90), st.integers(1, 300)), st.integers(1, 4))
def test_places_lie_in_the_image(shape, count):
    pixels = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
    found = places(HeldPixels(pixels), count)
    assert 1 <= len(found) <= count
    assert all(0 <= row < shape[0] and 0 <= column < shape[1] for row, column in found)


def test_held_pixels_are_read_in_parts():
    pixels = np.arange(30).reshape(5, 6)
    assert np.array_equal(HeldPixels(pixels).read(Box(1, 2, 3, 6)), pixels[1:3, 2:6])


# Settings and models


@pytest.mark.parametrize("zoom", ["Auto", "2", "", None, True, 0, -1, 21, math.nan, math.inf])
def test_a_zoom_is_a_number_in_its_range_or_auto(zoom):
    with pytest.raises(SettingsError, match="zoom"):
        InferenceSettings(zoom=zoom)


def test_auto_is_the_default_and_must_be_chosen_before_tiles_are_shown(phantoms):
    assert InferenceSettings().zoom == "auto"
    image = from_array(phantoms[0.5].image.pixels)
    with pytest.raises(SettingsError, match="not chosen yet"):
        predict(image, Counting(), field=FIELD, settings=InferenceSettings())
    predict(image, Counting(), field=FIELD)


def test_a_model_may_say_how_wide_its_axons_were():
    about = json.loads((embedded()["generalist"] / "model.json").read_text())
    assert trained_axon_px({}) == AXON_PX
    assert trained_axon_px({"trained_axon_px": 25}) == 25
    check_about({**about, "trained_axon_px": 33.5}, "model.json")
    for wrong in ("40", True, 0, -3, math.nan, None, 1e9):
        with pytest.raises(BundleFormatError, match="trained_axon_px"):
            check_about({**about, "trained_axon_px": wrong}, "model.json")


def test_how_wide_the_axons_of_a_training_are():
    def image(*radii):
        rings = [ring(1.0, r).argmax(axis=0).astype(np.uint8) for r in radii]
        return SimpleNamespace(masks=("m",), load=lambda: (None, np.hstack(rings)))

    unlabelled = SimpleNamespace(masks=(), load=lambda: pytest.fail("has no masks"))
    # 2 x 10^2 < 20^2: the larger alone has more than half of the area
    assert of_images([image(10, 10, 20), unlabelled]) == pytest.approx(40, abs=1)
    assert of_images([image(10, 20, 20, 20, 1, 30)]) == pytest.approx(40, abs=1)
    assert of_images([image(10), image(40)]) == pytest.approx(40, abs=1)
    assert of_images([image(0.1), unlabelled]) is None
    assert of_images([image(10)] * 500) == pytest.approx(20, abs=1)
