"""Logits of a network of patches -> classes, by its label map."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._patch_plan import PatchPlan
from ranvier.micrograph import CLASS_NAMES


def decided(logits: NDArray[Any], plan: PatchPlan) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """The class of each pixel and how sure it is, of 255.

    Without regions, the label of the greatest logit decides, the first of equals, and the confidence is the softmax
    probability of all labels of its class. With regions, each writes its label over the earlier ones where its
    probability (sigmoid) is over one half; the confidence is that of the least certain of the decisions on the
    way: the region that wrote last, and all later ones that did not.

    Parameters
    ----------
    logits
        Shape (outputs, rows, columns).
    plan
        What the outputs stand for.
    """
    lookup = np.array(plan.classes, dtype=np.uint8)
    values = logits.astype(np.float32)
    if plan.order is None:
        best = np.argmax(logits, axis=0)
        classes = lookup[best]
        values -= values.max(axis=0)
        np.exp(values, out=values)
        share = np.zeros((len(CLASS_NAMES), *best.shape), dtype=np.float32)
        for plane, index in zip(values, plan.classes, strict=True):
            share[index] += plane
        own = np.take_along_axis(share, classes[None].astype(np.intp), axis=0)[0]
        return classes, np.rint(255 * own / share.sum(axis=0)).astype(np.uint8)
    classes = np.zeros(values.shape[1:], dtype=np.uint8)
    sure = np.ones(values.shape[1:], dtype=np.float32)
    for plane, index in zip(values, plan.classes, strict=True):
        probability = _sigmoid(plane)
        inside = probability > 0.5
        classes[inside] = index
        sure = np.where(inside, probability, np.minimum(sure, 1 - probability))
    return classes, np.rint(255 * sure).astype(np.uint8)


def _sigmoid(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """1 / (1 + exp(-x)) without overflow."""
    small = np.exp(-np.abs(values))
    out: NDArray[np.float32] = np.where(values >= 0, 1 / (1 + small), small / (1 + small)).astype(
        np.float32
    )
    return out
