from __future__ import annotations

import json
import math

import numpy as np
import pytest

from ranvier.calibration import PixelSize
from ranvier.errors import MaskError
from ranvier.instances import InstanceSettings, separate
from ranvier.morphometrics import measure
from ranvier.summary import summarise

SETTINGS = InstanceSettings(min_axon_area=1, max_gap_px=0)
SIZE = PixelSize(0.5, "option")


def summed(
    classes: np.ndarray, size: PixelSize | None = None
) -> dict[str, float | int | str | None]:
    classes = np.asarray(classes, np.uint8)
    return summarise(
        measure(separate(classes, settings=SETTINGS), pixel_size=size), shape=classes.shape
    )


def scene() -> np.ndarray:
    classes = np.zeros((20, 20), np.uint8)
    classes[2:8, 2:8] = 1
    classes[4:6, 4:6] = 2  # 4 of 36
    classes[2:7, 12:17] = 1
    classes[3:6, 13:16] = 2  # 9 of 25
    classes[12:14, 3:5] = 2  # bare, 4
    classes[17:20, 17:20] = 1
    classes[18, 18] = 2  # on the border, 1 of 9
    classes[12, 10:14] = 1  # orphan
    return classes


def test_fractions_counts_and_aggregate() -> None:
    found = summed(scene(), SIZE)
    assert (found["fibre_count"], found["border_fibre_count"], found["myelinated_count"]) == (
        4,
        1,
        3,
    )
    assert found["avf"] == pytest.approx(18 / 400)
    assert found["mvf"] == pytest.approx((32 + 16 + 8) / 400)
    assert found["fvf"] == pytest.approx(74 / 400)
    assert found["orphan_myelin_fraction"] == pytest.approx(4 / 400)
    assert found["aggregate_g_ratio"] == pytest.approx(math.sqrt(18 / 74))
    assert found["density_per_mm2"] == pytest.approx(4 / (400 * 0.25e-6))
    assert (found["length_unit"], found["pixel_size_source"]) == ("um", "option")


def test_means_leave_out_the_border() -> None:
    found = summed(scene(), SIZE)
    diameters = [math.sqrt(a / math.pi) for a in (4, 9, 4)]  # 2 sqrt(a / pi) at 0.5 um
    assert found["axon_diameter_um_n"] == 3
    assert found["axon_diameter_um_mean"] == pytest.approx(np.mean(diameters))
    assert found["axon_diameter_um_sd"] == pytest.approx(np.std(diameters, ddof=1))
    assert found["axon_diameter_um_median"] == pytest.approx(np.median(diameters))
    assert found["g_ratio_n"] == 2
    assert found["g_ratio_mean"] == pytest.approx((1 / 3 + 3 / 5) / 2)
    assert found["myelin_thickness_um_n"] == 3


def test_without_pixel_size_there_is_no_micrometre() -> None:
    found = summed(scene())
    assert found["density_per_mm2"] is None
    assert found["pixel_size_um"] is None
    assert found["length_unit"] == "px"
    assert not [k for k in found if "_um" in k and k != "pixel_size_um"]
    assert found["g_ratio_mean"] == summed(scene(), SIZE)["g_ratio_mean"]


NONE = {"aggregate_g_ratio", "density_per_mm2", "pixel_size_um", "pixel_size_source"}
STATS = {
    f"{c}_{s}"
    for c in ("axon_diameter_px", "myelin_thickness_px", "g_ratio")
    for s in ("mean", "sd", "median")
}


@pytest.mark.parametrize(
    ("classes", "none"),
    [
        (np.zeros((3, 3)), NONE | STATS),
        (np.ones((3, 3)), NONE | STATS),
        (np.full((3, 3), 2), (NONE | STATS) - {"aggregate_g_ratio"}),
        (
            np.pad([[2]], 1),
            (NONE | {k for k in STATS if k.endswith("_sd") or k.startswith("g_")})
            - {"aggregate_g_ratio"},
        ),
        (
            np.pad([[2, 1]], 1),
            (NONE | {k for k in STATS if k.endswith("_sd")}) - {"aggregate_g_ratio"},
        ),
    ],
    ids=["empty", "myelin only", "axon only", "one bare axon", "one fibre"],
)
def test_every_nought_by_nought_is_none(classes: np.ndarray, none: set[str]) -> None:
    found = summed(classes)
    assert {k for k, v in found.items() if v is None} == none
    json.dumps(found, allow_nan=False)
    assert all(v is None or type(v) in (int, float, str) for v in found.values())


def test_no_fibre_with_pixel_size_has_density_nought() -> None:
    found = summed(np.zeros((3, 3)), SIZE)
    assert found["density_per_mm2"] == 0
    assert found["fvf"] == 0


def test_shape_must_be_that_of_the_labels() -> None:
    with pytest.raises(MaskError, match="differ in shape"):
        summarise(measure(separate(scene())), shape=(20, 21))
