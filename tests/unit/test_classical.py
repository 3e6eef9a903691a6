"""The pipeline without learning: what it finds in drawn micrographs, and that it is a model like any other."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

import ranvier
from ranvier._basins import basins_of
from ranvier._classical_settings import as_section
from ranvier._enclosures import Scene, find_axons
from ranvier._grey_sheaths import dark_pixels, levels_of, sample, sheath_width, structure
from ranvier.apps.cli import main
from ranvier.backends import WholeImage
from ranvier.bundle import MANIFEST, open_bundle, seal
from ranvier.calibration import PixelSize
from ranvier.classical import ClassicalSettings, find_fibres
from ranvier.datasets.collection import read_datasets
from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.errors import BackendError, BundleFormatError, PrecisionError, SettingsError
from ranvier.evaluation import evaluate
from ranvier.inference import InferenceSettings, load_model, segment
from ranvier.micrograph import AXON, BACKGROUND, MYELIN, Micrograph
from ranvier.reading import from_array
from ranvier.scoring.contenders import ModelContender

POLARITY = {"TEM": "dark", "BF": "dark", "SEM": "bright", "CARS": "bright"}
DICE_FLOOR = 0.88
"""Measured on these phantoms: axons 0.91 to 0.97, myelin 0.90 to 0.93."""
FOUND_FLOOR = 0.86
"""Share of the axons that are found; measured: 0.89 to 1.00."""


@pytest.fixture(scope="module", params=POLARITY)
def drawn(request):
    """A phantom as it resembles micrographs of one look, with its noise and debris."""
    return draw(PhantomSettings.typical(request.param, shape=(288, 288), seed=2))


@pytest.fixture(scope="module")
def tem():
    return draw(PhantomSettings.typical("TEM", shape=(224, 224), seed=1))


def ring(shape=(96, 96), inner=16, outer=26, *, myelin=40, axon=200, background=150):
    """One drawn fibre in the middle."""
    row, col = np.indices(shape)
    away = np.hypot(row - shape[0] // 2, col - shape[1] // 2)
    grey = np.full(shape, background, dtype=np.uint8)
    grey[away <= outer] = myelin
    grey[away <= inner] = axon
    return grey


def share_found(classes, axons):
    """Share of the axons of at least 30 pixels that are mostly classed as axon."""
    area = np.bincount(axons.ravel())[1:]
    hit = np.bincount(axons.ravel(), (classes == AXON).ravel())[1:]
    shown = area >= 30
    return (hit[shown] > area[shown] / 2).mean()


def test_most_fibres_of_each_look_are_found(drawn):
    found = find_fibres(drawn.image)
    assert found.polarity == POLARITY[drawn.settings.look]
    scores = evaluate(found.classes, drawn.classes)
    assert min(scores["dice_axon"], scores["dice_myelin"]) >= DICE_FLOOR
    assert share_found(found.classes, drawn.axons) >= FOUND_FLOOR


@pytest.mark.parametrize("look", POLARITY)
def test_clean_phantoms_too(look):
    clean = {"noise": 0.0, "debris": 0.0, "unmyelinated_share": 0.0}
    drawn = draw(PhantomSettings.typical(look, shape=(288, 288), seed=0, **clean))
    found = find_fibres(drawn.image)
    assert found.polarity == POLARITY[look]
    scores = evaluate(found.classes, drawn.classes)
    assert min(scores["dice_axon"], scores["dice_myelin"]) >= DICE_FLOOR


def test_the_scale_is_found_in_the_image():
    widths = []
    for um in (0.2, 0.1, 0.05):
        edge = round(18 / um)
        settings = PhantomSettings.typical(
            "TEM", shape=(edge, edge), seed=5, pixel_size_um=um, diameter_min_um=1.2
        )
        drawn = draw(settings)
        found = find_fibres(Micrograph(drawn.image.pixels))
        assert evaluate(found.classes, drawn.classes)["dice_axon"] >= 0.8
        widths.append(found.sheath_px)
    # Narrow sheaths are blurred by pixels, so that their width doubles by less.
    assert all(1.3 < b / a < 2.3 for a, b in pairwise(widths))


@pytest.mark.parametrize("width", [4, 8, 16, 32])
def test_widths_of_drawn_bands_are_measured(width):
    band = np.ones((384, 384), dtype=np.float32)
    for left in range(0, 384, 3 * width):
        band[:, left : left + width] = 0
    assert sheath_width([band], ClassicalSettings()) == pytest.approx(width, rel=0.15)


def test_a_pixel_size_bounds_the_width():
    band = np.ones((384, 384), dtype=np.float32)
    for left in range(0, 384, 96):
        band[:, left : left + 32] = 0
    coarse = PixelSize(1.0, "option")
    assert sheath_width([band], ClassicalSettings(), pixel_size=coarse) == 4
    assert sheath_width([band], ClassicalSettings(sheath_px=7.5), pixel_size=coarse) == 7.5


def test_an_image_turned_inside_out_has_the_other_polarity_and_the_same_fibres(drawn):
    found = find_fibres(drawn.image)
    other = find_fibres(replace(drawn.image, pixels=255 - drawn.image.pixels))
    assert {found.polarity, other.polarity} == {"dark", "bright"}
    assert (found.classes == other.classes).mean() > 0.999


def test_grey_levels_may_be_of_any_type_and_range(tem):
    pixels = tem.image.pixels
    found = find_fibres(tem.image).classes
    for same in (pixels.astype(np.uint16) * 200 + 7, pixels.astype(np.float32) / 1000 - 3):
        again = find_fibres(replace(tem.image, pixels=same)).classes
        assert (again == found).mean() > 0.999


def test_a_turned_image_gives_turned_fibres(tem):
    turned = np.ascontiguousarray(np.rot90(tem.image.pixels))
    found = find_fibres(tem.image).classes
    again = np.rot90(find_fibres(replace(tem.image, pixels=turned)).classes, -1)
    assert evaluate(again, found)["dice_axon"] > 0.98


def test_the_same_image_gives_the_same_bytes(drawn):
    assert find_fibres(drawn.image).classes.tobytes() == find_fibres(drawn.image).classes.tobytes()


def test_a_polarity_that_is_set_is_kept(tem):
    right = find_fibres(tem.image, ClassicalSettings(polarity="dark"))
    wrong = find_fibres(tem.image, ClassicalSettings(polarity="bright"))
    assert (right.polarity, wrong.polarity) == ("dark", "bright")
    scores = [evaluate(f.classes, tem.classes)["dice_axon"] for f in (right, wrong)]
    assert scores[0] > 2 * scores[1]


def noise(shape, dtype=np.uint8):
    return np.random.default_rng(0).integers(0, 256, shape).astype(dtype)


@pytest.mark.parametrize(
    "pixels",
    [
        np.full((64, 64), 7, dtype=np.uint8),
        noise((200, 200)),
        noise((200, 200), np.float32),
        noise((9, 9)),
        noise((7, 300)),
        np.zeros((1, 1), dtype=np.uint16),
        np.tile(np.arange(200, dtype=np.uint8), (200, 1)),
        np.pad(np.full((3, 3), 255, dtype=np.uint8), 40),
    ],
    ids=["flat", "noise", "noise float", "tiny noise", "narrow", "one pixel", "ramp", "spot"],
)
def test_where_there_are_no_fibres_there_is_background(pixels):
    assert not find_fibres(Micrograph(pixels)).classes.any()


def test_coarse_noise_has_next_to_no_fibres():
    grain = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(256, 256)), 1.5)
    classes = find_fibres(Micrograph(grain.astype(np.float32))).classes
    assert (classes == AXON).mean() < 0.02


@pytest.mark.parametrize("bright", [False, True])
def test_one_fibre_on_a_plain_ground(bright):
    grey = ring()
    found = find_fibres(Micrograph(255 - grey if bright else grey))
    truth = np.select([grey == 200, grey == 40], [AXON, MYELIN], BACKGROUND)
    assert found.polarity == ("bright" if bright else "dark")
    scores = evaluate(found.classes, truth.astype(np.uint8))
    assert scores["dice_axon"] > 0.95
    assert scores["dice_myelin"] > 0.9


def test_dark_spots_in_an_axon_are_axon():
    grey = ring(inner=20, outer=30)
    grey[44:47, 44:47] = 40
    classes = find_fibres(Micrograph(grey)).classes
    assert (classes[43:48, 43:48] == AXON).all()


def test_a_ring_with_a_wide_gap_is_no_fibre():
    grey = ring()
    assert (find_fibres(Micrograph(grey)).classes == AXON).any()
    grey[48 - 12 : 48 + 12, 48:] = 150
    assert not (find_fibres(Micrograph(grey)).classes == AXON).any()


def test_a_sheath_may_have_a_gap():
    grey = ring()
    grey[45:51, 64:] = 150
    classes = find_fibres(Micrograph(grey)).classes
    truth = (ring() == 200).astype(np.uint8) * AXON
    assert evaluate(classes, truth)["dice_axon"] > 0.9


@pytest.mark.parametrize("opening", [0, 4])
def test_axons_with_an_opening_between_them_are_parted(opening):
    row, col = np.indices((96, 140))
    away = np.minimum(np.hypot(row - 48, col - 50), np.hypot(row - 48, col - 90))
    bright = away <= 18.5
    bright |= (abs(row - 47.5) < opening / 2) & (col > 50) & (col < 90)
    grey = np.select([bright, away <= 27], [200, 40], 150).astype(np.uint8)
    classes = find_fibres(Micrograph(grey), ClassicalSettings(sheath_px=9.0)).classes
    assert ndimage.label(classes == AXON, np.ones((3, 3)))[1] == 2
    assert classes[48, 50] == classes[48, 90] == AXON


def two_discs(neck):
    row, col = np.indices((40, 80))
    bright = np.minimum(np.hypot(row - 20, col - 20), np.hypot(row - 20, col - 60)) <= 15
    return bright | ((abs(row - 20) <= neck // 2) & (col >= 20) & (col <= 60))


@pytest.mark.parametrize(("neck", "parted"), [(0, (2, 2)), (4, (2, 1)), (26, (1, 1))])
def test_regions_are_parted_at_narrow_necks(neck, parted):
    bright = two_discs(neck) if neck else two_discs(0) & (np.indices((40, 80))[1] != 40)
    basins = basins_of(bright, (0.5, 0.0))
    assert tuple(int(u.max()) for u in basins.unions) == parted


@given(
    hnp.arrays(bool, st.tuples(st.integers(8, 24), st.integers(8, 24)), elements=st.booleans()),
    st.integers(0, 2),
)
def test_unions_are_nested_and_end_with_connected_regions(mask, growth):
    bright = ndimage.binary_dilation(mask, iterations=growth) if growth else mask
    basins = basins_of(bright, (0.8, 0.65, 0.5, 0.0))
    assert ((basins.labels > 0) == bright).all()
    for part, whole in pairwise(basins.unions):
        pairs = np.unique(np.stack([part, whole]), axis=1)
        assert pairs.shape[1] == part.max() + 1
    regions, count = ndimage.label(bright)
    joined = basins.unions[-1][basins.labels]
    assert joined.max() == count
    assert np.unique(np.stack([regions.ravel(), joined.ravel()]), axis=1).shape[1] <= count + 1


def test_the_threshold_is_that_of_the_paper():
    grey = np.random.default_rng(0).random((21, 21), dtype=np.float32)
    settings = ClassicalSettings(window=3.0, sauvola_k=0.3)
    dark = dark_pixels(grey, 1.0, settings)
    for row, col in ((5, 5), (10, 3), (15, 17)):
        window = grey[row - 1 : row + 2, col - 1 : col + 2].astype(float)
        threshold = window.mean() * (1 + 0.3 * (window.std() / 0.5 - 1))
        assert dark[row, col] == (grey[row, col] < threshold)


def test_measures_of_a_candidate_agree_with_a_count_by_hand():
    grey = ring(background=40).astype(np.float32) / 255
    dark = grey < 0.5
    axons = find_axons(Scene(grey, grey, dark, 10.0), ClassicalSettings())
    assert (axons.labels > 0).tolist() == (~dark).tolist()
    assert axons.area == [np.count_nonzero(~dark)]
    assert axons.inside == pytest.approx(200 / 255)
    assert axons.ring == pytest.approx(40 / 255)
    # All of its outline on myelin, no dents, and the usual contrast: what is left is its circularity.
    assert axons.quality == pytest.approx(1.0, abs=0.05)


def test_a_sample_spreads_over_large_images():
    pixels = np.arange(600 * 900, dtype=np.float32).reshape(600, 900)
    blocks = sample(pixels, 60_000)
    assert len(blocks) == 9
    assert sum(b.size for b in blocks) == pytest.approx(60_000, rel=0.05)
    assert len({float(b[0, 0]) for b in blocks}) == 9
    assert sample(pixels, 600 * 900)[0] is pixels


def test_a_large_image_is_judged_by_its_sample(tem):
    few = ClassicalSettings(width_sample_px=20_000, sample_px=20_000)
    found = find_fibres(tem.image, few)
    assert found.polarity == "dark"
    assert evaluate(found.classes, tem.classes)["dice_axon"] > 0.8


def test_structure_tells_noise_from_sheaths(tem):
    levels = levels_of(tem.image.pixels)
    assert levels is not None
    assert structure([levels.stretched(tem.image.pixels, bright=False)], 7.0) > 0.5
    assert structure([noise((200, 200), np.float32)], 7.0) < 0.1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"polarity": "grey"}, "unknown polarity"),
        ({"sauvola_k": float("nan")}, "not a number in its range"),
        ({"sheath_px": 0.5}, "not a number in its range"),
        ({"window": True}, "not a number in its range"),
        ({"necks": ()}, "one number or more"),
        ({"necks": (0.5, 0.5)}, "must descend"),
        ({"necks": (1.5, 0.0)}, "not a number in its range"),
        ({"diameter_range": (3.0, 2.0)}, "upside down"),
        ({"diameter_range": 3.0}, "two numbers"),
        ({"sample_px": 1e6}, "whole number"),
        ({"sample_px": 10}, "not a number in its range"),
    ],
)
def test_settings_are_checked(change, message):
    with pytest.raises(SettingsError, match=message):
        ClassicalSettings(**change)


# As a model.


@pytest.mark.parametrize(
    ("name", "polarity"),
    [("classical", "auto"), ("classical-dark", "dark"), ("classical-bright", "bright")],
)
def test_the_embedded_models_hold_the_default_settings(name, polarity):
    bundle = open_bundle(name)
    bundle.verify()
    assert bundle.name == name
    assert bundle.classical == ClassicalSettings(polarity=polarity)
    assert (bundle.kinds, bundle.about["files"]) == ((), {})


def test_it_segments_and_measures_like_any_model(tem):
    done = []
    model = ranvier.load_model("classical", threads=2)
    found = segment(tem.image, model, progress=lambda *seen: done.append(seen))
    assert (found.classes == find_fibres(tem.image).classes).all()
    assert found.confidence is None
    assert done[-1] == (tem.image.pixels.size, tem.image.pixels.size)
    assert done == sorted(done)
    told = json.loads(json.dumps(found.provenance))
    assert told["model"]["name"] == "classical"
    assert told["model"]["sha256"] == model.bundle.sha256
    assert told["model"]["classical"] == as_section(ClassicalSettings())
    assert told["backend"]["runtime"] == "scikit-image"
    assert told["found"]["polarity"] == "dark"
    fibres = ranvier.measure(found)
    assert len(fibres) >= 0.8 * len(tem)
    assert np.isnan(fibres.table["confidence"]).all()
    assert np.nanmedian(fibres.table["g_ratio"]) == pytest.approx(0.67, abs=0.08)


def test_what_means_nothing_without_a_network_is_refused(tem):
    model = load_model("classical")
    for settings, message in (
        (InferenceSettings(zoom=2.0), "takes no zoom"),
        (InferenceSettings(faithful=True), "only models imported"),
    ):
        with pytest.raises(SettingsError, match=message):
            segment(tem.image, model, settings=settings)
    for precision in ("bf16", "int8"):
        with pytest.raises(PrecisionError, match="f32 alone"):
            load_model("classical", precision=precision)
    with pytest.raises(BackendError, match="whole image"):
        WholeImage().logits(np.zeros((1, 1, 32, 32), dtype=np.float32))
    with pytest.raises(BundleFormatError, match="no float graph"):
        open_bundle("classical").graph("float")


def test_a_least_confidence_is_told_to_do_nothing(tem):
    model = load_model("classical")
    plain, asked = (
        segment(tem.image, model, settings=InferenceSettings(min_confidence=least))
        for least in (None, 0.9)
    )
    assert np.array_equal(plain.classes, asked.classes)
    told = [note for note in asked.provenance["notes"] if note not in plain.provenance["notes"]]
    assert told == ["this model has no confidence: --min-confidence leaves none of its axons out"]
    assert asked.provenance["unsure_axons"] == {"min_confidence": 0.9, "left_out": 0}


def test_its_scores_are_told_to_be_flattered_where_they_are():
    contender = ModelContender.load("classical")
    assert contender.sha256 == open_bundle("classical").sha256
    assert "trained_on" not in open_bundle("classical").about["training"]
    assert len(contender.trained.chosen_on) == 25


@pytest.fixture
def copied(tmp_path):
    return Path(shutil.copytree(open_bundle("classical").folder, tmp_path / "mine"))


def change(folder, **changes):
    path = folder / MANIFEST
    about = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in about.items() if v is not None}))


def test_a_copy_with_other_settings_is_another_model(copied, tem):
    about = json.loads((copied / MANIFEST).read_text())
    change(copied, classical=about["classical"] | {"polarity": "bright", "sheath_px": 9.0})
    model = load_model(copied)
    assert model.bundle.sha256 != open_bundle("classical").sha256
    found = segment(tem.image, model).provenance["found"]
    assert found == {"polarity": "bright", "sheath_px": 9.0}


SECTION = as_section(ClassicalSettings())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classical": None}, "classical belongs to version 3"),
        ({"version": 1}, "classical belongs to version 3"),
        ({"classical": []}, "classical must have"),
        ({"classical": SECTION | {"more": 1}}, "classical must have"),
        ({"classical": SECTION | {"window": "wide"}}, "window: not a number"),
        ({"classical": SECTION | {"necks": [0.5, "x"]}}, "necks: not a number"),
        ({"classical": SECTION | {"polarity": ["dark"]}}, "polarity: unknown"),
        ({"graphs": {"float": "graph.xml"}}, "has no graphs"),
        ({"golden": "golden.npz"}, "has no graphs"),
        ({"field": {}}, "has no graphs"),
        ({"training": 1}, "training must be a dict"),
    ],
)
def test_each_way_to_break_its_file_has_its_error(copied, changes, message):
    change(copied, **changes)
    with pytest.raises(BundleFormatError, match=message):
        open_bundle(copied)


def test_sealing_gives_what_is_opened(tmp_path):
    about = {"name": "mine", "created": "2026-01-01", "graphs": {}, "training": {}}
    bundle = seal(tmp_path, about | {"classical": SECTION})
    assert bundle.about["version"] == 3
    assert "normalisation" not in bundle.about
    assert bundle.classical == ClassicalSettings()


def run(capsys, *arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return caught.value.code, out, err


def test_the_command_line_segments_with_it(capsys, tem, write_png, tmp_path):
    image = write_png("in/tem.png", tem.image.pixels)
    command = ["segment", image, "--model", "classical", "--pixel-size", "0.1"]
    code, out, err = run(capsys, *command, "-o", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "myelin taken as dark" in out
    record = json.loads((tmp_path / "out" / "tem_run.json").read_text())
    assert record["model"]["sha256"] == open_bundle("classical").sha256
    assert record["model"]["classical"]["polarity"] == "auto"
    assert any("myelin taken as dark" in note for note in record["inputs"][0]["notes"])
    expected = find_fibres(replace(from_array(tem.image.pixels), pixel_size=tem.image.pixel_size))
    mask = ranvier.read(tmp_path / "out" / "tem_seg-axon.png").pixels
    assert ((mask > 0) == (expected.classes == AXON)).all()
    assert "skipped" in run(capsys, *command, "-o", tmp_path / "out", "--skip-existing")[1]
    code, _, err = run(capsys, *command, "--views", "2")
    assert code == 2
    assert "this model has none" in err
    other = [*command[:3], "classical-dark", *command[4:], "-o", tmp_path / "out"]
    assert "skipped" not in run(capsys, *other, "--skip-existing")[1]


def test_the_command_line_lists_shows_and_verifies_it(capsys):
    code, out, _ = run(capsys, "models", "list")
    assert code == 0
    assert {"classical", "classical-dark", "classical-bright", "generalist"} <= set(out.split())
    code, out, _ = run(capsys, "models", "show", "classical")
    assert code == 0
    for text in ("no network", 'polarity: "auto"', "sauvola_k: 0.2", "flatter", "dice_axon"):
        assert text in out
    assert json.loads(run(capsys, "models", "show", "classical", "--json")[1])["version"] == 3
    assert run(capsys, "models", "verify", "classical")[0] == 0
    code, _, err = run(capsys, "models", "show", "classical", "--card")
    assert code == 1
    assert "no card" in err


@pytest.mark.parametrize(
    ("source", "name", "floors"),
    [
        ("TEM_PNS", "specimen-F", (0.85, 0.8)),
        ("BF_NERVE", "21G-28_40X_09_0002", (0.8, 0.8)),
        ("data_axondeepseg_sem", "sub-rat3_sample-data9_SEM", (0.6, 0.7)),
    ],
)
def test_real_micrographs(real_data, source, name, floors):
    images = {(a.source, a.name): a for a in read_datasets([real_data])}
    if (source, name) not in images:
        pytest.skip(f"{source}/{name} is not among the real micrographs")
    micrograph, truth = images[source, name].load()
    cut = (slice(0, 640), slice(0, 640))
    found = find_fibres(replace(micrograph, pixels=np.ascontiguousarray(micrograph.pixels[cut])))
    scores = evaluate(found.classes, np.ascontiguousarray(truth[cut]))
    assert scores["dice_axon"] >= floors[0]
    assert scores["dice_myelin"] >= floors[1]
