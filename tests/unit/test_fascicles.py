from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ranvier.calibration import PixelSize
from ranvier.errors import MaskError, SettingsError
from ranvier.fascicles import FascicleSettings, fascicle_labels, measure_fascicles
from ranvier.instances import InstanceSettings, separate
from ranvier.masks import classes_from_masks
from ranvier.micrograph import Fibres, Instances
from ranvier.morphometrics import measure

SIZE = PixelSize(0.5, "option")
SIZE_OF_NERVE = PixelSize(0.00236, "option")
ANY = FascicleSettings(min_area_px=1)


def scene() -> tuple[np.ndarray, np.ndarray]:
    """Two fascicles of 400 and 300 px; two fibres in the first, one in the second, one outside."""
    mask = np.zeros((60, 80), np.uint8)
    mask[30:50, 5:25] = 255
    mask[10:25, 40:60] = 255
    classes = np.zeros((60, 80), np.uint8)
    for row, col in ((32, 8), (40, 15), (12, 45), (50, 65)):
        classes[row : row + 6, col : col + 6] = 1
        classes[row + 2 : row + 4, col + 2 : col + 4] = 2
    return mask, classes


def measured(classes: np.ndarray, size: PixelSize | None = SIZE) -> Fibres:
    settings = InstanceSettings(min_axon_area=1, max_gap_px=0)
    return measure(separate(classes, settings=settings), pixel_size=size)


def test_rows_and_totals() -> None:
    mask, classes = scene()
    found = measure_fascicles(mask, measured(classes))
    table = found.table
    assert len(found) == 2
    assert table["fascicle"].tolist() == [1, 2]  # raster order: the upper one is the first
    assert table["area_um2"].tolist() == [75.0, 100.0]
    assert table["fibre_count"].tolist() == [1, 2]
    assert table["density_per_mm2"] == pytest.approx([1e6 / 75, 2e6 / 100])
    assert table["avf"] == pytest.approx([4 / 300, 8 / 400])
    assert table["fvf"] == pytest.approx([36 / 300, 72 / 400])
    assert table["mvf"] == pytest.approx(table["fvf"] - table["avf"])
    assert table["aggregate_g_ratio"] == pytest.approx([1 / 3, 1 / 3])
    assert table["g_ratio_mean"] == pytest.approx([1 / 3, 1 / 3])
    assert table["axon_diameter_um_mean"] == pytest.approx([2 / np.sqrt(np.pi)] * 2)
    assert table["centroid_row_px"].tolist() == [17.0, 39.5]
    assert table["centroid_col_px"].tolist() == [49.5, 14.5]
    assert not table["touches_border"].any()
    assert found.of_fibre.tolist() == [1, 2, 2, 0]
    totals = found.totals
    assert (totals["fascicle_count"], totals["fibre_count"], totals["fibres_outside"]) == (2, 3, 1)
    assert totals["area_um2"] == 175
    assert totals["fvf"] == pytest.approx(108 / 700)
    json.dumps(totals, allow_nan=False)


def test_without_pixel_size_there_is_no_micrometre() -> None:
    mask, classes = scene()
    found = measure_fascicles(mask, measured(classes, None))
    assert found.table["area_px2"].tolist() == [300, 400]
    assert np.isnan(found.table["density_per_mm2"]).all()
    assert found.totals["density_per_mm2"] is None
    assert "axon_diameter_px_mean" in found.table


def test_a_mask_of_any_tool_is_the_same() -> None:
    mask, classes = scene()
    fibres = measured(classes)
    grey = np.where(mask > 0, 250, 3).astype(np.uint8)  # as JPEG leaves it
    for other in (mask > 0, mask // 255, grey, np.dstack([mask] * 3)):
        assert measure_fascicles(other, fibres).totals == measure_fascicles(mask, fibres).totals


def test_label_images_keep_their_values_and_pieces() -> None:
    labels = np.zeros((60, 80), np.uint16)
    labels[30:50, 5:25] = 300
    labels[10:25, 40:60] = 7
    labels[55:58, 70:75] = 300
    _, classes = scene()
    found = measure_fascicles(labels, measured(classes), settings=FascicleSettings(labels=True))
    assert found.table["label"].tolist() == [7, 300]
    assert found.table["area_um2"].tolist() == [75.0, 103.75]
    full = fascicle_labels(np.full((3, 3), 5), settings=FascicleSettings(1, labels=True))
    assert (full[0] == 1).all()
    assert full[1].tolist() == [5]
    for wrong in (labels, classes + 5):
        with pytest.raises(MaskError, match="nerve mask"):
            measure_fascicles(wrong, measured(classes))
    for bad, text in ((labels.astype(float), "whole numbers"), (labels[None], "rows and columns")):
        with pytest.raises(MaskError, match=text):
            fascicle_labels(bad, settings=FascicleSettings(labels=True))


def test_components_are_eight_connected_and_specks_left_out() -> None:
    mask = np.zeros((40, 40), bool)
    mask[2:14, 2:14] = True
    mask[14:26, 14:26] = True  # by a corner
    mask[35, 35] = True
    _, values, small = fascicle_labels(mask)
    assert (len(values), small) == (1, 1)
    assert len(fascicle_labels(mask, settings=ANY)[1]) == 2
    with pytest.raises(SettingsError, match="min_area_px"):
        FascicleSettings(min_area_px=-1)
    with pytest.raises(SettingsError, match="labels"):
        FascicleSettings(labels=1)


def test_an_axon_whose_centroid_is_outside_goes_where_most_of_it_is() -> None:
    axons = np.zeros((30, 30), np.int32)
    axons[5:25, 5:8] = axons[5:8, 5:25] = axons[22:25, 5:25] = (
        1  # a C: its centroid is in its mouth
    )
    axons[27, 0:12] = 2
    mask = axons == 1
    mask[27, 9:12] = True  # a quarter of the second axon
    instances = Instances(axons, axons, 2)
    fibres = measure(instances)
    row, col = (int(fibres.table[f"centroid_{k}_px"][0]) for k in ("row", "col"))
    assert not mask[row, col]
    found = measure_fascicles(mask, fibres, settings=ANY)
    assert found.of_fibre.tolist() == [1, 0]


def test_nothing_in_nothing() -> None:
    empty = np.zeros((20, 20), np.uint8)
    found = measure_fascicles(empty, measured(empty))
    assert len(found) == 0
    assert {len(values) for values in found.table.values()} == {0}
    assert found.totals["avf"] is found.totals["density_per_mm2"] is None
    no_fibre = measure_fascicles(empty + 1, measured(empty))
    assert no_fibre.totals["density_per_mm2"] == 0
    assert no_fibre.totals["aggregate_g_ratio"] is None
    assert np.isnan(no_fibre.table["g_ratio_mean"]).all()
    with pytest.raises(MaskError, match="differ in shape"):
        measure_fascicles(empty[1:], measured(empty))


def test_fibres_the_border_cuts_count_but_are_in_no_mean() -> None:
    classes = np.zeros((30, 30), np.uint8)
    classes[0:4, 5:10] = 1
    classes[0:2, 6:9] = 2
    classes[10:15, 10:15] = 1
    classes[12, 12] = 2
    fibres = measured(classes)
    mask = np.ones((30, 30), bool)
    inner = measure_fascicles(mask, fibres).totals
    every = measure_fascicles(mask, fibres, settings=FascicleSettings(include_border=True)).totals
    assert inner["fibre_count"] == every["fibre_count"] == 2
    assert inner["g_ratio_mean"] == pytest.approx(np.sqrt(1 / 25))
    assert every["g_ratio_mean"] > inner["g_ratio_mean"]


def test_published_figures_of_a_nerve() -> None:
    data = os.environ.get("RANVIER_DATA", Path(__file__).parents[3] / "shared" / "data")
    folder = Path(data).parent / "reference" / "morphometrics" / "nerve"
    if not folder.is_dir():
        pytest.skip("the reference nerve is not here (set RANVIER_DATA to its sibling)")
    planes = {}
    for kind in ("axon", "myelin", "nerve"):
        with Image.open(folder / f"image_seg-{kind}.png") as image:
            planes[kind] = np.asarray(image)
    expected = json.loads((folder / "image_nerve_morphometrics_expected.json").read_text())
    # One of the axons that they count is a speck of 3 pixels.
    instances = separate(
        classes_from_masks(planes["axon"], planes["myelin"]),
        settings=InstanceSettings(min_axon_area=1),
    )
    found = measure_fascicles(planes["nerve"], measure(instances, pixel_size=SIZE_OF_NERVE))
    assert len(found) == len(expected["fascicle_areas"])
    for i, fascicle in enumerate(expected["fascicle_areas"].values()):
        assert found.table["area_um2"][i] == fascicle["value"]
        density = round(found.table["density_per_mm2"][i] / 1e6, 5)
        assert density == fascicle["axon_density"]["value"]
    assert found.totals["area_um2"] == expected["total_area"]["value"]
    assert (
        round(found.totals["density_per_mm2"] / 1e6, 5) == expected["total_axon_density"]["value"]
    )


def test_errors_name_the_file_and_both_ways_to_say_labels() -> None:
    mask, classes = scene()
    labels = np.where(mask > 0, 3, 0) + (classes > 0)
    fibres = measured(classes)
    with pytest.raises(MaskError, match=r"--fascicle-labels \(labels=True in Python\)") as caught:
        measure_fascicles(labels, fibres, where="n.png")
    assert caught.value.where == "n.png"
    settings = FascicleSettings(labels=True)
    for bad in (labels / 2, labels[None], labels[1:]):
        with pytest.raises(MaskError) as caught:
            measure_fascicles(bad, fibres, settings=settings, where="n.png")
        assert caught.value.where == "n.png"


def test_pixels_of_all_fascicles_are_those_of_the_mask() -> None:
    mask, classes = scene()
    mask[34:38] = 0  # through a fibre
    found = measure_fascicles(mask, measured(classes), settings=ANY)
    inside = mask > 0
    assert found.pixels == tuple(
        np.count_nonzero(part) for part in (inside, inside & (classes == 2), inside & (classes > 0))
    )
    assert found.totals["fvf"] == found.pixels[2] / found.pixels[0]
