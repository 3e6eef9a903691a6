from __future__ import annotations

import pickle
import time
from pathlib import Path

import numpy as np
import pytest

from ranvier.datasets.bids import read_bids
from ranvier.datasets.folder import read_folder
from ranvier.datasets.phantom import Phantom, PhantomSettings, draw
from ranvier.errors import MaskError, SettingsError
from ranvier.instances import separate
from ranvier.micrograph import Fibres, Instances
from ranvier.tissue import Tissue, TissueSettings, find_tissue

LOOKS = ("TEM", "SEM", "BF", "CARS")
SHOWS_BLANK = {
    "22G-13_40X_23_0001": (0.94, 0.97),
    "23G-15_40X_26_0006": (0.84, 0.97),
    "sub-rat3_sample-data11_SEM": (0.95, 0.99),
    **dict.fromkeys((f"specimen-{x}" for x in "ABCDEFGH"), (0.55, 1.0)),
}
"""Real micrographs in which empty slide, resin or padding is seen, and what share is tissue."""


@pytest.fixture(scope="module", params=LOOKS)
def full(request: pytest.FixtureRequest) -> Phantom:
    return draw(PhantomSettings.typical(request.param, shape=(384, 448), seed=1))


def labels_of(phantom: Phantom) -> Instances:
    return Instances(phantom.axons, phantom.fibres, len(phantom))


def pasted(phantom: Phantom, level: float, noise: float) -> tuple[Instances, np.ndarray, tuple]:
    rows, cols = phantom.fibres.shape
    window = np.s_[101 : 101 + rows, 203 : 203 + cols]
    rng = np.random.default_rng(0)
    canvas = level + noise * rng.standard_normal((2 * rows, 2 * cols))
    pixels = np.clip(canvas, 0, 255).astype(np.uint8)
    pixels[window] = phantom.image.pixels
    planes = [np.zeros(pixels.shape, np.int32) for _ in range(2)]
    planes[0][window], planes[1][window] = phantom.axons, phantom.fibres
    return Instances(planes[0], planes[1], len(phantom)), pixels, window


def test_a_picture_full_of_tissue_is_all_tissue(full: Phantom) -> None:
    labels = labels_of(full)
    by_pixels = find_tissue(labels, pixels=full.image.pixels)
    by_fibres = find_tissue(labels)
    assert (by_pixels.source, by_fibres.source) == ("image", "fibres")
    assert by_pixels.pixels == by_fibres.pixels == full.fibres.size
    assert by_pixels.mask().all()


@pytest.mark.parametrize(
    ("level", "noise"), [(255, 0), (0, 0), (235, 8)], ids=["blank", "black", "noisy"]
)
def test_the_right_part_of_a_larger_canvas(full: Phantom, level: float, noise: float) -> None:
    labels, pixels, window = pasted(full, level, noise)
    tissue = find_tissue(labels, pixels=pixels)
    truth = np.zeros(pixels.shape, bool)
    truth[window] = True
    assert abs(tissue.pixels / truth.sum() - 1) < 0.03
    assert np.count_nonzero(tissue.mask() != truth) < 0.03 * truth.sum()
    assert tissue.mask().sum() == tissue.pixels


def test_deep_pixels_and_other_levels_change_nothing(full: Phantom) -> None:
    labels, pixels, _ = pasted(full, 235, 8)
    eight = find_tissue(labels, pixels=pixels)
    assert np.array_equal(
        find_tissue(labels, pixels=pixels.astype(np.uint16) * 257).grid, eight.grid
    )
    assert find_tissue(labels, pixels=pixels.astype(np.float32) / 255).pixels == pytest.approx(
        eight.pixels, rel=1e-3
    )


def test_without_pixels_tissue_is_the_closing_of_fibres(full: Phantom) -> None:
    labels, _, window = pasted(full, 0, 0)
    tissue = find_tissue(labels)
    share = tissue.pixels / full.fibres.size
    assert 0.9 < share < 1.05
    assert tissue.mask()[window].mean() > 0.9
    assert tissue.mask()[labels.fibres > 0].mean() > 0.98


def disc(shape: tuple[int, int], centre: tuple[int, int], radius: float) -> np.ndarray:
    row, col = np.indices(shape)
    return np.hypot(row - centre[0], col - centre[1]) <= radius


def test_a_vessel_smaller_than_the_least_blank_area_is_tissue() -> None:
    phantom = draw(PhantomSettings.typical("SEM", shape=(512, 512), seed=2))
    typical = 2 * np.sqrt(np.median(np.bincount(phantom.fibres.ravel())[1:]) / np.pi)
    for radius, blank in ((1.2 * typical, False), (6 * typical, True)):
        hole = disc((512, 512), (256, 256), radius)
        pixels = np.where(hole, 250, phantom.image.pixels).astype(np.uint8)
        fibres = np.where(np.isin(phantom.fibres, phantom.fibres[hole]), 0, phantom.fibres)
        axons = np.where(fibres > 0, phantom.axons, 0).astype(np.int32)
        tissue = find_tissue(Instances(axons, fibres.astype(np.int32), 1), pixels=pixels)
        assert tissue.pixels == 512**2 if not blank else not tissue.mask()[256, 256]
        if blank:
            assert tissue.pixels == pytest.approx(512**2 - hole.sum(), rel=0.03)


def test_a_given_mask_is_taken_as_it_is() -> None:
    labels = np.zeros((40, 60), np.int32)
    labels[10:20, 10:20] = 1
    labels[30:36, 50:56] = 2
    instances = Instances(labels, labels, 2)
    mask = np.zeros((40, 60), np.uint8)
    mask[5:25, 5:30] = 255
    tissue = find_tissue(instances, mask=mask, pixels=np.zeros((40, 60)))
    assert (tissue.pixels, tissue.source, tissue.block) == (500, "mask", 1)
    assert np.array_equal(tissue.mask(), mask > 0)
    table = {"centroid_row_px": np.array([14.5, 32.5]), "centroid_col_px": np.array([14.5, 52.5])}
    assert tissue.holds(Fibres(table, instances)).tolist() == [True, False]
    for wrong, text in (
        (mask[:-1], "differ in shape"),
        (np.arange(2400).reshape(40, 60), "values"),
    ):
        with pytest.raises(MaskError, match=text):
            find_tissue(instances, mask=wrong)
    with pytest.raises(MaskError, match="differ in shape"):
        find_tissue(instances, pixels=mask[:-1])


@pytest.mark.parametrize("shape", [(1, 1), (5, 7), (64, 3), (101, 97)])
def test_odd_shapes_and_no_fibre(shape: tuple[int, int]) -> None:
    none = np.zeros(shape, np.int32)
    instances = Instances(none, none, 0)
    assert find_tissue(instances).pixels == 0
    noise = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    found = find_tissue(instances, pixels=noise)
    assert found.mask().shape == shape
    assert found.pixels == found.mask().sum()
    whole = np.ones(shape, np.int32)
    assert find_tissue(Instances(whole, whole, 1), pixels=noise).pixels == whole.size
    assert find_tissue(Instances(whole, whole, 1)).pixels == whole.size


def test_ten_megapixels_are_quick(full: Phantom) -> None:
    labels, pixels, _ = pasted(full, 235, 8)
    times = (4, 4)
    big = Instances(np.tile(labels.axons, times), np.tile(labels.fibres, times), labels.count)
    pixels = np.tile(pixels, times)
    best = min(_seconds(big, pixels) for _ in range(3))
    assert best / pixels.size * 1e7 < 0.3  # a third of this when nothing else runs


def _seconds(labels: Instances, pixels: np.ndarray) -> float:
    start = time.perf_counter()
    find_tissue(labels, pixels=pixels)
    return time.perf_counter() - start


def test_settings_and_tissue_are_plain_values() -> None:
    for name in ("texture", "level", "closing_fibres", "min_side_fibres", "min_width_fibres"):
        with pytest.raises(SettingsError, match=name):
            TissueSettings(**{name: 0})
    tissue = Tissue(0, "fibres", np.zeros((1, 1), bool), 4, (3, 3))
    assert pickle.loads(pickle.dumps(tissue)).shape == (3, 3)


def test_real_micrographs(real_data: Path) -> None:
    found = {}
    for folder, read in (("sem1", read_bids), ("bf_nerve", read_folder), ("tem_pns", read_folder)):
        if not (real_data / folder).is_dir():
            continue
        for annotated in read(real_data / folder):
            micrograph, classes = annotated.load()
            if micrograph.pixels.size > 3e6:
                continue
            tissue = find_tissue(separate(classes), pixels=micrograph.pixels)
            found[annotated.name] = tissue.pixels / classes.size
    if not found:
        pytest.skip(f"none of the datasets is in {real_data}")
    for name, share in found.items():
        low, high = SHOWS_BLANK.get(name, (0.97, 1.0))
        assert low <= share <= high, name
