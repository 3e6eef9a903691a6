"""Every measure beyond areas: models, thickness around the sheath, Feret, coverage, flags, confidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from ranvier.calibration import PixelSize
from ranvier.errors import MaskError, SettingsError
from ranvier.instances import InstanceSettings, separate
from ranvier.measures import MEASURES, column_names, measure_of
from ranvier.micrograph import Fibres, Instances
from ranvier.morphometrics import MeasureSettings, measure

ANY_SIZE = InstanceSettings(min_axon_area=1)


def away(shape: tuple[int, int], centre: tuple[float, float]) -> np.ndarray:
    row, col = np.indices(shape)
    return np.hypot(row - centre[0], col - centre[1])


def ring(axon: float, sheath: float, offset: tuple[float, float] = (0.21, -0.34)) -> np.ndarray:
    side = int(2 * (axon + sheath)) + 9
    distance = away((side, side), (side / 2 + offset[0], side / 2 + offset[1]))
    return np.where(distance <= axon, 2, np.where(distance <= axon + sheath, 1, 0)).astype(np.uint8)


def ellipses(axes: tuple[float, float], sheath: float, degrees: float) -> np.ndarray:
    side = int(2 * (max(axes) + sheath)) + 15
    row, col = np.indices((side, side)) - side / 2
    angle = np.deg2rad(degrees)
    along, across = (
        row * np.cos(angle) + col * np.sin(angle),
        col * np.cos(angle) - row * np.sin(angle),
    )
    classes = np.zeros((side, side), np.uint8)
    for wider, value in ((sheath, 1), (0.0, 2)):
        inside = (along / (axes[0] + wider)) ** 2 + (across / (axes[1] + wider)) ** 2 <= 1
        classes[inside] = value
    return classes


def of(classes: np.ndarray, **settings: object) -> dict[str, np.ndarray]:
    found = measure(separate(classes, settings=ANY_SIZE), settings=MeasureSettings(**settings))
    return dict(found.table)


def test_the_columns_are_those_that_are_listed() -> None:
    assert tuple(of(ring(8, 4))) == column_names() == tuple(m.column(None) for m in MEASURES)
    size = PixelSize(0.2, "option")
    assert len(set(column_names(size))) == len(MEASURES)
    for measured in MEASURES:
        assert measure_of(measured.column(None)) == measure_of(measured.column(size)) == measured
        assert len(measured.meaning) > 10
    for unknown in ("g_ratio_um", "gratio", "id_px"):
        with pytest.raises(KeyError):
            measure_of(unknown)


@pytest.mark.parametrize("degrees", [0, 17, 45, 90])
def test_the_ellipse_model_measures_across_a_slanted_fibre(degrees: float) -> None:
    classes = ellipses((60, 30), 0, degrees)
    outer = ellipses((90, 45), 0, degrees)
    pad = (outer.shape[0] - classes.shape[0]) // 2
    inner = np.pad(classes, pad)[: outer.shape[0], : outer.shape[1]]
    both = np.where(inner == 2, 2, np.where(outer == 2, 1, 0)).astype(np.uint8)
    circle, ellipse = of(both), of(both, axon_shape="ellipse")
    assert ellipse["axon_diameter_px"][0] == pytest.approx(60, rel=0.01)
    assert ellipse["fibre_diameter_px"][0] == pytest.approx(90, rel=0.01)
    assert ellipse["myelin_thickness_px"][0] == pytest.approx(15, rel=0.02)
    assert circle["axon_diameter_px"][0] == pytest.approx(2 * np.sqrt(60 * 30), rel=0.01)
    for table in (circle, ellipse):
        assert table["g_ratio"][0] == pytest.approx(2 / 3, abs=0.005)
    assert circle["g_ratio_by_area"][0] == ellipse["g_ratio_by_area"][0]
    assert np.array_equal(circle["axon_feret_max_px"], ellipse["axon_feret_max_px"])


@pytest.mark.parametrize("bad", ["Circle", "", "square", None, 1])
def test_an_unknown_model_is_refused(bad: object) -> None:
    with pytest.raises(SettingsError, match="circle or ellipse"):
        MeasureSettings(axon_shape=bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        {"min_coverage": -0.1},
        {"open_coverage": 1.1},
        {"merged_solidity": float("nan")},
        {"plausible_g_ratio": (0.9, 0.3)},
        {"tiny_diameter_px": float("inf")},
    ],
)
def test_limits_out_of_range_are_refused(bad: dict[str, object]) -> None:
    with pytest.raises(SettingsError, match=next(iter(bad))):
        MeasureSettings(**bad)  # type: ignore[arg-type]


def test_the_ellipse_model_never_gives_a_g_ratio_above_one() -> None:
    classes = np.zeros((60, 120), np.uint8)
    classes[25:35, 5:115] = 1  # a sheath that only makes the fibre longer
    classes[away((60, 120), (30, 60)) <= 20] = 2
    table = of(classes, axon_shape="ellipse", min_coverage=0.0)
    assert table["fibre_diameter_px"][0] < table["axon_diameter_px"][0]
    assert np.isnan(table["g_ratio"][0])
    assert table["implausible_g_ratio"][0]
    assert table["g_ratio_by_area"][0] < 1


@pytest.mark.parametrize(
    ("axon", "sheath"), [(4, 2), (8, 3), (15, 1.5), (15, 5), (40, 10), (50, 40)]
)
def test_thickness_around_a_round_sheath(axon: float, sheath: float) -> None:
    rng = np.random.default_rng(0)
    tables = [of(ring(axon, sheath, tuple(rng.random(2)))) for _ in range(8)]
    mean = np.mean([t["sheath_thickness_mean_px"][0] for t in tables])
    assert mean == pytest.approx(sheath, abs=0.13)
    for table in tables:
        low, high = table["sheath_thickness_min_px"][0], table["sheath_thickness_max_px"][0]
        assert sheath - 1 < low <= table["sheath_thickness_mean_px"][0] <= high < sheath + 1
        assert table["sheath_thickness_sd_px"][0] < 0.35
        by_thickness = table["g_ratio_by_thickness"][0]
        assert by_thickness == pytest.approx(axon / (axon + sheath), rel=0.06)


def test_thickness_of_an_eccentric_sheath_has_the_range_that_was_drawn() -> None:
    classes = np.zeros((140, 140), np.uint8)
    classes[away((140, 140), (70.3, 70.1)) <= 60] = 1
    classes[away((140, 140), (70.3, 85.1)) <= 30] = 2  # 15 px thin on one side, 45 on the other
    table = of(classes)
    assert table["sheath_thickness_min_px"][0] == pytest.approx(15, abs=0.8)
    assert table["sheath_thickness_max_px"][0] == pytest.approx(45, abs=0.8)
    angle = np.linspace(0, 2 * np.pi, 10_000, endpoint=False)
    truth = np.hypot(60 * np.cos(angle) - 15, 60 * np.sin(angle)) - 30
    assert table["sheath_thickness_mean_px"][0] == pytest.approx(truth.mean(), abs=0.2)
    assert table["sheath_thickness_sd_px"][0] == pytest.approx(truth.std(), abs=0.2)


@pytest.mark.parametrize("share", [1.0, 0.75, 0.6])
def test_fitted_diameters_of_fibres_that_the_border_cuts(share: float) -> None:
    classes = ring(40, 25)
    cut = np.ascontiguousarray(classes[:, : int(classes.shape[1] * share)])
    table = of(cut)
    assert table["axon_diameter_fitted_px"][0] == pytest.approx(80, abs=0.4)
    assert table["fibre_diameter_fitted_px"][0] == pytest.approx(130, abs=0.4)
    assert table["g_ratio_fitted"][0] == pytest.approx(40 / 65, abs=0.004)
    assert np.isnan(of(classes[:, :20].copy())["axon_diameter_fitted_px"]).all()


@pytest.mark.parametrize("share", [1.0, 0.75])
def test_fitted_ellipses(share: float) -> None:
    classes = ellipses((60, 30), 0, 30)
    cut = np.ascontiguousarray(classes[:, : int(classes.shape[1] * share)])
    table = of(cut, axon_shape="ellipse")
    assert table["axon_diameter_fitted_px"][0] == pytest.approx(60, abs=0.4)
    assert np.isnan(table["g_ratio_fitted"][0])


def test_what_no_circle_or_ellipse_fits_is_empty() -> None:
    for shape in ("circle", "ellipse"):
        for classes in ([[2]], [[2] * 30], np.eye(30) * 2):
            table = of(np.pad(np.asarray(classes, np.uint8), 3), axon_shape=shape)
            fitted = table["axon_diameter_fitted_px"][0]
            assert np.isnan(fitted) or 0 < fitted < 1e6


def test_a_square_sheath_is_measured_to_the_pixel() -> None:
    classes = np.zeros((80, 80), np.uint8)
    classes[10:70, 10:70] = 1
    classes[22:58, 22:58] = 2
    table = of(classes)
    assert table["sheath_thickness_min_px"][0] == pytest.approx(12, abs=1e-4)
    assert table["fibre_feret_min_px"][0] == pytest.approx(60)
    assert table["fibre_feret_max_px"][0] == pytest.approx(np.hypot(59, 60))


def test_half_a_sheath_is_measured_where_it_is() -> None:
    classes = ring(20, 8)
    classes[:, : classes.shape[1] // 2][classes[:, : classes.shape[1] // 2] == 1] = 0
    table = of(classes)
    assert table["sheath_coverage"][0] == pytest.approx(0.5, abs=0.05)
    assert table["sheath_thickness_max_px"][0] == pytest.approx(8, abs=0.6)
    assert table["open_sheath"][0]
    assert table["myelinated"][0]
    whole = of(ring(20, 8))
    assert whole["sheath_coverage"][0] == 1
    assert not whole["open_sheath"][0]


def test_a_speck_of_myelin_makes_no_sheath() -> None:
    classes = np.zeros((50, 50), np.uint8)
    classes[away((50, 50), (25, 25)) <= 12] = 2
    classes[25, 38] = 1
    table = of(classes)
    assert table["myelin_area_px2"][0] == 1
    assert not table["myelinated"][0]
    assert np.isnan(table["g_ratio"][0])
    assert np.isnan(table["conduction_velocity_proxy_px"][0])
    assert not table["implausible_g_ratio"][0]
    assert not table["open_sheath"][0]


def test_the_image_edge_is_no_membrane() -> None:
    classes = ring(20, 8)
    half = np.ascontiguousarray(classes[:, classes.shape[1] // 2 :])
    table = of(half)
    assert table["touches_border"][0]
    assert table["sheath_coverage"][0] == 1
    assert table["sheath_thickness_mean_px"][0] == pytest.approx(8, abs=0.3)
    full = of(np.full((5, 6), 2, np.uint8))  # no membrane at all
    assert np.isnan(full["sheath_coverage"][0])
    assert not full["myelinated"][0]


def test_widths_against_a_hull_of_another_library() -> None:
    rng = np.random.default_rng(1)
    for size in (1, 2, 3, 9, 60):
        points = rng.integers(0, 12 if size < 60 else 40, (size, 2))
        labels = np.zeros((40, 40), np.int32)
        labels[points[:, 0], points[:, 1]] = 1
        table = measure(Instances(labels, labels.copy(), 1)).table
        row, col = np.nonzero(labels)
        corners = np.concatenate(
            [
                np.column_stack((row + r, col + c))
                for r, c in ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))
            ]
        )
        hull = corners[ConvexHull(corners).vertices]
        edge = np.roll(hull, -1, axis=0) - hull
        normal = np.column_stack((-edge[:, 1], edge[:, 0])) / np.hypot(*edge.T)[:, None]
        across = hull @ normal.T
        low = (across.max(axis=0) - across.min(axis=0)).min()
        high = np.hypot(*(hull[:, None] - hull[None]).transpose(2, 0, 1)).max()
        assert table["axon_feret_min_px"][0] == pytest.approx(low)
        assert table["axon_feret_max_px"][0] == pytest.approx(high)


def two_fibres(gap: int, scale: int = 1) -> np.ndarray:
    classes = np.zeros((60 * scale, 140 * scale), np.uint8)
    half = (scale - 1) / 2  # the same points, in smaller pixels
    for radius, value in ((20, 1), (11, 2)):
        for col in (35, 76 + gap):
            centre = (30 * scale + half, col * scale + half)
            classes[away(classes.shape, centre) <= radius * scale] = value
    return classes


def test_contact_and_nearest_neighbour() -> None:
    apart, touching = of(two_fibres(6)), of(two_fibres(-3))
    assert (apart["contact_share"] == 0).all()
    assert (touching["contact_share"] > 0.05).all()
    assert apart["nearest_neighbour_distance_px"].tolist() == pytest.approx([47, 47])
    assert np.isnan(of(ring(8, 4))["nearest_neighbour_distance_px"][0])


def test_velocity_proxy_follows_its_formula() -> None:
    table = of(ring(30, 20))
    d, g = 2 * np.sqrt(table["axon_area_px2"][0] / np.pi), table["g_ratio_by_area"][0]
    assert table["conduction_velocity_proxy_px"][0] == pytest.approx(d * np.sqrt(-np.log(g)))


def test_confidence_is_the_mean_inside_each_fibre() -> None:
    found = separate(two_fibres(6))
    confidence = np.full(found.fibres.shape, 7, np.uint8)
    confidence[found.fibres == 1] = 255
    confidence[found.fibres == 2] = 51
    table = measure(found, confidence=confidence).table
    assert table["confidence"].tolist() == pytest.approx([1.0, 0.2])
    assert np.isnan(measure(found).table["confidence"]).all()
    with pytest.raises(MaskError, match="confidence and labels"):
        measure(found, confidence=confidence[:-1])


def test_flags() -> None:
    classes = np.zeros((80, 200), np.uint8)
    for col in (20, 52):  # two axons that were joined
        classes[away(classes.shape, (40, col)) <= 18] = 1
    for col in (20, 52):
        classes[away(classes.shape, (40, col)) <= 13] = 2
    classes[39:42, 30:45] = 2
    classes[away(classes.shape, (40, 110)) <= 25] = 1
    classes[away(classes.shape, (40, 110)) <= 4] = 2  # g 0.16, and 49 pixels
    classes[away(classes.shape, (40, 165)) <= 12] = 2  # bare
    table = of(classes)
    assert table["merged"].tolist() == [True, False, False]
    assert table["implausible_g_ratio"].tolist() == [False, False, True]
    assert table["tiny"].tolist() == [False, False, True]
    assert table["open_sheath"].tolist() == [False, False, False]
    assert table["myelinated"].tolist() == [True, False, True]
    assert not of(classes, merged_solidity=0.5)["merged"].any()
    assert not of(classes, plausible_g_ratio=(0.1, 0.95))["implausible_g_ratio"].any()
    assert not of(classes, tiny_diameter_px=0)["tiny"].any()


def test_the_counting_frame_forbids_left_and_bottom() -> None:
    classes = np.zeros((60, 60), np.uint8)
    for row, col in ((30, 0), (59, 30), (0, 30), (30, 59), (30, 30)):
        classes[away((60, 60), (row, col)) <= 5] = 2
    table = of(classes)
    place = zip(table["centroid_row_px"].round(), table["centroid_col_px"].round(), strict=True)
    counted = dict(zip(((int(r), int(c)) for r, c in place), table["in_frame"], strict=True))
    assert counted == {
        (2, 30): True,
        (30, 2): False,
        (30, 30): True,
        (30, 57): True,
        (57, 30): False,
    }


def test_counts_of_tiled_frames_add_up() -> None:
    """Each fibre of a large image is counted in exactly one of the frames that tile it."""
    rng = np.random.default_rng(4)
    classes = np.zeros((300, 300), np.uint8)
    for row, col in rng.uniform(0, 300, (150, 2)):
        classes[away((300, 300), (row, col)) <= 4] = 2
    whole = int(of(classes)["in_frame"].sum())
    # Frames overlap by one pixel: the edge of one is the inner row of its neighbour's forbidden line.
    parts = [
        int(of(np.ascontiguousarray(classes[top : top + 101, left : left + 101]))["in_frame"].sum())
        for top in (0, 99, 199)
        for left in (0, 99, 199)
    ]
    assert sum(parts) == pytest.approx(whole, rel=0.06)


@pytest.mark.parametrize("factor", [2, 5])
def test_smaller_pixels_give_the_same_measures(factor: int) -> None:
    one = measure(separate(two_fibres(-3)), pixel_size=PixelSize(1.0, "option")).table
    fine = separate(two_fibres(-3, factor))
    other = measure(fine, pixel_size=PixelSize(1 / factor, "option")).table
    for measured in MEASURES:
        name = measured.column(PixelSize(1.0, "option"))
        if measured.kind == "length" and not measured.name.endswith("_sd"):
            assert other[name] == pytest.approx(one[name], rel=0.02, abs=1.01), name
        if measured.kind == "area" or measured.name.startswith("g_ratio"):
            assert other[name] == pytest.approx(one[name], rel=0.02), name


@pytest.mark.parametrize("factor", [2, 3])
def test_larger_blocks_scale_areas_diameters_and_g_ratios_exactly(factor: int) -> None:
    found = separate(two_fibres(-3))
    block = np.ones((factor, factor), np.int32)
    larger = Instances(np.kron(found.axons, block), np.kron(found.fibres, block), found.count)
    one, other = measure(found).table, measure(larger).table
    for name in ("axon_area_px2", "myelin_area_px2", "fibre_area_px2"):
        assert np.array_equal(one[name] * factor**2, other[name])
    for name in ("axon_diameter_px", "fibre_diameter_px", "myelin_thickness_px"):
        assert np.allclose(one[name] * factor, other[name])
    assert np.allclose(one["g_ratio"], other["g_ratio"])


def test_public_measure_takes_settings_and_confidence() -> None:
    import ranvier
    from ranvier.micrograph import Segmentation

    classes = two_fibres(6)
    confidence = np.full(classes.shape, 102, np.uint8)
    found: Fibres = ranvier.measure(
        Segmentation(classes, PixelSize(0.1, "option"), {}, confidence),
        measuring=MeasureSettings(axon_shape="ellipse"),
    )
    assert found.table["confidence"].tolist() == pytest.approx([0.4, 0.4])


def test_the_docs_name_every_measure_and_its_counterpart() -> None:
    page = (Path(__file__).parents[2] / "docs" / "measures.md").read_text(encoding="utf-8")
    for measured in MEASURES:
        assert f"`{measured.name}`" in page, measured.name
        if measured.axondeepseg is not None:
            assert f"`{measured.name}` (`{measured.axondeepseg}`)" in page, measured.name


def test_every_column_of_the_other_tools_table_has_a_counterpart() -> None:
    theirs = (
        "x0 (px),y0 (px),gratio,axon_area (um^2),axon_perimeter (um),myelin_area (um^2),axon_diam (um),"
        "myelin_thickness (um),axonmyelin_area (um^2),axonmyelin_perimeter (um),eccentricity,orientation,"
        "fiber_eccentricity,fiber_orientation,solidity,image_border_touching,bbox_min_y,bbox_min_x,bbox_max_y,"
        "bbox_max_x"
    )
    assert {m.axondeepseg for m in MEASURES} - {None} == set(theirs.split(","))


@pytest.mark.parametrize("turn", [0.0, 0.2, 0.4, np.pi / 4])
def test_coverage_across_a_gap_does_not_depend_on_the_direction(turn: float) -> None:
    row, col = np.mgrid[:120, :120]
    along = np.cos(turn) * (col - 60) + np.sin(turn) * (row - 60)
    across = -np.sin(turn) * (col - 60) + np.cos(turn) * (row - 60)
    away_by = np.maximum(abs(along), abs(across))
    slit = (along > 15) & (abs(across) < 3)  # so that the gap of 2 px is open
    classes = np.where((away_by > 22) & (away_by <= 30) & ~slit, 1, 0).astype(np.uint8)
    classes[away_by <= 20] = 2
    table = of(classes)
    assert table["sheath_coverage"][0] > 0.95
    assert table["g_ratio"][0] == pytest.approx(0.708, abs=0.006)


@pytest.mark.parametrize("gap", [0, 1, 2])
@pytest.mark.parametrize("filled", [True, False])
def test_inner_faces_of_a_sheath_are_not_its_outer_membrane(gap: int, filled: bool) -> None:
    distance = away((120, 120), (60, 60))
    classes = np.where((distance > 20 + gap) & (distance <= 28 + gap), 1, 0).astype(np.uint8)
    classes[60, 80:] = 0  # a slit, which opens the gap
    classes[distance <= 20] = 2
    way = InstanceSettings(fill_holes=filled)
    table = measure(separate(classes, settings=way)).table
    assert table["sheath_thickness_mean_px"][0] == pytest.approx(8 + gap, abs=0.25)
    assert table["sheath_thickness_min_px"][0] > 6 + gap
    assert table["fibre_diameter_fitted_px"][0] == pytest.approx(2 * (28 + gap), abs=0.4)
    assert table["g_ratio_by_thickness"][0] == pytest.approx(20 / (28 + gap), abs=0.01)


def test_the_ellipse_model_never_gives_a_negative_thickness() -> None:
    classes = np.zeros((60, 120), np.uint8)
    classes[25:35, 5:115] = 1
    classes[away((60, 120), (30, 60)) <= 20] = 2
    table = of(classes, axon_shape="ellipse", min_coverage=0.0)
    assert np.isnan(table["myelin_thickness_px"][0])


@pytest.mark.parametrize("turn", [0, 12, 23, 52])
def test_no_circle_is_fitted_to_what_is_none(turn: float) -> None:
    table = of(ellipses((48, 12), 0, turn))
    assert np.isnan(table["axon_diameter_fitted_px"][0])
    assert of(ellipses((48, 12), 0, turn), axon_shape="ellipse")["axon_diameter_fitted_px"][
        0
    ] == pytest.approx(24, abs=0.5)
