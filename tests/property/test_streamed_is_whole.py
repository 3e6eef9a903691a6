"""Fibres of planes on disk are those of the same classes in memory, whatever the size of tiles and windows."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from ranvier import _nearest
from ranvier.calibration import PixelSize
from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.instances import InstanceSettings, separate
from ranvier.morphometrics import MeasureSettings, measure
from ranvier.streaming.disk_table import DiskTable
from ranvier.streaming.holding import _Search
from ranvier.streaming.measuring import measure_streamed
from ranvier.streaming.planes import Plane
from ranvier.streaming.separating import separate_streamed
from ranvier.streaming.sheaths import Rounds
from ranvier.tiling import Box

SLOW = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
SIZE = PixelSize(0.13, "option")


def brute_force(axons, row, col):
    """Ways to the nearest axon pixel, the first in raster order of equally near ones, and its label."""
    at_row, at_col = np.nonzero(axons)
    first = ((at_row - row[:, None]) ** 2 + (at_col - col[:, None]) ** 2).argmin(axis=1)
    return at_row[first] - row, at_col[first] - col, axons[at_row[first], at_col[first]]


@dataclass(frozen=True)
class Windows:
    tile: int
    rounds: Rounds
    crop: int


def streamed(classes, windows, *, limits, measuring=None, confidence=None, largest=10**9):
    """Counts, label images, and the table where measuring is asked for."""
    full = Box(0, 0, *classes.shape)
    with TemporaryDirectory() as home, ExitStack() as until:

        def plane(name, values):
            made = until.enter_context(
                Plane(Path(home) / name, values.shape, np.uint8, tile=windows.tile)
            )
            made.write(full, values)
            made.commit()
            return made

        found = separate_streamed(
            plane("classes", classes),
            folder=Path(home),
            until=until,
            settings=limits,
            rounds=windows.rounds,
        )
        labels = found.axons.read(full), found.fibres.read(full)
        if measuring is None:
            return found, labels, {}
        table = until.enter_context(DiskTable(Path(home) / "table", found.count, SIZE))
        measure_streamed(
            found,
            table,
            settings=measuring,
            confidence=None if confidence is None else plane("confidence", confidence),
            window=windows.crop,
            largest=largest,
        )
        return found, labels, {name: table.column(name) for name in table.columns}


def assert_same_fibres(classes, windows, limits):
    whole = separate(classes, settings=limits)
    found, (axons, fibres), _ = streamed(classes, windows, limits=limits)
    assert np.array_equal(axons, whole.axons)
    assert np.array_equal(fibres, whole.fibres)
    for name in ("count", "small_axons", "orphan_myelin_px", "orphan_myelin_count"):
        assert getattr(found, name) == getattr(whole, name), name


def blobs(rng, shape):
    grey = ndimage.gaussian_filter(rng.random(shape), rng.uniform(0.5, 4))
    grey = (grey - grey.min()) / max(np.ptp(grey), 1e-9)
    return np.digitize(grey, [0.35, rng.uniform(0.5, 0.8)]).astype(np.uint8)


def noisy_phantom(rng, shape):
    seed = int(rng.integers(50))
    drawn = draw(PhantomSettings(shape=(160, 160), look="SEM", seed=seed)).classes
    classes = drawn[: shape[0], : shape[1]]
    noise = rng.integers(0, 3, classes.shape)
    return np.where(rng.random(classes.shape) < 0.02, noise, classes).astype(np.uint8)


def pure_noise(rng, shape):
    return rng.choice(3, size=shape, p=[0.5, 0.4, 0.1]).astype(np.uint8)


WINDOWS = st.builds(
    Windows,
    tile=st.integers(3, 60),
    rounds=st.builds(Rounds, window=st.integers(3, 70), many=st.integers(1, 9)),
    crop=st.integers(1, 80),
)
LIMITS = st.builds(
    InstanceSettings,
    min_axon_area=st.integers(0, 12),
    max_gap_px=st.integers(0, 4),
    max_hole_area=st.sampled_from([None, 0, 5, 60]),
)


@settings(max_examples=15, deadline=None, suppress_health_check=SLOW)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(1, 110), st.integers(1, 110)),
    make=st.sampled_from([blobs, noisy_phantom, pure_noise]),
    windows=WINDOWS,
    limits=LIMITS,
    near=st.tuples(st.integers(5, 40), st.integers(2, 4), st.integers(5, 20)),
)
def test_any_classes_in_any_windows_give_the_same_labels(
    seed, shape, make, windows, limits, near, monkeypatch
):
    monkeypatch.setattr(_nearest, "_WINDOW", near[0])
    monkeypatch.setattr(_nearest, "_HALOS", near[1:])
    classes = make(np.random.default_rng(seed), shape)
    assert_same_fibres(classes, windows, limits)


def assert_first_nearest(axons, tile, monkeypatch):
    """In memory and on disk, far pixels get the nearest axon, and of equally near ones the first."""
    monkeypatch.setattr(_nearest, "_HALOS", (1,))
    monkeypatch.setattr(_nearest, "_FEW_FAR", 1.0)
    row, col = np.nonzero(axons == 0)
    expected = brute_force(axons, row, col)
    far = expected[0] ** 2 + expected[1] ** 2 > 1
    state = _nearest.nearest(axons, axons == 0, 0.0)
    with (
        TemporaryDirectory() as home,
        Plane(Path(home) / "a", axons.shape, np.int32, tile=tile) as p,
    ):
        p.write(Box(0, 0, *axons.shape), axons)
        p.commit()
        on_disk = _Search(p)(row, col)
    for want, have, streamed in zip(
        expected, (state.down, state.right, state.owner), on_disk, strict=True
    ):
        assert np.array_equal(have[row, col][far], want[far])
        assert np.array_equal(streamed[far], want[far])


@settings(max_examples=25, deadline=None, suppress_health_check=SLOW)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(2, 40), st.integers(2, 40)),
    share=st.sampled_from([0.002, 0.01, 0.1]),
    tile=st.integers(2, 50),
)
def test_far_myelin_goes_to_the_first_of_equally_near_axons(seed, shape, share, tile, monkeypatch):
    rng = np.random.default_rng(seed)
    axons = np.where(
        rng.random(shape) < share, np.arange(1, 1 + shape[0] * shape[1]).reshape(shape), 0
    )
    axons[rng.integers(shape[0]), rng.integers(shape[1])] = 7
    assert_first_nearest(axons.astype(np.int32), tile, monkeypatch)


@pytest.mark.parametrize("tile", [9, 200])
def test_dozens_of_axons_that_are_equally_near(tile, monkeypatch):
    """On the circle of radius 65 around a pixel there are 36 others; 5525 is a sum of two squares in 48 ways."""
    for squared, count in ((65**2, 36), (5525, 48)):
        row, col = np.indices((151, 151))
        circle = (row - 75) ** 2 + (col - 75) ** 2 == squared
        assert np.count_nonzero(circle) == count
        labels = np.random.default_rng(0).permutation(count) + 1
        axons = np.zeros((151, 151), dtype=np.int32)
        axons[circle] = labels
        assert_first_nearest(axons, tile, monkeypatch)


@settings(max_examples=3, deadline=None, suppress_health_check=SLOW)
@given(crop=st.integers(1, 150), shape_model=st.sampled_from(["circle", "ellipse"]))
def test_rows_of_the_table_are_the_same(crop, shape_model):
    windows = Windows(tile=50, rounds=Rounds(window=90, many=20), crop=crop)
    classes = draw(PhantomSettings(shape=(180, 220), look="TEM", seed=4)).classes
    sure = np.random.default_rng(0).integers(85, 256, classes.shape).astype(np.uint8)
    measuring = MeasureSettings(axon_shape=shape_model)
    expected = measure(separate(classes), pixel_size=SIZE, settings=measuring, confidence=sure)
    assert len(expected) > 10
    _, _, table = streamed(
        classes, windows, limits=InstanceSettings(), measuring=measuring, confidence=sure
    )
    assert list(table) == list(expected.table)
    for name, values in expected.table.items():
        assert table[name].dtype == values.dtype, name
        if values.dtype.kind == "f":
            np.testing.assert_allclose(table[name], values, rtol=1e-12, atol=0, err_msg=name)
        else:
            assert np.array_equal(table[name], values), name


def ring_of(shape, outer, inner):
    """One fibre nearly as large as the image, small fibres in its axon and around it."""
    row, col = np.indices(shape)
    away = np.hypot(row - shape[0] / 2, col - shape[1] / 2)
    classes = np.zeros(shape, dtype=np.uint8)
    classes[away < outer] = 1
    classes[away < inner] = 2
    classes[away < inner - 12] = 0
    for r, c in ((60, 60), (5, 5), (20, 100), (70, 40)):
        small = np.hypot(row - r, col - c)
        classes[small < 8] = 1
        classes[small < 5] = 2
    return classes


@pytest.mark.parametrize("hole", [None, 50])
@pytest.mark.parametrize("many", [1, 4])
def test_a_fibre_larger_than_every_window_is_whole(hole, many):
    classes = ring_of((130, 125), 56, 40)
    limits = InstanceSettings(max_hole_area=hole)
    windows = Windows(tile=11, rounds=Rounds(window=13, many=many), crop=9)
    assert_same_fibres(classes, windows, limits)
    expected = measure(separate(classes, settings=limits), pixel_size=SIZE)
    _, _, table = streamed(classes, windows, limits=limits, measuring=MeasureSettings())
    for name, values in expected.table.items():
        np.testing.assert_allclose(table[name], values, rtol=1e-9, atol=1e-9, err_msg=name)


def test_a_sheath_is_followed_through_many_rounds():
    """A long tail of myelin is shared by two axons: their border lies many windows from either."""
    classes = np.zeros((40, 400), dtype=np.uint8)
    classes[15:25, 5:395] = 1
    classes[12:28, 2:12] = 2
    classes[10:30, 388:398] = 2
    windows = Windows(tile=16, rounds=Rounds(window=10, many=2), crop=8)
    assert_same_fibres(classes, windows, InstanceSettings())


def test_a_fibre_too_large_to_be_cut_out_keeps_its_areas():
    classes = ring_of((130, 125), 56, 40)
    whole = measure(separate(classes), pixel_size=SIZE).table
    windows = Windows(tile=32, rounds=Rounds(window=32, many=4), crop=16)
    _, _, table = streamed(
        classes, windows, limits=InstanceSettings(), measuring=MeasureSettings(), largest=4000
    )
    large = int(np.argmax(whole["fibre_area_um2"]))
    assert table["merged"][large]
    assert np.isnan(table["axon_perimeter_um"][large])
    same = "axon_area_um2 fibre_area_um2 centroid_row_px axon_diameter_um g_ratio nearest_neighbour_distance_um"
    for name in same.split():
        assert table[name][large] == pytest.approx(whole[name][large], rel=1e-9), name
    others = np.arange(len(whole["id"])) != large
    assert np.array_equal(table["axon_perimeter_um"][others], whole["axon_perimeter_um"][others])


@pytest.mark.parametrize("fill", [0, 1, 2])
def test_planes_of_one_class(fill):
    classes = np.full((30, 45), fill, dtype=np.uint8)
    assert_same_fibres(classes, Windows(7, Rounds(8, 2), 5), InstanceSettings())
