"""Which predicted object is which true one: pairs that overlap, and the best one-to-one choice among them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ranvier.errors import MaskError, SettingsError

__all__ = ["Matches", "Overlaps", "match", "overlaps"]

Integers = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Overlaps:
    """Every pair of a predicted and a true object that share a pixel.

    Attributes
    ----------
    predicted, truth
        Ids of each pair, from 1.
    iou
        Shared pixels / pixels of either (Jaccard 1912).
    n_predicted, n_truth
        How many objects there are in all.
    """

    predicted: Integers
    truth: Integers
    iou: NDArray[np.float64]
    n_predicted: int
    n_truth: int


@dataclass(frozen=True, eq=False)
class Matches:
    """Pairs of ids, each id at most once, and their IoU."""

    predicted: Integers
    truth: Integers
    iou: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.iou.size)


def overlaps(
    predicted: NDArray[np.int32], truth: NDArray[np.int32], *, n_predicted: int, n_truth: int
) -> Overlaps:
    """Find every pair of objects that share a pixel, at a cost that is linear in pixels.

    Parameters
    ----------
    predicted, truth
        Label images of the same shape (rows, columns): 0, or an id up to the number of objects.
    n_predicted, n_truth
        How many objects each has.

    Raises
    ------
    MaskError
        The shapes differ, or an id is out of its range.
    """
    if predicted.shape != truth.shape:
        raise MaskError(
            "prediction and truth differ in shape", seen=f"{predicted.shape} and {truth.shape}"
        )
    for labels, count in ((predicted, n_predicted), (truth, n_truth)):
        if labels.size and not 0 <= labels.min() <= labels.max() <= count:
            raise MaskError(
                "a label is out of its range", seen=f"{labels.min()} to {labels.max()} of {count}"
            )
    one, other = predicted.ravel(), truth.ravel()
    begins = np.ones(one.size, dtype=bool)
    begins[1:] = (one[1:] != one[:-1]) | (other[1:] != other[:-1])
    at = np.flatnonzero(begins)
    length = np.diff(at, append=one.size)
    one, other = one[at].astype(np.int64), other[at].astype(np.int64)
    sizes = [
        np.bincount(ids, weights=length, minlength=count + 1)
        for ids, count in ((one, n_predicted), (other, n_truth))
    ]
    both = (one > 0) & (other > 0)
    pair, where = np.unique(one[both] * (n_truth + 1) + other[both], return_inverse=True)
    shared = np.bincount(where, weights=length[both], minlength=pair.size)
    p, t = np.divmod(pair, n_truth + 1)
    return Overlaps(p, t, shared / (sizes[0][p] + sizes[1][t] - shared), n_predicted, n_truth)


def match(found: Overlaps, threshold: float) -> Matches:
    """Choose pairs so that as many objects as possible are matched, and then the sum of IoU is largest.

    Above an IoU of 0.5 no object has two partners. Below, the pairs fall into small groups, and the best choice in
    each is an assignment problem (Kuhn 1955).

    Parameters
    ----------
    found
        From :func:`overlaps`.
    threshold
        Least IoU of a match, above 0 and at most 1.

    Raises
    ------
    SettingsError
        A threshold out of its range.

    References
    ----------
    Kuhn H.W. (1955). The Hungarian method for the assignment problem. Nav Res Logist Q 2, 83-97.
    """
    if not 0 < threshold <= 1:
        raise SettingsError("must be above 0 and at most 1", where="threshold", seen=threshold)
    near = np.flatnonzero(found.iou >= threshold)
    p, t, iou = found.predicted[near], found.truth[near], found.iou[near]
    nodes = found.n_predicted + found.n_truth
    links = coo_array(
        (np.ones(p.size, dtype=np.int8), (p - 1, t - 1 + found.n_predicted)), shape=(nodes, nodes)
    )
    group = connected_components(links, directed=False)[1][p - 1] if p.size else p
    many = np.bincount(group)[group] > 1 if p.size else np.zeros(0, dtype=bool)
    chosen = [np.flatnonzero(~many)]
    order = np.flatnonzero(many)[np.argsort(group[many], kind="stable")]
    for members in np.split(order, np.flatnonzero(np.diff(group[order])) + 1):
        chosen.append(members[_assigned(p[members], t[members], iou[members])])
    kept = np.sort(np.concatenate(chosen))
    return Matches(p[kept], t[kept], iou[kept])


def _assigned(p: Integers, t: Integers, iou: NDArray[np.float64]) -> Integers:
    """Indices of the best pairs of one group."""
    rows, row = np.unique(p, return_inverse=True)
    cols, col = np.unique(t, return_inverse=True)
    gain = np.zeros((rows.size, cols.size))
    pair = np.full(gain.shape, -1, dtype=np.int64)
    # One more match outweighs any sum of IoU.
    gain[row, col] = min(gain.shape) + 1 + iou
    pair[row, col] = np.arange(p.size)
    best = pair[linear_sum_assignment(gain, maximize=True)]
    kept: Integers = best[best >= 0]
    return kept
