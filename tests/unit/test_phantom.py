"""Phantoms: what they say about themselves is exactly true."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ranvier.datasets.phantom import Phantom, PhantomSettings, draw, mask_of, write_dataset
from ranvier.errors import OutputExistsError, SettingsError
from ranvier.reading import read

DISCS = PhantomSettings(
    shape=(240, 260), seed=11, irregularity=0.0, aspect_range=(1.0, 1.0), debris=0.0
)
DENTED = PhantomSettings(shape=(240, 260), seed=12, irregularity=0.6, aspect_range=(1.0, 2.5))
LOOKS = ("TEM", "SEM", "BF", "CARS")


@pytest.fixture(scope="module")
def discs() -> Phantom:
    return draw(DISCS)


@pytest.fixture(scope="module")
def dented() -> Phantom:
    return draw(DENTED)


def test_there_is_something_to_test(discs: Phantom, dented: Phantom) -> None:
    assert len(discs) > 15
    assert len(dented) > 15
    assert discs.truth["touches_border"].any()
    assert not discs.truth["touches_border"].all()


def test_discs_are_the_pixels_whose_centres_are_inside_the_circles_of_the_table(
    discs: Phantom,
) -> None:
    truth, size = discs.truth, DISCS.pixel_size_um
    rows, cols = np.indices(DISCS.shape)
    for labels, column in ((discs.axons, "axon_diameter_um"), (discs.fibres, "fibre_diameter_um")):
        expected = np.zeros(DISCS.shape, np.int32)
        for i in range(len(discs)):
            away = np.hypot(rows - truth["centre_row_px"][i], cols - truth["centre_col_px"][i])
            expected[away <= 0.5 * truth[column][i] / size] = truth["id"][i]
        np.testing.assert_array_equal(labels, expected)


def test_continuous_discs_do_not_overlap_and_some_touch(discs: Phantom) -> None:
    truth = discs.truth
    centres = np.stack([truth["centre_row_px"], truth["centre_col_px"]], axis=1)
    radii = 0.5 * truth["fibre_diameter_um"] / DISCS.pixel_size_um
    gap = np.hypot(*(centres[:, None] - centres[None]).transpose(2, 0, 1))
    gap -= radii[:, None] + radii[None]
    gaps = gap[np.triu_indices(len(radii), 1)]
    assert gaps.min() > 0
    assert np.count_nonzero(gaps < 1.0) >= 5


@pytest.mark.parametrize("name", ["discs", "dented"])
def test_area_of_pixels_is_the_closed_form_to_one_over_the_diameter(
    name: str, request: pytest.FixtureRequest
) -> None:
    phantom: Phantom = request.getfixturevalue(name)
    truth, size = phantom.truth, phantom.settings.pixel_size_um
    whole = ~truth["touches_border"]
    for labels, kind in ((phantom.axons, "axon"), (phantom.fibres, "fibre")):
        pixels = np.bincount(labels.ravel(), minlength=len(phantom) + 1)[1:]
        diameter = truth[f"{kind}_diameter_um"] / size
        error = np.abs(pixels * size**2 / truth[f"{kind}_area_um2"] - 1)
        assert (error[whole] < 2.0 / diameter[whole]).all()
        assert abs(np.mean((pixels * size**2 / truth[f"{kind}_area_um2"] - 1)[whole])) < 0.01


def test_centres_are_centres_of_mass(dented: Phantom) -> None:
    truth = dented.truth
    for i in np.flatnonzero(~truth["touches_border"]):
        rows, cols = np.nonzero(dented.axons == truth["id"][i])
        assert rows.mean() == pytest.approx(truth["centre_row_px"][i], abs=0.35)
        assert cols.mean() == pytest.approx(truth["centre_col_px"][i], abs=0.35)


def test_columns_of_the_table_agree_with_each_other(dented: Phantom) -> None:
    t = dented.truth
    np.testing.assert_allclose(t["axon_area_um2"], np.pi * t["axon_diameter_um"] ** 2 / 4)
    np.testing.assert_allclose(t["fibre_area_um2"], np.pi * t["fibre_diameter_um"] ** 2 / 4)
    np.testing.assert_allclose(t["g_ratio"], np.sqrt(t["axon_area_um2"] / t["fibre_area_um2"]))
    np.testing.assert_allclose(
        t["fibre_diameter_um"], t["axon_diameter_um"] + 2 * t["myelin_thickness_um"]
    )
    assert {len(column) for column in t.values()} == {len(dented)}


def test_g_ratio_without_spread_is_the_one_asked_for() -> None:
    settings = replace(DENTED, shape=(120, 120), g_ratio_mean=0.7, g_ratio_sd=0.0)
    np.testing.assert_allclose(draw(settings).truth["g_ratio"], 0.7, rtol=1e-12)


def test_classes_and_labels_tell_the_same(dented: Phantom) -> None:
    np.testing.assert_array_equal(dented.classes == 2, dented.axons > 0)
    np.testing.assert_array_equal(dented.classes > 0, dented.fibres > 0)
    inside = dented.axons > 0
    np.testing.assert_array_equal(dented.axons[inside], dented.fibres[inside])
    assert dented.classes.dtype == np.uint8
    assert dented.axons.dtype == dented.fibres.dtype == np.int32
    np.testing.assert_array_equal(np.unique(dented.fibres)[1:], dented.truth["id"])
    seen = np.isin(dented.truth["id"], dented.axons)
    np.testing.assert_array_equal(seen, dented.truth["axon_in_image"])
    assert dented.fibre_fraction == pytest.approx((dented.classes > 0).mean())


def test_border_flag_is_a_pixel_in_the_outermost_rows_or_columns(dented: Phantom) -> None:
    inner = np.zeros(DENTED.shape, bool)
    inner[1:-1, 1:-1] = True
    at_edge = set(dented.fibres[~inner].tolist()) - {0}
    assert set(dented.truth["id"][dented.truth["touches_border"]].tolist()) == at_edge


@pytest.mark.parametrize("look", LOOKS)
def test_same_settings_same_bytes(look: str) -> None:
    settings = PhantomSettings.typical(look, shape=(96, 112), seed=7)  # type: ignore[arg-type]
    state = np.random.get_state()[1].tolist()
    first, second = draw(settings), draw(settings)
    assert first.image.pixels.tobytes() == second.image.pixels.tobytes()
    assert first.fibres.tobytes() == second.fibres.tobytes()
    assert first.image.sha256 == second.image.sha256
    assert np.random.get_state()[1].tolist() == state
    other = draw(replace(settings, seed=8))
    assert (first.fibres != other.fibres).any()
    assert first.image.sha256 != other.image.sha256


@pytest.mark.parametrize("look", LOOKS)
def test_one_seed_is_one_truth_in_every_look(look: str) -> None:
    base = replace(DENTED, shape=(96, 112))
    changed = replace(base, look=look, noise=0.0, blur=0.0, debris=1.0, unmyelinated_share=0.6)
    np.testing.assert_array_equal(draw(changed).fibres, draw(base).fibres)


@pytest.mark.parametrize(("look", "myelin_is"), [("TEM", -1), ("SEM", 1), ("BF", -1), ("CARS", 1)])
def test_looks_have_the_contrast_of_their_modality(look: str, myelin_is: int) -> None:
    phantom = draw(PhantomSettings.typical(look, shape=(200, 220), seed=3))  # type: ignore[arg-type]
    background, myelin, axon = (phantom.image.pixels[phantom.classes == c].mean() for c in range(3))
    assert myelin_is * (myelin - axon) > 40
    assert myelin_is * (myelin - background) > 30
    assert phantom.image.pixels.dtype == np.uint8
    assert phantom.image.pixels.std() > 15
    size = phantom.image.pixel_size
    assert size is not None
    assert (size.um, size.source) == (0.1, "phantom")


def test_contrast_at_random_is_of_any_polarity_and_changes_nothing_of_the_truth() -> None:
    seen = []
    for seed in range(24):
        settings = replace(DENTED, shape=(96, 112), seed=seed, noise=0.0, blur=0.0)
        plain, painted, again = (
            draw(settings),
            *(draw(settings, random_contrast=True) for _ in "ab"),
        )
        assert np.array_equal(painted.image.pixels, again.image.pixels)
        assert painted.image.pixels.dtype == np.uint8
        assert painted.colour is None
        assert np.array_equal(plain.classes, painted.classes)
        for name, column in plain.truth.items():
            assert np.array_equal(column, painted.truth[name])
        grey = [float(np.median(painted.image.pixels[painted.classes == c])) for c in range(3)]
        seen.append(grey)
        assert abs(grey[1] - grey[2]) > 8, "a sheath that nobody could tell from its axon"
        assert painted.image.notes == (f"phantom, contrast at random, seed {seed}",)
    ground, myelin, axon = np.transpose(seen)
    assert (myelin < axon).sum() > 5
    assert (myelin > axon).sum() > 5
    assert (np.abs(ground - axon) < 30).any()
    assert (np.abs(ground - axon) > 60).any()


def test_bright_field_has_colour_and_its_grey_is_luma() -> None:
    phantom = draw(PhantomSettings.typical("BF", shape=(96, 112)))
    assert phantom.colour is not None
    assert phantom.colour.shape == (96, 112, 3)
    luma = phantom.colour @ np.array([0.299, 0.587, 0.114])
    assert np.abs(luma - phantom.image.pixels).max() <= 0.5 + 1e-9
    assert draw(PhantomSettings(shape=(64, 64), look="SEM")).colour is None


def test_nothing_to_draw_is_an_empty_table() -> None:
    phantom = draw(PhantomSettings(shape=(64, 48), fibre_fraction=0.0))
    assert len(phantom) == 0
    assert phantom.fibre_fraction == 0
    assert not phantom.classes.any()
    assert phantom.truth["centre_row_px"].shape == (0,)


def test_fibre_fraction_is_about_what_was_asked_for() -> None:
    reached = [draw(replace(DENTED, seed=s, fibre_fraction=0.4)).fibre_fraction for s in range(4)]
    assert np.mean(reached) == pytest.approx(0.4, abs=0.06)


@pytest.mark.parametrize("law", ["gamma", "log-normal"])
def test_diameters_stay_in_their_limits_and_follow_their_mean(law: str) -> None:
    phantom = draw(
        PhantomSettings(
            shape=(500, 500),
            diameter_law=law,  # type: ignore[arg-type]
            diameter_mean_um=2.0,
            diameter_sd_um=0.5,
            diameter_max_um=6.0,
            fibre_fraction=0.4,
        )
    )
    diameters = phantom.truth["axon_diameter_um"]
    assert diameters.min() >= 0.8 - 1e-9
    assert diameters.max() <= 6.0 + 1e-9
    assert diameters.mean() == pytest.approx(2.0, abs=0.25)
    assert diameters.std() == pytest.approx(0.5, abs=0.2)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("shape", (7, 64)),
        ("shape", (64.0, 64)),
        ("shape", (64,)),
        ("shape", (100_000, 100_000)),
        ("pixel_size_um", 0.0),
        ("pixel_size_um", float("nan")),
        ("pixel_size_um", "0.1"),
        ("pixel_size_um", 5.0),
        ("seed", -1),
        ("seed", 1.5),
        ("seed", True),
        ("look", "MRI"),
        ("diameter_law", "normal"),
        ("diameter_mean_um", 9.0),
        ("diameter_sd_um", -0.1),
        ("diameter_sd_um", 50.0),
        ("diameter_min_um", 0.1),
        ("diameter_max_um", 0.5),
        ("g_ratio_mean", 1.0),
        ("g_ratio_sd", float("inf")),
        ("fibre_fraction", 1.0),
        ("irregularity", -0.1),
        ("aspect_range", (2.0, 1.0)),
        ("aspect_range", (0.5, 1.0)),
        ("aspect_range", 2.0),
        ("alignment", 1.1),
        ("unmyelinated_share", 1.0),
        ("touching_share", None),
        ("noise", -1.0),
        ("blur", 99.0),
        ("debris", 2.0),
    ],
)
def test_wrong_settings_are_refused_by_name(field: str, value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        PhantomSettings(**{field: value})  # type: ignore[arg-type]
    first_word = field.split("_", maxsplit=1)[0]
    assert first_word in str(caught.value) or "diameter_min_um" in str(caught.value)


def test_every_field_of_the_settings_is_checked() -> None:
    for field in fields(PhantomSettings):
        with pytest.raises(SettingsError):
            PhantomSettings(**{field.name: "nonsense"})  # type: ignore[arg-type]


def test_typical_refuses_unknown_looks_and_fields() -> None:
    with pytest.raises(SettingsError, match="MRI"):
        PhantomSettings.typical("MRI")  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="colour"):
        PhantomSettings.typical("BF", colour=True)


@pytest.mark.parametrize("look", ["TEM", "BF"])
def test_a_written_dataset_is_read_back(tmp_path: Path, look: str) -> None:
    phantoms = [
        draw(PhantomSettings.typical(look, shape=(64, 80), seed=s))  # type: ignore[arg-type]
        for s in (1, 2)
    ]
    images = write_dataset(tmp_path / "set", phantoms)
    assert [p.name for p in images] == [f"{look.lower()}-0001.png", f"{look.lower()}-0002.png"]
    for path, phantom in zip(images, phantoms, strict=True):
        np.testing.assert_array_equal(
            read(path, pixel_size=0.1).pixels, phantom.image.pixels, strict=True
        )
        with Image.open(tmp_path / "set" / "masks" / path.name) as mask:
            np.testing.assert_array_equal(np.asarray(mask), mask_of(phantom))
    about = json.loads((tmp_path / "set" / "dataset.json").read_text())
    assert about["modality"] == look
    assert about["licence"] == "CC0-1.0"
    assert about["pixel_size_um"] == 0.1
    assert not list(tmp_path.rglob("*.partial"))
    with Image.open(images[0]) as image:
        assert image.mode == ("RGB" if look == "BF" else "L")


def test_a_written_dataset_is_an_annotated_dataset(tmp_path: Path) -> None:
    from ranvier.datasets.folder import read_folder

    phantoms = [draw(PhantomSettings.typical("BF", shape=(64, 80), seed=s)) for s in (1, 2)]
    write_dataset(tmp_path, phantoms)
    found = read_folder(tmp_path)
    assert [(a.source, a.subject) for a in found] == [
        ("PHANTOM_BF", "bf-0001"),
        ("PHANTOM_BF", "bf-0002"),
    ]
    for annotated, phantom in zip(found, phantoms, strict=True):
        micrograph, classes = annotated.load()
        np.testing.assert_array_equal(micrograph.pixels, phantom.image.pixels)
        np.testing.assert_array_equal(classes, phantom.classes)


def test_masks_have_three_levels(dented: Phantom) -> None:
    assert set(np.unique(mask_of(dented)).tolist()) == {0, 127, 255}
    np.testing.assert_array_equal(mask_of(dented) == 255, dented.axons > 0)


def test_datasets_are_neither_mixed_nor_overwritten(tmp_path: Path) -> None:
    one = draw(PhantomSettings(shape=(32, 32), seed=1))
    sem = draw(PhantomSettings(shape=(32, 32), seed=2, look="SEM"))
    for wrong in ([], [one, one], [one, sem]):
        with pytest.raises(SettingsError):
            write_dataset(tmp_path / "set", wrong)
    assert not (tmp_path / "set").exists()
    write_dataset(tmp_path / "set", [one])
    with pytest.raises(OutputExistsError):
        write_dataset(tmp_path / "set", [one])
