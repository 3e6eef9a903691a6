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
    wanted = np.arange(owners.size)
    if ids is not None:
        wanted = np.flatnonzero(np.isin(owners, np.fromiter(ids, np.int64)))
    found: dict[int, list[Ring]] = {}
    for loop in wanted.tolist():
        ring = corners[first[loop] : first[loop + 1]]
        simple = _simple(ring) if again[loop] else (ring,)
        found.setdefault(int(owners[loop]), []).extend(simple)
    return {owner: _polygons(simple) for owner, simple in found.items()}


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


def _polygons(simple: list[Ring]) -> list[Polygon]:
    """Give each hole to the outer ring around it."""
    areas = [_area(ring) for ring in simple]
    outer = [i for i, area in enumerate(areas) if area > 0]
    parts: dict[int, Polygon] = {i: [simple[i]] for i in outer}
    smallest_first = sorted(outer, key=lambda i: areas[i])
    for i, ring in enumerate(simple):
        if areas[i] < 0:
            around = outer[0]
            if len(outer) > 1:
                point = _beside(ring)
                around = next(o for o in smallest_first if _holds(simple[o], point))
            parts[around].append(ring)
    return list(parts.values())


def _area(ring: Ring) -> int:
    """Signed area in pixels, exact (Green's theorem)."""
    row, col = ring[:, 0].astype(np.int64), ring[:, 1].astype(np.int64)
    return int(np.sum(col * (np.roll(row, -1) - row)))


def _beside(ring: Ring) -> tuple[float, float]:
    """Centre of the object's pixel on the right hand of a ring's first step."""
    (row, col), (to_row, to_col) = ring[:2].tolist()
    down, right = np.sign(to_row - row), np.sign(to_col - col)
    return float(row + (down + right) / 2), float(col + (right - down) / 2)


def _holds(ring: Ring, point: tuple[float, float]) -> bool:
    """Whether a pixel's centre lies inside a ring, by the number of sides to the right of it."""
    row, col = ring[:, 0], ring[:, 1]
    after = np.roll(row, -1)
    beyond = (np.minimum(row, after) < point[0]) & (np.maximum(row, after) > point[0])
    return int(np.count_nonzero(beyond & (col > point[1]))) % 2 == 1
