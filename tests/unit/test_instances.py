from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ranvier import _nearest, _sheaths
from ranvier.calibration import PixelSize
from ranvier.errors import MaskError, SettingsError
from ranvier.instances import InstanceSettings, separate
from ranvier.masks import classes_from_mask, classes_from_masks
from ranvier.morphometrics import measure

ANY_SIZE = InstanceSettings(min_axon_area=1)
CODES = {".": 0, "m": 1, "A": 2}


def drawn(*rows: str) -> np.ndarray:
    return np.array([[CODES[c] for c in row] for row in rows], dtype=np.uint8)


def disc(shape: tuple[int, int], centre: tuple[float, float], radius: float) -> np.ndarray:
    row, col = np.indices(shape)
    return np.hypot(row - centre[0], col - centre[1]) <= radius


def fibre(classes: np.ndarray, centre: tuple[float, float], axon: float, outer: float) -> None:
    classes[disc(classes.shape, centre, outer) & (classes != 2)] = 1
    classes[disc(classes.shape, centre, axon)] = 2


def test_ids_follow_raster_order_of_the_first_pixel() -> None:
    classes = drawn("....A", "A...A", "A..A.", "..AA.", ".....", "AA..A")
    found = separate(classes, settings=ANY_SIZE)
    assert found.axons.dtype == found.fibres.dtype == np.int32
    assert found.axons.tolist() == [
        [0, 0, 0, 0, 1],
        [2, 0, 0, 0, 1],
        [2, 0, 0, 1, 0],
        [0, 0, 1, 1, 0],
        [0, 0, 0, 0, 0],
        [3, 3, 0, 0, 4],
    ]


def test_ids_are_contiguous_after_small_axons_are_dropped() -> None:
    found = separate(drawn("A.AA.A.AA"), settings=InstanceSettings(min_axon_area=2))
    assert found.small_axons == 2
    assert found.axons.tolist() == [[0, 0, 1, 1, 0, 0, 0, 2, 2]]
    assert found.count == 2
    assert np.array_equal(found.axons, found.fibres)


def test_axons_that_touch_at_a_corner_are_one() -> None:
    assert separate(drawn("AA..", "AA..", "..AA", "..AA"), settings=ANY_SIZE).count == 1


def test_fibres_that_touch_at_a_corner_stay_two() -> None:
    classes = drawn("mmm...", "mAm...", "mmm...", "...mmm", "...mAm", "...mmm")
    found = separate(classes, settings=ANY_SIZE)
    assert found.count == 2
    assert np.bincount(found.fibres.ravel())[1:].tolist() == [9, 9]


def test_hole_in_an_axon_is_filled_whatever_it_holds() -> None:
    classes = drawn("AAAA", "A.mA", "A..A", "AAAA")
    assert (separate(classes, settings=ANY_SIZE).axons == 1).all()
    kept = separate(classes, settings=InstanceSettings(min_axon_area=1, fill_holes=False))
    assert np.count_nonzero(kept.axons) == 12
    assert np.count_nonzero(kept.fibres) == 13


def test_hole_at_the_image_edge_is_open() -> None:
    assert np.count_nonzero(separate(drawn("AAA", "A.A", "A.A"), settings=ANY_SIZE).axons) == 7


def test_an_axon_inside_another_is_not_swallowed() -> None:
    classes = np.zeros((21, 21), np.uint8)
    classes[2:19, 2:19] = 2
    classes[4:17, 4:17] = 0
    classes[9:12, 9:12] = 2
    found = separate(classes, settings=ANY_SIZE)
    assert found.count == 2
    assert np.count_nonzero(found.axons == 2) == 9
    dropped = separate(classes, settings=InstanceSettings(min_axon_area=10))
    assert dropped.count == 1
    assert np.count_nonzero(dropped.axons == 1) == 17 * 17


def test_smallness_is_judged_with_holes_filled() -> None:
    classes = np.pad(drawn("AAA", "A.A", "AAA"), 1)
    assert separate(classes, settings=InstanceSettings(min_axon_area=9)).count == 1
    assert separate(classes, settings=InstanceSettings(min_axon_area=10)).count == 0


def test_smallest_area_in_um2_needs_a_pixel_size() -> None:
    settings = InstanceSettings(min_axon_area=1, min_axon_area_um2=0.09)
    classes = drawn("AAAAAAAAA.AAAAAAAA")
    assert separate(classes, settings=settings).count == 2
    assert separate(classes, settings=settings, pixel_size=PixelSize(0.1, "option")).count == 1


def test_concave_axon_keeps_its_sheath_though_another_holds_its_centroid() -> None:
    classes = np.zeros((60, 60), np.uint8)
    big, inner = disc((60, 60), (30, 30), 25), disc((60, 60), (30, 30), 17)
    classes[disc((60, 60), (30, 30), 28)] = 1
    classes[disc((60, 60), (30, 30), 14)] = 0
    classes[big & ~inner] = 2
    classes[26:35, 30:] = 0  # a C, open to the right
    fibre(classes, (30, 30), 5, 9)
    found = separate(classes)
    assert found.count == 2
    assert found.axons[30, 30] == found.fibres[30, 30] == 2
    rows, cols = np.nonzero(found.axons == 1)
    assert found.axons[round(rows.mean()), round(cols.mean())] == 2
    assert np.array_equal(found.fibres == 2, disc((60, 60), (30, 30), 9))
    assert found.fibres[30, 3] == 1
    assert found.orphan_myelin_px == 0


def test_two_axons_share_one_sheath_half_way() -> None:
    classes = np.zeros((31, 61), np.uint8)
    classes[3:28, 3:58] = 1
    classes[10:21, 10:21] = classes[10:21, 40:51] = 2
    found = separate(classes)
    assert set(found.fibres[15, 3:30]) == {1}
    assert set(found.fibres[15, 31:58]) == {2}
    sizes = np.bincount(found.fibres.ravel())[1:]
    assert sizes.sum() == 25 * 55
    assert abs(int(sizes[0]) - int(sizes[1])) <= 25  # the middle column is a tie


@pytest.mark.parametrize("gap", [0, 1, 2, 3, 7])
def test_closed_sheath_belongs_to_its_axon_however_far_it_shrank(gap: int) -> None:
    classes = np.zeros((61, 61), np.uint8)
    classes[20 - gap - 3 : 40 + gap + 3, 20 - gap - 3 : 40 + gap + 3] = 1
    classes[20 - gap : 40 + gap, 20 - gap : 40 + gap] = 0
    classes[20:40, 20:40] = 2
    found = separate(classes)
    assert np.count_nonzero(found.fibres) == (26 + 2 * gap) ** 2  # the gap is filled
    assert found.orphan_myelin_px == 0


@pytest.mark.parametrize(("gap", "reached"), [(0, True), (1, True), (2, True), (3, False)])
def test_open_sheath_beyond_a_gap(gap: int, reached: bool) -> None:
    classes = np.zeros((41, 41), np.uint8)
    classes[10:30, 10:30] = 2
    classes[10:30, 30 + gap : 33 + gap] = 1  # a sheath on one side only
    found = separate(classes)
    assert found.orphan_myelin_px == (0 if reached else 60)
    assert np.count_nonzero(found.fibres) == 400 + (60 if reached else 0)
    as_um = InstanceSettings(max_gap_um=gap * 0.1)
    assert separate(classes, settings=as_um, pixel_size=PixelSize(0.1, "option")).count == 1
    orphans = separate(
        classes, settings=as_um, pixel_size=PixelSize(0.1, "option")
    ).orphan_myelin_px
    assert orphans == 0


def g_ratios(classes: np.ndarray) -> list[float]:
    table = measure(separate(classes)).table
    return [round(float(g), 4) for g in table["g_ratio"]]


@pytest.mark.parametrize("overlap", [0, 2, 5, 8, 10])
@pytest.mark.parametrize("turn", [np.array, np.fliplr, np.rot90])
def test_thick_and_thin_sheath_that_touch_keep_their_g_ratios(
    overlap: int, turn: Callable[..., np.ndarray]
) -> None:
    classes = np.zeros((220, 340), np.uint8)
    thin = (110, 100 + 80 + 40 - overlap)
    for centre, outer in (((110, 100), 80), (thin, 40)):
        classes[disc(classes.shape, centre, outer)] = 1
    for centre, axon in (((110, 100), 50), (thin, 30)):
        classes[disc(classes.shape, centre, axon)] = 2
    assert sorted(g_ratios(turn(classes).copy())) == pytest.approx([0.625, 0.75], rel=0.01)


def test_unmyelinated_axon_beside_a_thick_sheath_takes_none_of_it() -> None:
    classes = np.zeros((120, 160), np.uint8)
    fibre(classes, (60, 60), 24, 44)
    alone = np.count_nonzero(classes)
    classes[disc(classes.shape, (60, 111), 6)] = 2  # one pixel away
    found = separate(classes)
    assert found.count == 2
    sizes = np.bincount(found.fibres.ravel())
    assert sizes[1] == pytest.approx(alone, abs=3)
    assert np.isnan(measure(found).table["g_ratio"][1])


def test_outer_part_of_a_thick_sheath_is_not_the_nearer_axons() -> None:
    classes = np.zeros((160, 240), np.uint8)
    fibre(classes, (80, 80), 20, 60)
    fibre(classes, (80, 160), 10, 17)  # its membrane is 10 px from the thick one's
    found = separate(classes)
    assert np.array_equal(found.fibres == 1, disc(classes.shape, (80, 80), 60))
    assert np.array_equal(found.fibres == 2, disc(classes.shape, (80, 160), 17))


def test_sheath_thicker_than_any_window_reaches() -> None:
    classes = np.zeros((900, 1000), np.uint8)
    fibre(classes, (450, 430), 60, 420)
    fibre(classes, (450, 905), 30, 55)
    found = separate(classes)
    assert found.orphan_myelin_px == 0
    differ = (found.fibres == 1) != disc(classes.shape, (450, 430), 420)
    assert np.count_nonzero(differ) <= 3  # where the two touch


@pytest.mark.parametrize("window", [7, 16, 64])
def test_the_windows_have_no_influence(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    classes = np.zeros((150, 170), np.uint8)
    for centre in rng.uniform(0, 160, (40, 2)):
        fibre(classes, tuple(centre), rng.uniform(3, 6), rng.uniform(7, 14))
    classes[140:150, 0:40] = 1
    whole = separate(classes)
    monkeypatch.setattr(_nearest, "_WINDOW", window)
    monkeypatch.setattr(_nearest, "_HALOS", (2, 5))
    for module in (_nearest, _sheaths):
        monkeypatch.setattr(module, "_BAND", 9)
    monkeypatch.setattr(_sheaths, "_PAIRS", 11)
    differ = separate(classes).fibres != whole.fibres
    assert differ.sum() <= 0.002 * classes.size  # pixels at equal distances of two axons


def test_large_holes_may_stay_open() -> None:
    classes = np.zeros((40, 60), np.uint8)
    classes[5:35, 5:35] = 2
    classes[10:14, 10:14] = 0
    classes[20:30, 20:30] = 0
    small = InstanceSettings(max_hole_area=16)
    assert np.count_nonzero(separate(classes, settings=small).axons) == 900 - 100
    um = InstanceSettings(max_hole_area_um2=0.99)
    size = PixelSize(0.1, "option")
    assert np.count_nonzero(separate(classes, settings=um, pixel_size=size).axons) == 900 - 100
    um = InstanceSettings(max_hole_area_um2=1.0)
    assert np.count_nonzero(separate(classes, settings=um, pixel_size=size).axons) == 900


def test_myelin_across_background_is_an_orphan() -> None:
    classes = drawn("AA...mm", "AA...mm")
    found = separate(classes, settings=ANY_SIZE)
    assert np.array_equal(found.fibres, found.axons)
    assert (found.orphan_myelin_px, found.orphan_myelin_count) == (4, 1)
    near = separate(drawn("AA..mm", "AA..mm"), settings=ANY_SIZE)
    assert near.fibres.tolist() == [[1, 1, 0, 0, 1, 1]] * 2
    none = InstanceSettings(min_axon_area=1, max_gap_px=0)
    assert separate(drawn("AA.mm"), settings=none).orphan_myelin_px == 2
    assert separate(drawn("AAmm"), settings=none).orphan_myelin_px == 0


def test_gap_is_not_a_bridge_between_pieces_of_myelin() -> None:
    found = separate(drawn("AAmm.mm"), settings=ANY_SIZE)
    assert found.fibres.tolist() == [[1, 1, 1, 1, 0, 0, 0]]
    assert found.orphan_myelin_px == 2


def test_gap_inside_a_sheath_that_touches_a_neighbour_still_belongs_inside() -> None:
    classes = np.zeros((50, 90), np.uint8)
    fibre(classes, (25, 25), 12, 20)
    ring = disc(classes.shape, (25, 25), 13.5) & (classes == 1)
    classes[ring] = 0  # a shrinkage gap of one pixel or two
    fibre(classes, (25, 64), 12, 19)
    found = separate(classes)
    assert found.fibres[25, 43] == 1
    assert found.fibres[25, 50] == 2
    assert found.axons[25, 25] == found.fibres[25, 38] == 1
    assert (found.fibres[ring] == 1).all()


def test_background_between_two_fibres_belongs_to_none() -> None:
    classes = np.zeros((9, 13), np.uint8)
    classes[1:8, 1:12] = 1
    classes[3:6, 3:5] = classes[3:6, 8:10] = 2
    classes[4, 6] = 0
    found = separate(classes, settings=InstanceSettings(min_axon_area=1, max_gap_px=0))
    assert found.fibres[4, 6] == 0


@pytest.mark.parametrize(
    ("fill", "count", "orphans"),
    [(0, 0, 0), (1, 0, 12), (2, 1, 0)],
    ids=["empty", "myelin", "axon"],
)
def test_one_class_only(fill: int, count: int, orphans: int) -> None:
    found = separate(np.full((3, 4), fill, np.uint8))
    assert (found.count, found.orphan_myelin_px) == (count, orphans)
    assert found.axons.shape == found.fibres.shape == (3, 4)
    assert (found.fibres == count).all()


@pytest.mark.parametrize(("value", "count"), [(0, 0), (1, 0), (2, 1)])
def test_image_of_one_pixel(value: int, count: int) -> None:
    assert separate(np.array([[value]], np.uint8), settings=ANY_SIZE).count == count


@pytest.mark.parametrize("turn", [np.fliplr, np.flipud, np.rot90, np.transpose])
def test_only_ties_depend_on_the_direction_of_the_image(turn: Callable[..., np.ndarray]) -> None:
    rng = np.random.default_rng(5)
    classes = np.zeros((160, 200), np.uint8)
    for centre in rng.uniform(10, 150, (40, 2)):
        fibre(classes, tuple(centre), rng.uniform(3, 6), rng.uniform(7, 13))
    one, other = separate(classes), separate(turn(classes).copy())
    new = np.zeros(one.count + 1, np.int32)
    new[turn(one.axons)] = other.axons
    assert np.array_equal(new[turn(one.axons)], other.axons)
    differ = new[turn(one.fibres)] != other.fibres
    assert differ.sum() < 0.01 * (one.fibres > 0).sum()
    assert one.orphan_myelin_px == other.orphan_myelin_px


def test_more_axons_than_uint16_holds() -> None:
    classes = np.zeros((540, 540), np.uint8)
    classes[::2, ::2] = 2
    found = separate(classes, settings=InstanceSettings(min_axon_area=1, max_gap_px=0))
    assert found.count == 72_900
    assert found.axons[-2, -2] == 72_900
    assert np.array_equal(found.axons[::2, ::2].ravel(), np.arange(1, 72_901))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 4), np.int32),
        np.zeros((4, 4), bool),
        np.zeros((4, 4, 3), np.uint8),
        np.zeros((0, 4), np.uint8),
        np.full((4, 4), 255, np.uint8),
        [[0, 1]],
    ],
)
def test_classes_of_another_kind_are_refused(bad: object) -> None:
    with pytest.raises(MaskError):
        separate(bad)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "bad",
    [
        {"min_axon_area": -1},
        {"min_axon_area": 1.5},
        {"max_gap_px": True},
        {"max_gap_px": -1},
        {"min_axon_area_um2": float("nan")},
        {"min_axon_area_um2": -0.1},
    ],
)
def test_settings_out_of_range_are_refused(bad: dict[str, float]) -> None:
    with pytest.raises(SettingsError, match=next(iter(bad))):
        InstanceSettings(**bad)  # type: ignore[arg-type]


TRUTH = np.array([[0, 0, 1], [1, 2, 2]], np.uint8)


@pytest.mark.parametrize(
    "levels",
    [
        np.array([0, 127, 255], np.uint8),
        np.array([0, 128, 255], np.uint8),
        np.array([0, 1, 2], np.uint8),
        np.array([0, 1, 2], np.int64),
        np.array([0, 32767, 65535], np.uint16),
        np.array([0, 127, 255], np.float32),
        np.array([0, 0.5, 1], np.float64),
    ],
)
def test_combined_masks(levels: np.ndarray) -> None:
    classes = classes_from_mask(levels[TRUTH])
    assert classes.dtype == np.uint8
    assert np.array_equal(classes, TRUTH)
    assert np.array_equal(classes_from_mask(np.stack([levels[TRUTH]] * 3, axis=2)), TRUTH)


@pytest.mark.parametrize("absent", [0, 1, 2])
def test_combined_mask_without_one_class(absent: int) -> None:
    truth = np.array([[c for c in (0, 1, 2) if c != absent] * 4], np.uint8)
    assert np.array_equal(classes_from_mask(np.array([0, 127, 255], np.uint8)[truth]), truth)


@pytest.mark.parametrize("levels", [(0, 1), (0, 255), (0, 127), (False, True), (0.0, 1.0)])
def test_separate_masks(levels: tuple[float, float]) -> None:
    values = np.array(levels)
    axon, myelin = values[(TRUTH == 2).astype(int)], values[(TRUTH > 0).astype(int)]
    assert np.array_equal(classes_from_masks(axon, myelin), TRUTH)  # axon wins where both are


def test_separate_masks_may_be_blank_or_full() -> None:
    none, full = np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8)
    assert (classes_from_masks(none, none) == 0).all()
    assert (classes_from_masks(none, full) == 1).all()
    assert (classes_from_masks(full, none) == 2).all()


@pytest.mark.parametrize("quality", [95, 75, 50])
def test_masks_that_went_through_jpeg(quality: int) -> None:
    truth = np.zeros((120, 120), np.uint8)
    fibre(truth, (60, 60), 30, 45)

    def jpeg(grey: np.ndarray) -> np.ndarray:
        file = io.BytesIO()
        Image.fromarray(grey).save(file, "JPEG", quality=quality)
        with Image.open(file) as image:
            return np.asarray(image)

    combined = jpeg(np.array([0, 127, 255], np.uint8)[truth])
    assert len(np.unique(combined)) > 3
    assert np.mean(classes_from_mask(combined) == truth) > 0.999
    pair = (jpeg((truth == c).astype(np.uint8) * 255) for c in (2, 1))
    assert np.mean(classes_from_masks(*pair) == truth) > 0.999


def test_half_of_the_maximum_belongs_to_a_mask() -> None:
    axon = np.array([[0, 0, 127, 128, 255, 255, 255, 255]], np.uint8)
    classes = classes_from_masks(axon, np.zeros_like(axon))
    assert classes.tolist() == [[0, 0, 0, 2, 2, 2, 2, 2]]


def test_stray_greys_go_to_the_nearest_level() -> None:
    mask = np.array(
        [[0] * 20 + [127, 64] * 10 + [255] * 20 + [127, 191, 192, 255, 0, 63]], np.uint8
    )
    assert classes_from_mask(mask)[0, 38:40].tolist() == [1, 1]
    assert classes_from_mask(mask)[0, -6:].tolist() == [1, 1, 2, 2, 0, 0]


PHOTO = np.random.default_rng(0).normal(120, 40, (64, 64)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    "bad",
    [
        np.array([[0, 1, 2, 3, 7]], np.uint8),
        np.array([[0, 1, 2, 3]], np.uint8),
        np.array([[0, 1, 255]], np.uint8),
        np.array([[0, 1, 2, 255]], np.uint8),
        np.array([[0, 85, 170, 255]], np.uint8),
        np.array([[0, 1000]], np.uint16),
        np.arange(200, dtype=np.uint16).reshape(10, 20),
        PHOTO,
        PHOTO / np.float32(255),
    ],
)
def test_values_of_another_kind_are_refused_and_listed(bad: np.ndarray) -> None:
    with pytest.raises(MaskError, match="values"):
        classes_from_mask(bad)
    with pytest.raises(MaskError, match="values"):
        classes_from_masks(bad, np.zeros(bad.shape, np.uint8))


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((0, 3)),
        np.zeros(5),
        np.full((2, 2), np.nan),
        np.array([[-1, 0]]),
        np.array([["a", "b"]]),
        np.arange(12, dtype=np.uint8).reshape(2, 2, 3),
        np.zeros((2, 2), bool),
    ],
)
def test_arrays_that_are_no_mask_are_refused(bad: np.ndarray) -> None:
    with pytest.raises(MaskError):
        classes_from_mask(bad)


def test_errors_name_the_file_and_the_values() -> None:
    with pytest.raises(MaskError, match=r"m\.png.*0, 1, 2, 3, 7"):
        classes_from_mask(np.array([[0, 1, 2, 3, 7]], np.uint8), where="m.png")
    with pytest.raises(MaskError, match=r"differ in shape.*\(2, 2\) and \(2, 3\)"):
        classes_from_masks(np.zeros((2, 2), bool), np.zeros((2, 3), bool))
    with pytest.raises(MaskError, match="one class"):
        classes_from_masks(np.array([[0, 127, 255]], np.uint8), np.zeros((1, 3), bool))


def test_between_sheaths_of_equal_thickness_the_border_is_half_way() -> None:
    row, col = np.mgrid[:120, :220]
    one, other = np.hypot(row - 60, col - 60), np.hypot(row - 60, col - 126)
    angle = np.arctan2(row - 60, col - 60)
    thick = np.where(abs(angle) > 0.7 * np.pi, 4, 12)  # one sheath is thin on its far side
    classes = ((one <= 25 + thick) | (other <= 37)).astype(np.uint8)
    classes[(one <= 25) | (other <= 25)] = 2
    found = separate(classes)
    between = (classes == 1) & (one < 45) & (other < 45) & (abs(one - other) > 1.5)
    assert (found.fibres[between] == np.where(one < other, 1, 2)[between]).all()


@pytest.mark.parametrize("row", [300, 690, 720, 760, 800])
def test_a_wide_gap_is_bridged_wherever_it_lies(row: int) -> None:
    rows, cols = np.mgrid[:1000, :600]
    distance, angle = np.hypot(rows - row, cols - 300), np.arctan2(rows - row, cols - 300)
    classes = ((distance > 110) & (distance <= 118) & (abs(angle - np.pi / 2) < 0.3)).astype(
        np.uint8
    )
    classes[distance <= 10] = 2
    found = separate(classes, settings=InstanceSettings(max_gap_px=105))
    assert found.orphan_myelin_px == 0
    assert np.count_nonzero(found.fibres) == np.count_nonzero(classes)
