"""What a training minimises."""

from __future__ import annotations

import torch.nn.functional as nnf
from torch import Tensor


def segmentation_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Cross-entropy plus soft Dice over the batch (Milletari et al. 2016), myelin and axon.

    Parameters
    ----------
    logits
        (n, 3, rows, columns).
    classes
        int64 (n, rows, columns).
    """
    entropy = nnf.cross_entropy(logits, classes)
    probabilities = logits.softmax(dim=1)[:, 1:]
    truth = nnf.one_hot(classes, 3).movedim(-1, 1)[:, 1:].to(probabilities.dtype)
    both = (probabilities * truth).sum(dim=(0, 2, 3))
    total = probabilities.sum(dim=(0, 2, 3)) + truth.sum(dim=(0, 2, 3))
    dice = (2 * both + 1) / (total + 1)
    return entropy + (1 - dice).mean()
