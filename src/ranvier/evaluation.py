"""How well a segmentation agrees with what a person drew.

Scores are made in three steps, so that per-image and pooled figures come from one path: ``confusion`` validates
and counts, counts of several images are summed, ``scores`` reduces them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import MaskError
from ranvier.micrograph import CLASS_NAMES, Segmentation


@dataclass(frozen=True)
class Confusion:
    """Pixels by true and predicted class: the sufficient statistics of every overlap score.

    Attributes
    ----------
    counts
        ``counts[t][p]`` pixels of true class t that were given class p.
    """

    counts: tuple[tuple[int, ...], ...]

    def __add__(self, other: Confusion) -> Confusion:
        """Pool two images."""
        return Confusion(
            tuple(
                tuple(a + b for a, b in zip(mine, theirs, strict=True))
                for mine, theirs in zip(self.counts, other.counts, strict=True)
            )
        )


def confusion(predicted: NDArray[np.uint8], truth: NDArray[np.uint8]) -> Confusion:
    """Count the pixels of each pair of classes.

    Parameters
    ----------
    predicted, truth
        uint8 of the same shape (rows, columns): 0 background, 1 myelin, 2 axon.

    Raises
    ------
    MaskError
        The shapes differ or there are other values.
    """
    if predicted.shape != truth.shape:
        raise MaskError(
            "prediction and truth differ in shape", seen=f"{predicted.shape} and {truth.shape}"
        )
    n = len(CLASS_NAMES)
    for name, classes in (("prediction", predicted), ("truth", truth)):
        if classes.size and (classes.min() < 0 or classes.max() >= n):
            raise MaskError(
                f"{name} has values other than 0, 1, 2",
                seen=f"{classes.min()} to {classes.max()}",
                fix="Convert masks with ranvier.masks first",
            )
    pairs = np.bincount((truth.astype(np.intp) * n + predicted).ravel(), minlength=n * n)
    return Confusion(tuple(tuple(int(v) for v in row) for row in pairs.reshape(n, n)))


def scores(counts: Confusion) -> dict[str, float]:
    """Dice (Dice 1945) and IoU (Jaccard 1912) of axon and of myelin.

    ``Dice = 2 |P and T| / (|P| + |T|)`` and ``IoU = |P and T| / |P or T|``. A class that is
    neither in the truth nor in the prediction scores NaN: there was nothing to get right or wrong.
    """
    table = np.array(counts.counts, dtype=np.float64)
    result: dict[str, float] = {}
    for index, name in enumerate(CLASS_NAMES):
        if index == 0:
            continue
        both = table[index, index]
        total = table[index].sum() + table[:, index].sum()
        result[f"dice_{name}"] = float(2 * both / total) if total else float("nan")
        result[f"iou_{name}"] = float(both / (total - both)) if total else float("nan")
    return result


def evaluate(
    predicted: Segmentation | NDArray[np.uint8], truth: Segmentation | NDArray[np.uint8]
) -> dict[str, float]:
    """Score one segmentation against the truth.

    Returns
    -------
    scores
        ``dice_axon``, ``iou_axon``, ``dice_myelin``, ``iou_myelin``; see :func:`scores`.

    Raises
    ------
    MaskError
        As for :func:`confusion`.
    """
    classes = [s.classes if isinstance(s, Segmentation) else s for s in (predicted, truth)]
    return scores(confusion(classes[0], classes[1]))
