"""Networks that are shown patches of one size, as those of nnU-Net: a sliding window over the whole image.

Their instance normalisation averages over what they are shown, so a patch must have the size that the network was
trained on, and a prediction depends on where patches lie. Two ways of laying them:

- *faithful*, as nnU-Net 2 does it (Isensee et al. 2021): patches begin at evenly spaced places no further apart
  than half a patch, each is also shown mirrored along every combination of the axes that the training allowed, and
  logits are added up in 16 bits, weighted by a Gaussian of a standard deviation of an eighth of the patch;
- *fast*: the same with patches that overlap by an eighth only, and not mirrored.

Both begin as nnU-Net does: the image is cropped to the box of its pixels that are not 0, normalised as a whole, and,
where it is smaller than a patch, surrounded by zeros.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ranvier._patch_classes import decided
from ranvier._patch_input import Planes, as_channels, nonzero_box, normalised
from ranvier._patch_plan import PatchPlan
from ranvier.backends import Backend
from ranvier.errors import BackendError, SettingsError
from ranvier.micrograph import Array
from ranvier.preprocess import resample, zoomed_shape
from ranvier.tiling import Box

Progress = Callable[[int, int], None]
_GREATEST_WEIGHT = 10.0
"""Of a patch's Gaussian, so that its tails stand above the least 16-bit number."""
_ROWS_AT_A_TIME = 512


@dataclass(frozen=True)
class Window:
    """How patches are laid over an image.

    Attributes
    ----------
    step
        Largest distance between the beginnings of neighbours, as a share of the patch; above 0, at most 1.
    mirror
        Whether patches are also shown mirrored, along the axes that the model allows.
    each_fold
        Whether the logits of each fold are added up on their own, and averaged at the end: their rounding to 16 bits
        is then nnU-Net's, and they take as many times the memory.
    least_weight
        What the Gaussian is raised to where it is lower. In nnU-Net it is not: a patch's corners weigh so little that
        16 bits hold their logits to some per cent only, which shows in the corners of an image.
    """

    step: float
    mirror: bool
    each_fold: bool = False
    least_weight: float = 0.01

    def __post_init__(self) -> None:
        if not 0 < self.step <= 1:
            raise SettingsError("the step must be over 0 and at most 1", seen=self.step)


FAITHFUL = Window(step=0.5, mirror=True, each_fold=True, least_weight=0.0)
"""What nnU-Net 2's own predictor does by default."""
FAST = Window(step=0.875, mirror=False)


def predict_patchwise(
    pixels: Array,
    backend: Backend,
    plan: PatchPlan,
    *,
    window: Window = FAST,
    zoom: float = 1.0,
    progress: Progress | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Give every pixel its class, and say how sure that is.

    Parameters
    ----------
    pixels
        Shape (rows, columns), or (rows, columns, 3) for red, green and blue.
    backend
        Runs the graph on patches of the plan's size.
    plan
        What the model says of itself.
    window
        Faithful, fast, or another.
    zoom
        The image is resampled by this factor once it is cropped, and the logits are resampled back.
    progress
        Called with (pixels done, pixels in all) after each patch.

    Returns
    -------
    classes, confidence
        uint8, shape (rows, columns): 0 background, 1 myelin, 2 axon; and 255 times how probable that is (see
        :func:`ranvier._patch_classes.decided`). Outside of the box of pixels that are not 0 it is background with
        confidence 255.

    Raises
    ------
    SettingsError
        The pixels do not go with the model's channels or normalisation.
    """
    image = as_channels(pixels, plan)
    shape = (image.shape[1], image.shape[2])
    box = nonzero_box(image)
    rows, columns = box.within(Box(0, 0, *shape))
    seen = _resampled(image[:, rows, columns], zoomed_shape(box.shape, zoom))
    logits = window_logits(
        normalised(seen, plan.channels), backend, plan, window=window, progress=progress
    )
    logits = _resampled(logits, box.shape)
    classes = np.zeros(shape, dtype=np.uint8)
    confidence = np.full(shape, 255, dtype=np.uint8)
    for top in range(0, box.shape[0], _ROWS_AT_A_TIME):
        block = logits[:, top : top + _ROWS_AT_A_TIME]
        here = slice(rows.start + top, rows.start + top + block.shape[1])
        classes[here, columns], confidence[here, columns] = decided(block, plan)
    return classes, confidence


def _resampled(planes: Array, shape: tuple[int, int]) -> Array:
    """Bring each plane to another shape; planes that have it already are left as they are."""
    if planes.shape[1:] == shape:
        return planes
    return np.stack([resample(plane.astype(np.float32), shape) for plane in planes])


def window_logits(
    image: Planes,
    backend: Backend,
    plan: PatchPlan,
    *,
    window: Window,
    progress: Progress | None = None,
) -> NDArray[np.float16]:
    """Slide the network over a normalised image.

    Parameters
    ----------
    image
        Shape (channels, rows, columns).
    backend, plan, window, progress
        As for :func:`predict_patchwise`.

    Returns
    -------
    logits
        Shape (outputs, rows, columns), accumulated in 16 bits.

    Raises
    ------
    BackendError
        Logits are too great for 16 bits.
    """
    shape = (image.shape[1], image.shape[2])
    before = [max(0, p - n) // 2 for p, n in zip(plan.patch, shape, strict=True)]
    whole = [max(p, n) for p, n in zip(plan.patch, shape, strict=True)]
    folds = len(plan.folds) if window.each_fold else 1
    total = np.zeros((folds * len(plan.outputs), *whole), dtype=np.float16)
    weights = np.zeros(whole, dtype=np.float16)
    gaussian = patch_weights(plan.patch, window.least_weight)
    axes = plan.mirror_axes if window.mirror else ()
    boxes = [
        Box(top, left, top + plan.patch[0], left + plan.patch[1])
        for top in starts(whole[0], plan.patch[0], window.step)
        for left in starts(whole[1], plan.patch[1], window.step)
    ]
    for done, box in enumerate(boxes, start=1):
        seen = _mirrored_mean(_cut(image, box, before), backend, axes)
        seen = seen.reshape(-1, len(plan.outputs), *plan.patch)
        seen = (seen if window.each_fold else seen.mean(axis=0)).reshape(-1, *plan.patch) * gaussian
        rows, columns = box.within(Box(0, 0, *whole))
        with np.errstate(over="ignore"):
            total[:, rows, columns] += seen
        weights[rows, columns] += gaussian
        if progress is not None:
            progress(shape[0] * shape[1] * done // len(boxes), shape[0] * shape[1])
    if not np.isfinite(total).all():
        raise BackendError("the network's logits are too great for 16 bits, or not finite")
    total /= weights
    parts = total.reshape(folds, len(plan.outputs), *whole)
    mean = parts[0]
    for part in parts[1:]:
        mean += part
    if folds > 1:
        mean /= folds
    inside: NDArray[np.float16] = mean[
        :, before[0] : before[0] + shape[0], before[1] : before[1] + shape[1]
    ]
    return inside


def starts(length: int, patch: int, step: float) -> list[int]:
    """Where patches begin along one axis: evenly spaced from end to end, no further apart than the step.

    Parameters
    ----------
    length
        Of the image, at least that of the patch.
    patch
        Length of a patch.
    step
        Largest distance, as a share of the patch.
    """
    room = length - patch
    gaps = math.ceil(room / (patch * step))
    return [round(room / gaps * i) for i in range(gaps + 1)] if gaps else [0]


def patch_weights(patch: tuple[int, int], least: float = 0.0) -> NDArray[np.float16]:
    """A Gaussian about a patch's middle, of a standard deviation of an eighth of its edges, greatest 10.

    In 16 bits; what would be 0 there takes the least weight that is not. It is the response of a Gaussian filter
    (cut off at four standard deviations) to one bright pixel, which separates into rows and columns.
    """
    from scipy.ndimage import gaussian_filter1d

    lines = []
    for edge in patch:
        line = np.zeros(edge)
        line[edge // 2] = 1
        lines.append(gaussian_filter1d(line, edge / 8, mode="constant"))
    bell = np.outer(*lines)
    weights: NDArray[np.float16] = (bell / (bell.max() / _GREATEST_WEIGHT)).astype(np.float16)
    weights[weights == 0] = weights[weights != 0].min()
    return np.maximum(weights, np.float16(least))


def _cut(image: Planes, box: Box, before: list[int]) -> Planes:
    """A patch of the image, with zeros where it reaches beyond; ``before`` is how many lie in front of the image."""
    spans = [
        (box.top - before[0], box.bottom - before[0], image.shape[1]),
        (box.left - before[1], box.right - before[1], image.shape[2]),
    ]
    found = tuple(slice(max(0, a), min(b, n)) for a, b, n in spans)
    around = [(max(0, -a), max(0, b - n)) for a, b, n in spans]
    return np.pad(image[(slice(None), *found)], [(0, 0), *around])


def _mirrored_mean(patch: Planes, backend: Backend, axes: tuple[int, ...]) -> Planes:
    """Logits (folds x outputs, rows, columns) of a patch, averaged over its mirror images."""
    total: Planes | None = None
    views = list(_subsets(axes))
    for view in views:
        flipped = tuple(axis + 1 for axis in view)
        seen = backend.logits(np.ascontiguousarray(np.flip(patch, flipped))[None])[0]
        back = np.flip(seen, flipped)
        total = back.copy() if total is None else total + back
    if total is None:
        raise SettingsError("a patch must be shown at least once")
    return total if len(views) == 1 else total / np.float32(len(views))


def _subsets(axes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    """No axis, each alone, and all their combinations."""
    return itertools.chain.from_iterable(
        itertools.combinations(axes, n) for n in range(len(axes) + 1)
    )
