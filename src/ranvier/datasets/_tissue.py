"""Fill an image with fibres, and the room between them with what is no fibre."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ranvier.datasets._outlines import Fibre, Outline, Packing, ellipse, wobble, wrap
from ranvier.datasets._phantom_settings import G_LIMITS, PhantomSettings

_MISSES = 60
"""Fibres in a row that find no room before the packing ends."""


def _diameters_um(rng: np.random.Generator, s: PhantomSettings, count: int) -> NDArray[np.float64]:
    """Draw from the truncated law by inverting its distribution function."""
    from scipy import special

    low, high, mean, sd = (
        s.diameter_min_um,
        s.diameter_max_um,
        s.diameter_mean_um,
        s.diameter_sd_um,
    )
    uniform = rng.uniform(size=count)
    if sd < 1e-4 * mean or high - low < 1e-9 * mean:
        return np.full(count, float(mean))
    if s.diameter_law == "gamma":
        order, scale = (mean / sd) ** 2, sd**2 / mean
        ends = special.gammainc(order, np.array([low, high]) / scale)
        drawn = scale * special.gammaincinv(order, ends[0] + uniform * (ends[1] - ends[0]))
    else:
        width = math.sqrt(math.log1p((sd / mean) ** 2))
        middle = math.log(mean) - 0.5 * width**2
        ends = special.ndtr((np.log([low, high]) - middle) / width)
        drawn = np.exp(middle + width * special.ndtri(ends[0] + uniform * (ends[1] - ends[0])))
    return np.asarray(np.clip(drawn, low, high))


def _g_ratios(rng: np.random.Generator, s: PhantomSettings, count: int) -> NDArray[np.float64]:
    from scipy import special

    uniform = rng.uniform(size=count)
    if s.g_ratio_sd < 1e-6:
        return np.full(count, float(s.g_ratio_mean))
    ends = special.ndtr((np.array(G_LIMITS) - s.g_ratio_mean) / s.g_ratio_sd)
    drawn = special.ndtri(ends[0] + uniform * (ends[1] - ends[0]))
    return np.asarray(np.clip(s.g_ratio_mean + s.g_ratio_sd * drawn, *G_LIMITS))


def margin_px(s: PhantomSettings) -> float:
    """How far outside the image a fibre of the largest axon may lie and still show."""
    radius = 0.5 * s.diameter_max_um / s.pixel_size_um / s.g_ratio_mean
    return 1.0 + radius * math.sqrt(0.5 * sum(s.aspect_range)) * (1.0 + 0.2 * s.irregularity)


def _shape(
    rng: np.random.Generator, diameter_px: float, s: PhantomSettings, direction: float
) -> Outline:
    aspect = float(rng.uniform(*s.aspect_range))
    angle = direction + (1.0 - s.alignment) * float(rng.uniform(-0.5, 0.5)) * np.pi
    return ellipse(diameter_px, aspect, angle, wobble(rng, s.irregularity))


def pack_fibres(
    rng: np.random.Generator, packing: Packing, s: PhantomSettings, direction: float
) -> list[Fibre]:
    """Draw fibres until they would fill the share asked for, then place the largest first.

    The largest quarter is scattered; of the others, a share is pushed against a neighbour.
    """
    wanted = s.fibre_fraction * packing.area
    count = math.ceil(wanted / (math.pi * (0.5 * s.diameter_min_um / s.pixel_size_um) ** 2)) + 1
    sizes, ratios = _diameters_um(rng, s, count), _g_ratios(rng, s, count)
    areas = np.pi * (0.5 * sizes / s.pixel_size_um / ratios) ** 2
    count = int(np.searchsorted(np.cumsum(areas), wanted, side="right"))
    fibres: list[Fibre] = []
    misses = 0
    for rank, i in enumerate(np.argsort(-areas[:count], kind="stable")):
        axon = _shape(rng, float(sizes[i] / s.pixel_size_um), s, direction)
        fibre = wrap(axon, float(ratios[i]))
        touching = bool(rng.uniform() < s.touching_share) and rank >= count // 4
        centre = packing.place(rng, fibre.sheath, touching=touching)
        misses = 0 if centre else misses + 1
        if centre:
            fibres.append(fibre.moved(*centre))
        elif misses > _MISSES:
            break
    return fibres


def pack_between(
    rng: np.random.Generator, packing: Packing, s: PhantomSettings, direction: float, count: int
) -> tuple[list[Outline], list[Outline]]:
    """Place cell bodies and unmyelinated axons in the room that the fibres left."""
    mean = s.diameter_mean_um / s.pixel_size_um
    bodies = round(s.debris * packing.area / (6.0 * mean) ** 2)
    bare = round(count * s.unmyelinated_share / (1.0 - s.unmyelinated_share))
    placed: tuple[list[Outline], list[Outline]] = ([], [])
    for kind, low, high, number in ((1, 1.0, 1.9, bodies), (0, 0.3, 0.75, bare)):
        for _ in range(number):
            outline = _shape(rng, mean * float(rng.uniform(low, high)), s, direction)
            centre = packing.place(rng, outline, touching=kind == 0)
            if centre:
                placed[kind].append(outline.moved(*centre))
    return placed
