from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from ranvier.calibration import PixelSize
from ranvier.errors import MaskError, SettingsError
from ranvier.figures import in_frame
from ranvier.instances import InstanceSettings, separate
from ranvier.micrograph import Fibres, Instances
from ranvier.morphometrics import measure
from ranvier.summary import InTissue, SummarySettings, summarise

SETTINGS = InstanceSettings(min_axon_area=1, max_gap_px=0)
SIZE = PixelSize(0.5, "option")


def summed(classes: np.ndarray, size: PixelSize | None = None) -> dict[str, Any]:
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


NONE = {"aggregate_g_ratio", "density_per_mm2", "density_per_mm2_unbiased"}
STATS = {
    f"{c}_{s}"
    for c in ("axon_diameter_px", "fibre_diameter_px", "myelin_thickness_px", "g_ratio")
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
    assert {k for k in NONE | STATS if found[k] is None} == none
    json.dumps(found, allow_nan=False)
    assert all(v is None or type(v) in (int, float, str, list) for v in found.values())
    assert found["caliber_bins"] == []


def test_no_fibre_with_pixel_size_has_density_nought() -> None:
    found = summed(np.zeros((3, 3)), SIZE)
    assert found["density_per_mm2"] == 0
    assert found["fvf"] == 0


def test_shape_must_be_that_of_the_labels() -> None:
    with pytest.raises(MaskError, match="differ in shape"):
        summarise(measure(separate(scene())), shape=(20, 21))


def table_of(**columns: Any) -> Fibres:
    """Fibres by hand in a 100 x 200 image at 0.5 um, none at the border unless given."""
    count = len(next(iter(columns.values())))
    diameter = np.asarray(columns.get("axon_diameter_um", np.ones(count)), dtype=float)
    table = {
        "id": np.arange(1, count + 1),
        "touches_border": np.zeros(count, bool),
        "myelinated": np.ones(count, bool),
        "axon_area_um2": np.pi / 4 * diameter**2,
        "myelin_area_um2": np.pi / 4 * diameter**2,
        "axon_diameter_um": diameter,
        "g_ratio": np.full(count, np.sqrt(0.5)),
    } | {name: np.asarray(values) for name, values in columns.items()}
    labels = np.zeros((100, 200), np.int32)
    return Fibres(table, Instances(labels, labels, count), SIZE)


def test_unbiased_frame_leaves_out_left_and_bottom_only() -> None:
    fibres = table_of(
        bbox_top_px=[0, 50, 50, 50, 50, 0],
        bbox_left_px=[50, 0, 50, 190, 50, 0],
        bbox_bottom_px=[10, 60, 100, 60, 60, 10],
        bbox_right_px=[60, 10, 60, 200, 60, 10],
        touches_border=[True, True, True, True, False, True],
    )
    counted = [True, False, False, True, True, False]  # top, left, bottom, right, inside, corner
    assert in_frame(fibres.table, (100, 200)).tolist() == counted
    found = summarise(fibres, shape=(100, 200))
    assert (found["fibre_count"], found["unbiased_count"]) == (6, 3)
    area_mm2 = 100 * 200 * 0.25e-6
    assert found["density_per_mm2"] == pytest.approx(6 / area_mm2)
    assert found["density_per_mm2_unbiased"] == pytest.approx(3 / area_mm2)
    by_column = table_of(in_frame=[True, False, False, False, False, False])
    assert summarise(by_column, shape=(100, 200))["unbiased_count"] == 1
    unknown = summarise(table_of(touches_border=[True]), shape=(100, 200))
    assert unknown["unbiased_count"] is unknown["density_per_mm2_unbiased"] is None


def test_tiled_frames_count_every_profile_once() -> None:
    rng = np.random.default_rng(5)
    classes = np.zeros((120, 160), np.uint8)
    for top in range(4, 105, 12):
        for left in range(3, 145, 12):
            row, col = top + rng.integers(0, 4), left + rng.integers(0, 4)
            classes[row : row + 7, col : col + 7] = 2
    whole = separate(classes, settings=SETTINGS).count
    counted = [
        summed(classes[rows, cols])["unbiased_count"]
        for rows in (slice(0, 61), slice(60, 120))  # one shared line, as neighbouring frames have
        for cols in (slice(0, 80), slice(79, 160))
    ]
    assert sum(counted) == whole


def test_tissue_densities_and_fractions() -> None:
    fibres = table_of(
        axon_diameter_um=[2.0, 2.0, 4.0],
        bbox_left_px=[0, 5, 5],
        bbox_bottom_px=[9, 9, 9],
    )
    found = summarise(fibres, shape=(100, 200), tissue_px=5000, tissue_source="image")
    assert (found["tissue_px"], found["tissue_source"], found["tissue_share"]) == (
        5000,
        "image",
        0.25,
    )
    assert found["tissue_area_um2"] == pytest.approx(1250)
    assert found["density_per_mm2_tissue"] == pytest.approx(2 / 1250e-6)
    assert found["avf_tissue"] == pytest.approx(4 * found["avf"]) == pytest.approx(6 * np.pi / 1250)
    inside = InTissue(np.array([False, True, False]), 1000, 3000)
    part = summarise(fibres, shape=(100, 200), tissue_px=5000, in_tissue=inside)
    assert part["density_per_mm2_tissue"] == pytest.approx(1 / 1250e-6)
    assert (part["avf_tissue"], part["mvf_tissue"], part["fvf_tissue"]) == (0.2, 0.4, 0.6)
    none = summarise(fibres, shape=(100, 200), tissue_px=0)
    assert (none["avf_tissue"], none["density_per_mm2_tissue"], none["tissue_px"]) == (
        None,
        None,
        0,
    )
    without = summarise(fibres, shape=(100, 200))
    assert without["tissue_px"] is without["tissue_source"] is without["fvf_tissue"] is None
    with pytest.raises(MaskError, match="more tissue than image"):
        summarise(fibres, shape=(100, 200), tissue_px=20001)
    with pytest.raises(MaskError, match="one value per fibre"):
        wrong = InTissue(np.array([True, True]), 0, 0)
        summarise(fibres, shape=(100, 200), tissue_px=1, in_tissue=wrong)
    with pytest.raises(MaskError, match="more fibre than tissue"):
        summarise(fibres, shape=(100, 200), tissue_px=2999, in_tissue=inside)


def test_caliber_bins_add_up() -> None:
    fibres = table_of(
        axon_diameter_um=[0.1, 0.25, 0.3, 1.0, 99.0, 3.0],
        g_ratio=[0.5, 0.6, 0.8, np.nan, 0.9, 0.7],
        myelinated=[True, True, True, False, True, True],
        touches_border=[False, False, False, False, False, True],
    )
    bins = summarise(fibres, shape=(100, 200))["caliber_bins"]
    assert [(b["from"], b["to"]) for b in bins[:2]] == [(0.0, 0.25), (0.25, 0.5)]
    assert (bins[-1]["from"], bins[-1]["to"]) == (16.0, None)
    assert [b["count"] for b in bins] == [1, 2, 0, 1, 0, 0, 0, 1]
    assert sum(b["share"] for b in bins) == pytest.approx(1)
    assert bins[1]["g_ratio_mean"] == pytest.approx(0.7)
    assert (bins[3]["g_ratio_n"], bins[3]["g_ratio_mean"], bins[3]["myelinated_count"]) == (
        0,
        None,
        0,
    )
    late = SummarySettings(caliber_bins_um=(2, 4), include_border=True)
    bins = summarise(fibres, shape=(100, 200), settings=late)["caliber_bins"]
    assert [(b["from"], b["to"], b["count"]) for b in bins] == [
        (0.0, 2.0, 4),
        (2.0, 4.0, 1),
        (4.0, None, 1),
    ]
    empty = table_of(axon_diameter_um=[])
    assert {b["share"] for b in summarise(empty, shape=(100, 200))["caliber_bins"]} == {None}


def test_an_axon_on_an_edge_is_in_the_bin_that_begins_there() -> None:
    diameters = [0.0, 0.4999999, 0.5, 0.5000001, 1.0, 2.0, 2.0]
    fibres = table_of(axon_diameter_um=diameters, g_ratio=[0.6, 0.6, 0.7, 0.8, 0.5, 0.9, 0.7])
    settings = SummarySettings(caliber_bins_um=(0, 0.5, 1, 2))
    bins = summarise(fibres, shape=(100, 200), settings=settings)["caliber_bins"]
    assert [b["count"] for b in bins] == [2, 2, 1, 2]
    assert [b["share"] for b in bins] == pytest.approx([2 / 7, 2 / 7, 1 / 7, 2 / 7])
    assert [b["g_ratio_mean"] for b in bins] == pytest.approx([0.6, 0.75, 0.5, 0.8])
    assert bins[2]["g_ratio_sd"] is None
    assert bins[3]["g_ratio_sd"] == pytest.approx(0.02**0.5)
    late = SummarySettings(caliber_bins_um=(0.5, 1))
    bins = summarise(fibres, shape=(100, 200), settings=late)["caliber_bins"]
    assert [(b["from"], b["to"], b["count"]) for b in bins] == [
        (0.0, 0.5, 2),
        (0.5, 1.0, 2),
        (1.0, None, 3),
    ]


def test_bins_in_pixels_only_when_asked_for() -> None:
    fibres = measure(separate(scene().astype(np.uint8), settings=SETTINGS))
    settings = SummarySettings(caliber_bins_px=(0, 3))
    found = summarise(fibres, shape=(20, 20), settings=settings)
    assert [b["count"] for b in found["caliber_bins"]] == [2, 1]
    assert summarise(fibres, shape=(20, 20))["caliber_bins"] == []


def test_new_columns_are_summed_up_where_they_are() -> None:
    old = summarise(table_of(axon_diameter_um=[1.0, 2.0]), shape=(100, 200))
    assert not [k for k in old if "confidence" in k or "merged" in k]
    fibres = table_of(
        axon_diameter_um=[1.0, 2.0, 3.0],
        confidence=[0.5, 1.0, np.nan],
        sheath_thickness_mean_um=[0.2, 0.4, 0.6],
        merged=[True, False, False],
        tiny=[False, False, False],
        touches_border=[False, False, True],
    )
    found = summarise(fibres, shape=(100, 200))
    assert (found["merged_count"], found["tiny_count"]) == (1, 0)
    assert (found["confidence_n"], found["confidence_mean"]) == (2, 0.75)
    assert found["sheath_thickness_mean_um_mean"] == pytest.approx(0.3)
    assert "open_sheath_count" not in found
    json.dumps(found, allow_nan=False)
    every = SummarySettings(include_border=True)
    whole = summarise(fibres, shape=(100, 200), settings=every)
    assert whole["sheath_thickness_mean_um_mean"] == pytest.approx(0.4)


@pytest.mark.parametrize(
    ("name", "edges"),
    [
        ("caliber_bins_um", (1,)),
        ("caliber_bins_um", (1, 1)),
        ("caliber_bins_um", (2, 1)),
        ("caliber_bins_um", (-1, 1)),
        ("caliber_bins_um", (0, math.inf)),
        ("caliber_bins_um", (0, math.nan, 2)),
        ("caliber_bins_um", None),
        ("caliber_bins_um", "01"),
        ("caliber_bins_px", (0, "1")),
    ],
)
def test_edges_that_make_no_bins_are_refused(name: str, edges: Any) -> None:
    with pytest.raises(SettingsError, match=name):
        SummarySettings(**{name: edges})
