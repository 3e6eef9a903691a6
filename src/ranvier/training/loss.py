"""What a training minimises."""

from __future__ import annotations

import torch
import torch.nn.functional as nnf
from torch import Tensor

from ranvier.training.settings import LossSettings

_DEFAULT = LossSettings()


def segmentation_loss(logits: Tensor, classes: Tensor, settings: LossSettings = _DEFAULT) -> Tensor:
    """Cross-entropy plus soft Dice (Milletari et al. 2016) of myelin and axon, of equal weight.

    Parameters
    ----------
    logits
        (n, 3, rows, columns).
    classes
        int64 (n, rows, columns); or float (n, 3, rows, columns), the probabilities to learn: then see
        :func:`soft_loss`.
    settings
        With ``batch_dice`` the Dice is that of the batch as one image.
    """
    if classes.is_floating_point():
        return soft_loss(logits, classes, settings)
    entropy = nnf.cross_entropy(logits, classes)
    probabilities = logits.softmax(dim=1)[:, 1:]
    truth = nnf.one_hot(classes, 3).movedim(-1, 1)[:, 1:].to(probabilities.dtype)
    over = (0, 2, 3) if settings.batch_dice else (2, 3)
    both = (probabilities * truth).sum(dim=over)
    total = probabilities.sum(dim=over) + truth.sum(dim=over)
    dice = (2 * both + settings.smooth) / (total + settings.smooth)
    return entropy + (1 - dice).mean()


def soft_loss(logits: Tensor, targets: Tensor, settings: LossSettings = _DEFAULT) -> Tensor:
    """Cross-entropy plus soft Dice against probabilities, of equal weight.

    The Dice's product of prediction and target would be least wrong at 0 or 1 whatever the target, so the lesser of
    the two stands in its place: ``2 sum(min(p, t)) / sum(p + t)``, which is 1 at p = t only and the usual soft Dice
    where targets are 0 or 1 (Wang et al. 2023, Dice semimetric losses).

    Parameters
    ----------
    logits, targets
        (n, 3, rows, columns).
    settings
        As for :func:`segmentation_loss`.
    """
    entropy = nnf.cross_entropy(logits, targets)
    probabilities, truth = logits.softmax(dim=1)[:, 1:], targets[:, 1:]
    over = (0, 2, 3) if settings.batch_dice else (2, 3)
    both = torch.minimum(probabilities, truth).sum(dim=over)
    total = probabilities.sum(dim=over) + truth.sum(dim=over)
    dice = (2 * both + settings.smooth) / (total + settings.smooth)
    return entropy + (1 - dice).mean()


def training_loss(
    outputs: Tensor | tuple[Tensor, ...], classes: Tensor, settings: LossSettings = _DEFAULT
) -> Tensor:
    """Loss of what a network gives in training mode, computed in float32.

    Under deep supervision the loss at resolution *i* (0 the finest) weighs 1 / 2**i, the lowest of several nothing,
    and the weights sum to 1 (Isensee et al. 2021); classes are brought down to it by the nearest pixel,
    probabilities by their mean.

    Parameters
    ----------
    outputs
        Logits (n, 3, rows, columns), or those of several resolutions, the finest first.
    classes
        int64 (n, rows, columns), or float (n, 3, rows, columns).
    settings
        As for :func:`segmentation_loss`.
    """
    if isinstance(outputs, Tensor):
        return segmentation_loss(outputs.float(), classes, settings)
    weights = supervision_weights(len(outputs))
    pairs = [(w, o) for w, o in zip(weights, outputs, strict=True) if w > 0]
    losses = [
        w * segmentation_loss(o.float(), _brought_down(classes, o), settings) for w, o in pairs
    ]
    return torch.stack(losses).sum()


def supervision_weights(resolutions: int) -> tuple[float, ...]:
    """Weight of each resolution under deep supervision, the finest first; they sum to 1."""
    raw = [0.5**i for i in range(resolutions)]
    if resolutions > 1:
        raw[-1] = 0.0
    return tuple(w / sum(raw) for w in raw)


def _brought_down(classes: Tensor, logits: Tensor) -> Tensor:
    size = logits.shape[2:]
    if classes.shape[-2:] == size:
        return classes
    if classes.is_floating_point():
        return nnf.interpolate(classes, size=list(size), mode="area")
    small = nnf.interpolate(classes[:, None].float(), size=list(size), mode="nearest-exact")
    return small[:, 0].long()
