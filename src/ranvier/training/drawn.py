"""Drawn micrographs to learn from beside real ones: looks, fibres and sheaths of which there are no real labels.

Each is a phantom (:mod:`ranvier.datasets.phantom`), in turn of TEM, SEM, bright field and CARS, whose fibres, tissue
and optics are drawn at random from ranges that are wider than those of any one tissue. Every second one is of no look
that there is: its grey levels and textures are random, too. Their truth is exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import numpy as np

from ranvier.datasets.phantom import Look, Phantom, PhantomSettings, draw
from ranvier.training.augment import log_uniform

__all__ = ["COUNT", "drawings", "varied"]

COUNT = 64
_EDGE = 512
_LOOKS: tuple[Look, ...] = get_args(Look)
_NARROWEST_PX = 6.0
_FIRST_SEED = 50_000
"""Far from the seeds of phantoms that anything is measured on."""


def varied(
    look: Look, rng: np.random.Generator, *, edge: int = _EDGE, seed: int
) -> PhantomSettings:
    """Settings of a phantom of a look, all but the look at random.

    Axons are 18 to 45 pixels wide in the mean, g-ratios 0.5 to 0.78, a quarter to three quarters of the tissue is
    fibre; noise, blur, debris, shapes and the share of fibres without myelin vary as widely.

    Parameters
    ----------
    look
        "TEM", "SEM", "BF" or "CARS".
    rng
        Every random number but the phantom's own comes from it.
    edge
        Rows and columns.
    seed
        The phantom's own.
    """
    mean_um = log_uniform((1.0, 4.0), rng)
    pixel_um = mean_um / log_uniform((18.0, 45.0), rng)
    changes: dict[str, Any] = {
        "pixel_size_um": pixel_um,
        "diameter_law": ("gamma", "log-normal")[int(rng.integers(2))],
        "diameter_mean_um": mean_um,
        "diameter_sd_um": mean_um * rng.uniform(0.25, 0.6),
        "diameter_min_um": max(0.3 * mean_um, _NARROWEST_PX * pixel_um),
        "diameter_max_um": mean_um * rng.uniform(2.0, 3.5),
        "g_ratio_mean": rng.uniform(0.5, 0.78),
        "g_ratio_sd": rng.uniform(0.03, 0.1),
        "fibre_fraction": rng.uniform(0.25, 0.75),
        "irregularity": rng.uniform(0.2, 0.7),
        "aspect_range": (1.0, rng.uniform(1.5, 3.0)),
        "alignment": rng.uniform(0.0, 1.0),
        "touching_share": rng.uniform(0.3, 1.0),
        "debris": rng.uniform(0.0, 0.9),
        "noise": log_uniform((2.0, 20.0), rng),
        "blur": rng.uniform(0.4, 1.6),
    }
    if look != "CARS":
        changes["unmyelinated_share"] = rng.uniform(0.1, 0.85)
    return PhantomSettings.typical(look, shape=(edge, edge), seed=seed, **changes)


def drawings(
    rng: np.random.Generator, *, count: int = COUNT, edge: int = _EDGE
) -> Iterator[Phantom]:
    """Draw phantoms of all looks in turn, every second one at random contrast; half a second each.

    Parameters
    ----------
    rng
        The same generator gives the same phantoms.
    count
        How many.
    edge
        Rows and columns of each.
    """
    for number in range(count):
        look = _LOOKS[number // 2 % len(_LOOKS)]
        settings = varied(look, rng, edge=edge, seed=_FIRST_SEED + int(rng.integers(1 << 30)))
        yield draw(settings, random_contrast=number % 2 == 1)
