from __future__ import annotations

import csv
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.measure import regionprops_table
from skimage.morphology import convex_hull_image

from ranvier.calibration import PixelSize
from ranvier.errors import MaskError
from ranvier.instances import InstanceSettings, separate
from ranvier.masks import classes_from_mask
from ranvier.micrograph import Fibres, Instances
from ranvier.morphometrics import column_names, measure

ANY_SIZE = InstanceSettings(min_axon_area=1, max_gap_px=0)


def annulus(axon: float, outer: float) -> np.ndarray:
    row, col = np.indices((int(2 * outer) + 7,) * 2) - outer - 3.0
    away = np.hypot(row - 0.21, col + 0.34)
    return np.where(away <= axon, 2, np.where(away <= outer, 1, 0)).astype(np.uint8)


def of(classes: np.ndarray) -> Fibres:
    return measure(separate(np.asarray(classes, np.uint8), settings=ANY_SIZE))


def test_disc_and_annulus_converge_to_closed_form() -> None:
    worst = []
    for outer in (10, 40, 160):
        table = of(annulus(0.6 * outer, outer)).table
        truth = {
            "axon_area_px2": np.pi * (0.6 * outer) ** 2,
            "fibre_area_px2": np.pi * outer**2,
            "myelin_area_px2": np.pi * outer**2 * (1 - 0.36),
            "axon_diameter_px": 1.2 * outer,
            "fibre_diameter_px": 2.0 * outer,
            "myelin_thickness_px": 0.4 * outer,
            "axon_perimeter_px": 1.2 * np.pi * outer,
            "fibre_perimeter_px": 2 * np.pi * outer,
            "g_ratio": 0.6,
        }
        worst.append(max(abs(table[name][0] / value - 1) for name, value in truth.items()))
        assert np.sqrt(1 - table["axon_eccentricity"][0] ** 2) > 1 - 0.5 / outer  # axis ratio
        assert table["axon_solidity"][0] > 1 - 2 / outer
    assert worst[0] < 0.05
    assert worst[1] < 0.01
    assert worst[2] < 0.002
    assert worst[0] > worst[1] > worst[2]


@pytest.mark.parametrize("degrees", [-60, -30, 0, 30, 45, 60, 90])
def test_ellipse_orientation_and_eccentricity(degrees: float) -> None:
    row, col = np.indices((121, 121)) - 60.0
    angle = np.deg2rad(degrees)  # from the row axis towards the column axis
    along, across = (
        row * np.cos(angle) + col * np.sin(angle),
        col * np.cos(angle) - row * np.sin(angle),
    )
    table = of(np.where((along / 50) ** 2 + (across / 25) ** 2 <= 1, 2, 0)).table
    assert np.sin(table["axon_orientation_rad"][0] - angle) == pytest.approx(0, abs=0.003)
    assert table["axon_eccentricity"][0] == pytest.approx(np.sqrt(0.75), abs=0.002)


def test_square_is_isotropic_and_a_line_is_not() -> None:
    square = of(np.full((3, 3), 2)).table
    assert square["axon_eccentricity"][0] == 0
    assert np.isnan(square["axon_orientation_rad"][0])
    upright = of([[0, 2, 0]] * 5).table
    assert upright["axon_orientation_rad"][0] == 0
    assert upright["axon_eccentricity"][0] == 1
    assert of([[2] * 5]).table["axon_orientation_rad"][0] == np.pi / 2


@pytest.mark.parametrize(
    "classes",
    [[[2]], [[2, 2, 2]], [[2]] * 4, np.eye(5) * 2, np.eye(4)[::-1] * 2, [[2, 2], [0, 2]]],
    ids=["pixel", "row", "column", "diagonal", "antidiagonal", "corner"],
)
def test_degenerate_objects_are_solid(classes: object) -> None:
    table = of(np.asarray(classes)).table
    assert table["axon_solidity"][0] == table["fibre_solidity"][0] == 1
    assert all(np.isfinite(table[f"axon_{n}"][0]) for n in ("eccentricity", "perimeter_px"))


def test_every_column_against_an_independent_implementation() -> None:
    rng = np.random.default_rng(3)
    noise = rng.random((150, 170))
    for _ in range(3):
        noise = (noise + np.roll(noise, 1, 0) + np.roll(noise, 1, 1) + np.roll(noise, -1, 0)) / 4
    fibres = measure(separate((noise > 0.49).astype(np.uint8) + (noise > 0.53)))
    assert len(fibres) > 20
    for kind in ("axon", "fibre"):
        labels = getattr(fibres.instances, f"{kind}s")
        names = ("area", "perimeter_crofton", "inertia_tensor_eigvals", "orientation", "bbox")
        props = regionprops_table(labels, properties=(*names, "centroid", "image"))
        assert np.array_equal(fibres.table[f"{kind}_area_px2"], props["area"])
        assert np.allclose(fibres.table[f"{kind}_perimeter_px"], props["perimeter_crofton"])
        high, low = (props[f"inertia_tensor_eigvals-{i}"] for i in (0, 1))
        assert np.allclose(fibres.table[f"{kind}_eccentricity"], np.sqrt(1 - low / high))
        turn = fibres.table[f"{kind}_orientation_rad"] - props["orientation"]
        assert np.allclose(np.sin(turn[np.isfinite(turn)]), 0)
        hull = [convex_hull_image(m).sum() for m in props["image"]]
        assert np.allclose(fibres.table[f"{kind}_solidity"], props["area"] / np.array(hull))
        if kind == "axon":
            assert np.allclose(fibres.table["centroid_row_px"], props["centroid-0"])
            assert np.allclose(fibres.table["centroid_col_px"], props["centroid-1"])
        else:
            for i, side in enumerate(("top", "left", "bottom", "right")):
                assert np.array_equal(fibres.table[f"bbox_{side}_px"], props[f"bbox-{i}"])


def test_spiked_hull_needs_many_passes_and_is_still_exact() -> None:
    row, col = np.indices((101, 161))
    mask = np.hypot(row - 50, col - 50) <= 40
    mask[50, 50:160] = True
    mask[20:80, 0:12] = True
    expected = mask.sum() / convex_hull_image(mask).sum()
    assert of(np.where(mask, 2, 0)).table["axon_solidity"][0] == pytest.approx(expected, rel=1e-12)


def test_unmyelinated_axon_has_no_g_ratio() -> None:
    table = of([[2, 2, 0, 0, 2, 1]]).table
    assert np.isnan(table["g_ratio"][0])
    assert table["myelin_area_px2"][0] == table["myelin_thickness_px"][0] == 0
    assert table["myelinated"].tolist() == [False, True]
    assert table["g_ratio"][1] == pytest.approx(np.sqrt(0.5))


def test_border_is_that_of_the_image() -> None:
    classes = np.zeros((9, 12), np.uint8)
    classes[2:6, 1:5] = 1
    classes[3:5, 2:4] = 2  # myelin one pixel from the edge
    classes[5:9, 8:12] = 1
    classes[6:8, 9:11] = 2  # its myelin touches, its axon does not
    table = of(classes).table
    assert table["touches_border"].tolist() == [False, True]
    box = [table[f"bbox_{side}_px"].tolist() for side in ("top", "left", "bottom", "right")]
    assert box == [[2, 5], [1, 8], [6, 9], [5, 12]]


def test_pixel_size_scales_lengths_and_areas_only() -> None:
    instances = separate(annulus(8, 12))
    pixels, metric = measure(instances), measure(instances, pixel_size=PixelSize(0.5, "option"))
    assert metric.pixel_size == PixelSize(0.5, "option")
    for px, um in zip(pixels.table, metric.table, strict=True):
        factor = 0.25 if um.endswith("_um2") else 0.5 if um.endswith("_um") else 1
        assert np.allclose(metric.table[um], pixels.table[px] * factor, equal_nan=True)
    assert metric.table["axon_area_um2"][0] < pixels.table["axon_area_px2"][0]


@pytest.mark.parametrize("size", [None, PixelSize(0.1, "option")])
def test_no_fibre_gives_every_column_empty(size: PixelSize | None) -> None:
    full = measure(separate(annulus(8, 12)), pixel_size=size)
    none = measure(separate(np.ones((4, 4), np.uint8)), pixel_size=size)
    assert tuple(none.table) == tuple(full.table) == column_names(size)
    assert len(none) == 0
    for name in none.table:
        assert none.table[name].shape == (0,)
        assert none.table[name].dtype == full.table[name].dtype, name


def test_many_fibres_take_no_loop() -> None:
    classes = np.tile(np.pad(np.array([[1, 1, 1], [1, 2, 1], [1, 1, 1]], np.uint8), 1), (265, 265))
    table = of(classes).table
    assert table["id"][-1] == 265 * 265 > 65_535
    assert np.allclose(table["g_ratio"], 1 / 3)


def test_inconsistent_labels_are_refused() -> None:
    one, none = np.ones((2, 2), np.int32), np.zeros((2, 2), np.int32)
    for axons, fibres, count, text in (
        (one, none, 1, "outside the fibre"),
        (one, one, 2, "without an axon"),
        (one, one, 0, "higher than the count"),
        (one, np.ones((2, 3), np.int32), 1, "same rows and columns"),
        (-one, -one, 1, "0 or more"),
        (one.astype(float), one, 1, "whole numbers"),
    ):
        with pytest.raises(MaskError, match=text):
            measure(Instances(axons=axons, fibres=fibres, count=count))


def reference() -> Path:
    data = os.environ.get("RANVIER_DATA", Path(__file__).parents[3] / "shared" / "data")
    folder = Path(data).parent / "reference" / "morphometrics"
    if not folder.is_dir():
        pytest.skip("the reference tables are not here (set RANVIER_DATA to their sibling)")
    return folder


def test_drawn_circles_with_known_truth() -> None:
    folder = reference() / "simulated"
    with Image.open(folder / "circle.png") as image:
        table = of(classes_from_mask(np.asarray(image))).table
    with (folder / "circle_truth.csv").open(newline="") as file:
        truth = list(csv.DictReader(file))
    assert len(table["id"]) == len(truth)
    for row in truth:
        x, y = (int(v) for v in row["true_center_xy"].strip("()").split(","))
        i = np.hypot(table["centroid_row_px"] - y, table["centroid_col_px"] - x).argmin()
        assert table["g_ratio"][i] == pytest.approx(float(row["true_gratio"]), abs=0.004)
        assert table["axon_diameter_px"][i] == pytest.approx(float(row["true_axon_diam"]), rel=0.02)
