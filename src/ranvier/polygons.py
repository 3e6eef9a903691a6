"""Outlines -> simple polygons with holes, in whole pixels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from ranvier.contours import Outlines
from ranvier.micrograph import Array

__all__ = ["Polygon", "Ring", "rings"]

Ring = NDArray[np.int32]
"""Corners of a ring, shape (corners, 2), row and column; not closed."""
Polygon = list[Ring]
"""The outer ring and then its holes."""


def rings(outlines: Outlines, ids: Iterable[int] | None = None) -> dict[int, list[Polygon]]:
    """Polygons of objects, on the grid of pixel corners.

    Corners on a straight line are left out. A loop that passes twice through a corner is split
    there, so that every ring is simple: a hole may touch its outer ring or another hole in a
    corner, as the Simple Features standard allows (ISO 19125-1), and no more. With columns as x
    and rows as y, outer rings have a positive signed area and holes a negative one, and an
    object's areas add up to the number of its pixels.

    Parameters
    ----------
    outlines
        From :func:`ranvier.contours.trace`.
    ids
        Which objects; None for all.

    Returns
    -------
    dict
        Id to the polygons of its 4-connected parts, ids ascending; without those that have no
        pixels.
    """
    corners, first, again = _corners(outlines)
    owners = outlines.owner[outlines.starts[:-1]]
    around = _outer_loops(outlines).tolist()
    wanted = np.arange(owners.size)
    if ids is not None:
        wanted = np.flatnonzero(np.isin(owners, np.fromiter(ids, np.int64)))
    outer: dict[int, Ring] = {}
    holes: dict[int, list[Ring]] = {}
    for loop in wanted.tolist():
        ring = corners[first[loop] : first[loop + 1]]
        for simple in _simple(ring) if again[loop] else (ring,):
            if loop == around[loop] and (not again[loop] or _area(simple) > 0):
                outer[loop] = simple
            else:
                holes.setdefault(around[loop], []).append(simple)
    found: dict[int, list[Polygon]] = {}
    for loop, ring in outer.items():
        found.setdefault(int(owners[loop]), []).append([ring, *holes.get(loop, ())])
    return found


def _outer_loops(outlines: Outlines) -> NDArray[np.int64]:
    """Of each loop, the outer loop of its 4-connected part: itself, or the one that its hole lies in.

    From the pixel on the left of a hole, its row is followed to the left for as long as it is of the
    object. The edge where that ends is on the outer loop, or on a hole further left, of the same part.
    """
    row, col, starts = outlines.row, outlines.col, outlines.starts
    count = starts.size - 1
    around = np.arange(count, dtype=np.int64)
    if not count:
        return around
    rise = outlines.row[outlines.following] - row
    hole = np.add.reduceat(col.astype(np.int64) * rise, starts[:-1]) < 0  # Green's theorem
    if not hole.any():
        return around
    loop = np.repeat(around, np.diff(starts))
    width = int(col.max()) + 1
    up = np.flatnonzero(rise < 0)  # the left edge of the pixel that is to the right and above
    key = (row[up].astype(np.int64) - 1) * width + col[up]
    order = np.argsort(key)
    down = np.flatnonzero((rise > 0) & hole[loop])  # the right edge of a pixel left of a hole
    down = down[np.lexsort((col[down], loop[down]))]
    holes, leftmost = np.unique(loop[down], return_index=True)
    start = down[leftmost]
    pixel = row[start].astype(np.int64) * width + col[start] - 1
    met = np.searchsorted(key[order], pixel, side="right") - 1
    around[holes] = loop[up[order[met]]]
    while not np.array_equal(nearer := around[around], around):
        around = nearer
    return around


def _corners(outlines: Outlines) -> tuple[Ring, Array, NDArray[np.bool_]]:
    """Corners of every loop; where each loop starts among them; and which loops pass one twice."""
    row, col, loops = outlines.row, outlines.col, outlines.starts.size - 1
    across = row == row[outlines.following]  # every edge runs along a row or along a column
    turns = np.flatnonzero(across != across[outlines.preceding])
    corners = np.stack((row[turns], col[turns]), axis=1)
    first = np.searchsorted(turns, outlines.starts)
    again = np.zeros(loops, dtype=bool)
    if turns.size:
        loop = np.repeat(np.arange(loops), np.diff(first))
        width = int(col.max()) + 1
        place = corners[:, 0].astype(np.int64) * width + corners[:, 1]
        order = np.argsort(place, kind="stable")  # loops ascend in it, where places are equal
        place, loop = place[order], loop[order]
        again[loop[1:][(np.diff(place) == 0) & (np.diff(loop) == 0)]] = True
    return corners, first, again


def _simple(ring: Ring) -> Iterator[Ring]:
    """Split a ring wherever it comes back to a corner."""
    path: list[tuple[int, int]] = []
    at: dict[tuple[int, int], int] = {}
    for row, col in ring.tolist():
        back = at.get((row, col))
        if back is not None:
            yield np.array(path[back:], dtype=np.int32)
            for corner in path[back:]:
                del at[corner]
            del path[back:]
        at[row, col] = len(path)
        path.append((row, col))
    yield np.array(path, dtype=np.int32)


def _area(ring: Ring) -> int:
    """Signed area in pixels, exact (Green's theorem)."""
    row, col = ring[:, 0].astype(np.int64), ring[:, 1].astype(np.int64)
    return int(np.sum(col * (np.roll(row, -1) - row)))
