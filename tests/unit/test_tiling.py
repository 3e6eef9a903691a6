from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranvier.errors import SettingsError
from ranvier.tiling import Box, cover, plane_shape

STRIDE = 32
UNITS = st.integers(1, 40)


@given(UNITS, UNITS, st.integers(0, 6), st.integers(1, 1200 * 1200))
def test_written_boxes_partition_the_plane(rows, columns, halo, limit):
    plane = (rows * STRIDE, columns * STRIDE)
    seen = np.zeros((rows, columns), dtype=int)
    for tile in cover(plane, stride=STRIDE, halo=halo * STRIDE, max_read_px=limit):
        w = tile.write
        assert all(n % STRIDE == 0 for n in (w.top, w.left, w.bottom, w.right))
        seen[w.top // STRIDE : w.bottom // STRIDE, w.left // STRIDE : w.right // STRIDE] += 1
    assert (seen == 1).all()


@given(UNITS, UNITS, st.integers(0, 6), st.integers(1, 1200 * 1200))
def test_each_tile_reads_its_halo_as_far_as_the_plane_reaches(rows, columns, halo, limit):
    plane, reach = (rows * STRIDE, columns * STRIDE), halo * STRIDE
    smallest = (STRIDE + 2 * reach) ** 2
    for tile in cover(plane, stride=STRIDE, halo=reach, max_read_px=limit):
        assert tile.read == Box(
            max(0, tile.write.top - reach),
            max(0, tile.write.left - reach),
            min(plane[0], tile.write.bottom + reach),
            min(plane[1], tile.write.right + reach),
        )
        assert tile.read.area <= max(limit, smallest)


def test_a_plane_within_the_limit_is_one_tile():
    (tile,) = cover((1024, 1536), stride=32, halo=192, max_read_px=1024 * 1536)
    assert tile.read == tile.write == Box(0, 0, 1024, 1536)


def test_little_is_read_twice():
    tiles = cover((4096, 4096), stride=32, halo=192, max_read_px=1800 * 1800)
    assert sum(t.read.area for t in tiles) < 1.45 * 4096**2


def test_a_long_strip_is_cut_across():
    tiles = cover((224, 30016), stride=32, halo=192, max_read_px=1800 * 1800)
    assert {t.write.shape[0] for t in tiles} == {224}


def test_a_very_large_plane_is_planned_at_once():
    assert len(cover((100_000, 100_000), stride=32, halo=192, max_read_px=1800 * 1800)) < 6000


@pytest.mark.parametrize(
    ("shape", "minimum", "plane"),
    [((1, 1), 128, (128, 128)), ((129, 32), 128, (160, 128)), ((64, 64), 1, (64, 64))],
)
def test_plane_is_a_multiple_of_the_stride(shape, minimum, plane):
    assert plane_shape(shape, 32, minimum) == plane


@pytest.mark.parametrize(
    ("plane", "halo"), [((33, 32), 0), ((32, 32), 5), ((0, 32), 0), ((32, 32), -32)]
)
def test_impossible_geometry_is_refused(plane, halo):
    with pytest.raises(SettingsError, match="multiples of the stride"):
        cover(plane, stride=32, halo=halo, max_read_px=100)


def test_a_box_says_where_it_lies_in_another():
    rows, columns = Box(10, 20, 30, 50).within(Box(5, 5, 100, 100))
    assert (rows, columns) == (slice(5, 25), slice(15, 45))
    assert Box(10, 20, 30, 50).clipped((20, 5)) == Box(10, 5, 20, 5)
