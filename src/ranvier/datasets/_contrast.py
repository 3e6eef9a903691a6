"""A scene in no look that there is: every kind of tissue at a grey level and with a grain of its own, at random.

Networks that learned from drawings of any contrast find the same anatomy in images of contrasts that they never saw
(Billot et al., "SynthSeg: Segmentation of brain MRI scans of any contrast and resolution without retraining", Medical
Image Analysis 86 (2023)). What stays is what a fibre is in every look: an axon, a sheath around it that differs from
it, and ground that the sheath can be told from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ranvier.datasets._looks import (
    Brush,
    Optics,
    blurred,
    fibre_rim,
    levels,
    mixed,
    noisy,
    split_sheaths,
    with_fibres,
)
from ranvier.datasets._scene import Layer, Scene

_FROM_AXON = 35.0
_FROM_GROUND = 25.0
"""Least difference in grey levels of myelin from axoplasm and from ground."""
_EXTREME = 0.75
"""Share of drawings whose myelin is darker than axoplasm and ground, or brighter than both, for certain."""
_AS_AXON = 0.4
"""Share of drawings whose ground is about as bright as axoplasm, as in most micrographs."""


def any_contrast(rng: np.random.Generator, scene: Scene, optics: Optics) -> NDArray[np.uint8]:
    """Paint a scene with levels and textures at random.

    Parameters
    ----------
    rng
        Every random number comes from it.
    scene
        What there is.
    optics
        Noise, blur and debris.

    Returns
    -------
    grey
        uint8, shape (rows, columns).
    """
    brush = Brush(rng, scene.shape)
    myelin = rng.choice((rng.uniform(15, 110), rng.uniform(130, 240)))
    axon = _apart(rng, myelin, _FROM_AXON)
    ground = _apart(rng, myelin, _FROM_GROUND)
    if rng.random() < _EXTREME:
        while (ground - myelin) * (axon - myelin) < 0:
            ground = _apart(rng, myelin, _FROM_GROUND)
    if rng.random() < _AS_AXON:
        ground = axon + rng.normal(0, 10)
    image = ground + _grain(brush)
    threads = brush.threads(rng.uniform(4, 14), rng.uniform(0.7, 1.3))
    image = image + rng.normal(0, 30) * threads * brush.patches(rng.uniform(8, 24), -0.2)
    for _ in range(int(rng.integers(3))):
        # Collagen, empty space, other tissue: of any level, that of myelin among them.
        elsewhere = brush.patches(rng.uniform(6, 50), rng.uniform(0.2, 1.6))
        image = mixed(image, rng.uniform(0, 255) + _grain(brush), rng.uniform(0.4, 1) * elsewhere)
    image = mixed(image, rng.uniform(0, 255) + _grain(brush), scene.body)
    image = mixed(image, rng.uniform(0, 255), rng.uniform(0, 0.8) * scene.body_rim)
    image = mixed(image, axon + rng.normal(0, 20) + _grain(brush), scene.bare)
    image = mixed(image, rng.uniform(0, 255), rng.uniform(0, 0.8) * scene.bare_rim)
    image = image + rng.normal(0, 25) * fibre_rim(scene)
    axoplasm = axon + rng.normal(0, 12) * scene.tone + _grain(brush)
    axoplasm = mixed(axoplasm, rng.uniform(0, 255), rng.uniform(0, 0.8) * scene.organelles)
    sheath = myelin + rng.normal(0, 7) * scene.tone + _grain(brush)
    sheath = mixed(sheath, axon, rng.uniform(0, 0.6) * split_sheaths(brush, scene))
    image = with_fibres(image, sheath, axoplasm, scene)
    image = blurred(np.asarray(image, np.float32), optics) * brush.field(rng.uniform(0, 0.15))
    if optics.debris:
        specks = brush.patches(3, 4.0 - 1.2 * optics.debris, 0.05)
        image = mixed(image, rng.uniform(0, 255), specks)
    return levels(noisy(brush, image, optics))


def _apart(rng: np.random.Generator, level: float, least: float) -> float:
    """A grey level that is at least so far from another one."""
    while abs((drawn := rng.uniform(5, 250)) - level) < least:
        pass
    return float(drawn)


def _grain(brush: Brush) -> Layer:
    """Fine and coarse texture."""
    rng = brush.rng
    fine = rng.uniform(1, 12) * brush.cloud(float(np.exp(rng.uniform(0, 1.4))))
    coarse = rng.uniform(1, 14) * brush.cloud(float(np.exp(rng.uniform(1.4, 3.5))))
    return np.asarray(fine + coarse, np.float32)
