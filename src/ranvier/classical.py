"""Axons and myelin without learning: threshold, morphology and watershed, as they were found before deep learning.

1. Grey levels are stretched, and inverted where myelin is bright, so that it is dark.
2. The typical width of the sheath is measured in the image (:func:`ranvier._grey_sheaths.sheath_width`); every other
   length is in proportion to it. The image is shrunk to a common width.
3. Dark pixels are those below the local threshold of Sauvola and Pietikäinen [1]_.
4. Bright regions are parted by the watershed of their distance transform [2]_. Axons are those regions, whole or
   in parts, that dark pixels enclose best, that are the least dented and that stand out most clearly
   (:mod:`ranvier._enclosures`).
5. Myelin is the dark pixels near an axon that are darker than half way from the axon's sheath to the axon.

With polarity ``auto`` both polarities are tried on a sample, and the one with more and better rings is taken. Methods
of this kind for nerves are described in [3]_, [4]_ and [5]_; this is none of them to the letter.

References
----------
.. [1] Sauvola, J., Pietikäinen, M. (2000). Adaptive document image binarization. Pattern Recognition 33:225-236.
.. [2] Vincent, L., Soille, P. (1991). Watersheds in digital spaces: an efficient algorithm based on immersion
   simulations. IEEE Transactions on Pattern Analysis and Machine Intelligence 13:583-598.
.. [3] Romero, E., Cuisenaire, O., Denef, J. F., Delbeke, J., Macq, B., Veraart, C. (2000). Automatic morphometry of
   nerve histological sections. Journal of Neuroscience Methods 97:111-122.
.. [4] More, H. L., Chen, J., Gibson, E., Donelan, J. M., Beg, M. F. (2011). A semi-automated method for identifying and
   measuring myelinated nerve fibers in scanning electron microscope images. Journal of Neuroscience Methods
   201:149-158.
.. [5] Zaimi, A., Duval, T., Gasecka, A., Côté, D., Stikov, N., Cohen-Adad, J. (2016). AxonSeg: open source software for
   axon and myelin segmentation and morphometric analysis. Frontiers in Neuroinformatics 10:37.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ranvier._classical_settings import ClassicalSettings, Polarity
from ranvier._enclosures import Axons, Scene, find_axons
from ranvier._grey_sheaths import Floats, Levels, levels_of, sample, sheath_width, structure
from ranvier.micrograph import AXON, MYELIN, Micrograph
from ranvier.preprocess import resample

__all__ = ["ClassicalSettings", "Found", "Polarity", "find_fibres"]

_LEAST_EDGE = 16
"""Smaller images cannot show an axon with its sheath."""
_OUTSIDE = (1.2, 2.0)
"""Where the outside of a ring is looked for: from and to, in widths of the sheath from the axon."""
Side = Literal["dark", "bright"]
Progress = Callable[[int, int], None]


@dataclass(frozen=True, eq=False)
class Found:
    """What was found in a micrograph, and on what grounds.

    Attributes
    ----------
    classes
        uint8, shape of the micrograph: 0 background, 1 myelin, 2 axon.
    polarity
        Whether myelin was taken as dark or bright; None where the image is flat, noise or too small.
    sheath_px
        Typical width of the sheath in pixels of the micrograph; likewise.
    """

    classes: NDArray[np.uint8]
    polarity: Side | None = None
    sheath_px: float | None = None

    @property
    def notes(self) -> tuple[str, ...]:
        """The same in plain words."""
        if self.sheath_px is None:
            return ("too flat, too noisy or too small to show fibres: nothing was looked for",)
        return (f"myelin taken as {self.polarity}, sheaths about {self.sheath_px:.1f} px wide",)


def find_fibres(
    micrograph: Micrograph,
    settings: ClassicalSettings | None = None,
    *,
    progress: Progress | None = None,
) -> Found:
    """Find axons and myelin without learning; the module's docstring says how.

    Parameters
    ----------
    micrograph
        The image. Its pixel size, where it is known, tells where to look for the width of the sheath, and how far.
        About 60 bytes a pixel are held.
    settings
        All parameters.
    progress
        Called with (pixels done, pixels in all).
    """
    settings = settings or ClassicalSettings()
    classes = np.zeros(micrograph.shape, dtype=np.uint8)
    levels = levels_of(micrograph.pixels)
    if levels is None or min(micrograph.shape) < _LEAST_EDGE:
        return Found(classes)
    view = _best_view(micrograph, levels, settings)
    if view is None:
        return Found(classes)
    _tell(progress, micrograph, 0.5)
    if view.whole is None:
        scene, axons = _seen(
            levels.stretched(micrograph.pixels, bright=view.bright), view, settings
        )
    else:
        scene, axons = view.whole
    _tell(progress, micrograph, 0.9)
    small = _classes(scene, axons, settings)
    _tell(progress, micrograph, 1.0)
    side: Side = "bright" if view.bright else "dark"
    return Found(_enlarged(small, micrograph.shape), side, view.sheath)


def _tell(progress: Progress | None, micrograph: Micrograph, share: float) -> None:
    if progress is not None:
        total = micrograph.shape[0] * micrograph.shape[1]
        progress(round(share * total), total)


@dataclass(frozen=True, eq=False)
class _View:
    """One polarity of an image, and what it shows.

    ``whole`` is what was found in it, where the sample was the whole image.
    """

    bright: bool
    sheath: float
    evidence: float = 0.0
    whole: tuple[Scene, Axons] | None = None


def _best_view(micrograph: Micrograph, levels: Levels, settings: ClassicalSettings) -> _View | None:
    """The polarity that is set, or else the one that shows more rings; dark if neither does, None in noise."""
    few = sample(micrograph.pixels, settings.width_sample_px)
    many = sample(micrograph.pixels, settings.sample_px)
    views = []
    for bright in (False, True):
        if settings.polarity not in ("auto", "bright" if bright else "dark"):
            continue
        blocks = [levels.stretched(part, bright=bright) for part in few]
        sheath = sheath_width(blocks, settings, pixel_size=micrograph.pixel_size)
        if structure(blocks, sheath) < settings.least_structure:
            continue
        view = _View(bright, sheath)
        if settings.polarity == "auto":
            blocks = [levels.stretched(part, bright=bright) for part in many]
            view = _judged(view, blocks, settings)
        views.append(view)
    return max(views, key=lambda view: view.evidence, default=None)


def _judged(view: _View, blocks: list[Floats], settings: ClassicalSettings) -> _View:
    """How much speaks for a polarity, in a sample of the image."""
    seen = [_seen(block, view, settings) for block in blocks]
    evidence = sum(_evidence(*one) * view.sheath / one[0].sheath for one in seen)
    return replace(view, evidence=evidence, whole=seen[0] if len(seen) == 1 else None)


def _seen(grey: Floats, view: _View, settings: ClassicalSettings) -> tuple[Scene, Axons]:
    """Find axons in an image in which myelin is dark, at the working scale."""
    scale = min(1.0, settings.working_sheath_px / view.sheath)
    rows, columns = (max(1, round(edge * scale)) for edge in grey.shape)
    scene = Scene.of(resample(grey, (rows, columns)), view.sheath * scale, settings)
    return scene, find_axons(scene, settings)


def _evidence(scene: Scene, axons: Axons) -> float:
    """The sum over rings of diameter x contrast x quality^4, if it is brighter again outside the ring.

    What counts is the share of the contrast that there is at the outer side. Cells that lie dark in bright surroundings
    are rings of the other polarity with no outer side.
    """
    from scipy import ndimage

    if axons.area.size == 0:
        return 0.0
    away, nearest = ndimage.distance_transform_edt(axons.labels == 0, return_indices=True)
    near, far = (edge * scene.sheath for edge in _OUTSIDE)
    at = np.flatnonzero((away.ravel() >= near) & (away.ravel() <= far))
    owner = axons.labels[nearest[0].ravel()[at], nearest[1].ravel()[at]]
    size = axons.area.size + 1
    count = np.bincount(owner, minlength=size)[1:]
    outside = np.bincount(owner, scene.grey.ravel()[at], size)[1:] / np.maximum(count, 1)
    contrast = axons.inside - axons.ring
    share = np.clip((outside - axons.ring) / np.maximum(contrast, 1e-6), 0, 1)
    # Between axons that lie close there is no outside.
    share[count == 0] = 1
    return float((np.sqrt(axons.area) * contrast * axons.quality**4 * share).sum())


def _classes(scene: Scene, axons: Axons, settings: ClassicalSettings) -> NDArray[np.uint8]:
    """Give axons their islands, and find their myelin."""
    from scipy import ndimage

    classes = np.zeros(scene.dark.shape, dtype=np.uint8)
    if axons.area.size == 0:
        return classes
    labels = _apart(axons.labels)
    axon = _with_islands(labels > 0, (2 * scene.sheath) ** 2)
    away, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    owner = axons.labels[nearest[0], nearest[1]]
    inside, ring = np.append(0.0, axons.inside), np.append(0.0, axons.ring)
    border = (ring + settings.membrane_level * (inside - ring)).astype(np.float32)
    dark = _with_islands(scene.dark, (scene.sheath / 2) ** 2) & (scene.smooth < border[owner])
    # Where two axons touch, their sheaths are too thin to be seen.
    dark |= axons.labels > 0
    classes[dark & (away <= settings.sheath_depth * scene.sheath)] = MYELIN
    classes[axon] = AXON
    return classes


def _apart(labels: NDArray[np.int32]) -> NDArray[np.int32]:
    """Take from axons the pixels at which they touch another of a lower number."""
    from scipy import ndimage

    free = np.iinfo(np.int32).max
    lowest = ndimage.minimum_filter(np.where(labels > 0, labels, free), size=3)
    return np.where(lowest < labels, 0, labels).astype(np.int32)


def _with_islands(mask: NDArray[np.bool_], largest: float) -> NDArray[np.bool_]:
    """Fill holes up to a size, in pixels."""
    from scipy import ndimage

    holes, count = ndimage.label(~mask)
    area = np.bincount(holes.ravel(), minlength=count + 1)
    edge = np.concatenate([holes[0], holes[-1], holes[:, 0], holes[:, -1]])
    fill = area <= largest
    fill[0] = False
    fill[edge] = False
    filled: NDArray[np.bool_] = mask | fill[holes]
    return filled


def _enlarged(classes: NDArray[np.uint8], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Bring classes to another shape: at each pixel the class that has most of it."""
    if classes.shape == shape:
        return classes
    shares = [resample((classes == kind).astype(np.float32), shape) for kind in (MYELIN, AXON)]
    out = np.zeros(shape, dtype=np.uint8)
    out[shares[0] > 1 - shares[0] - shares[1]] = MYELIN
    out[(shares[1] >= shares[0]) & (shares[1] > 1 - shares[0] - shares[1])] = AXON
    return out
