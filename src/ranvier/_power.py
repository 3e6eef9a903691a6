"""What a number of paired differences can find at all, by the t distribution with its noncentrality.

With ``s`` the ratio of the found to the true standard deviation (``df s^2`` is chi-squared with ``df = n - 1``), the
probability that a t-test rejects is the mean over s of a normal probability. That mean is taken by Gauss-Legendre
quadrature, which holds where series for the noncentral t break down.

References
----------
Cohen (1988). Statistical power analysis for the behavioral sciences, 2nd ed.
Phillips (1990). Power of the two one-sided tests procedure in bioequivalence. J. Pharmacokinet. Biopharm. 18, 137-144.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv, gammaln, ndtr, stdtrit

__all__ = ["Sensitivity", "equivalence_power", "sensitivity", "t_power"]

_NODES = 160
_TAIL = 1e-13
_LARGEST = 1_000_000
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Sensitivity:
    """What so many units can show.

    Attributes
    ----------
    power
        Probability that is asked for.
    detectable_d_z
        Smallest effect size that the two-sided t-test finds with it.
    detectable_difference
        The same as a difference, at the standard deviation that was found.
    units_for_margin
        Units with which a difference as large as the margin would be found; None above a million or where the
        standard deviation is unknown.
    units_for_equivalence
        Units with which equivalence would be shown if there were no difference; None likewise.
    """

    power: float
    detectable_d_z: float
    detectable_difference: float
    units_for_margin: int | None
    units_for_equivalence: int | None


def t_power(d_z: float, n: int, alpha: float) -> float:
    """Probability that the two-sided paired t-test of n differences with effect size ``d_z`` rejects."""
    return _rejects(d_z * math.sqrt(n), n, alpha)


def equivalence_power(margin_d: float, n: int, alpha: float) -> float:
    """Probability that two one-sided tests show equivalence where there is no difference at all.

    Parameters
    ----------
    margin_d
        The margin in standard deviations of the differences.
    n
        Number of differences, 2 or more.
    alpha
        Level of each of the two tests.
    """
    s, weight = _spreads(n - 1)
    room = margin_d * math.sqrt(n) - float(stdtrit(n - 1, 1 - alpha)) * s
    return float((weight * np.maximum(2 * ndtr(room) - 1, 0)).sum())


def sensitivity(
    n: int, sd: float, *, margin: float, alpha: float, power: float = 0.8
) -> Sensitivity:
    """Say what n differences with standard deviation ``sd`` can show; NaN and None for fewer than two."""
    if n < 2:
        return Sensitivity(power, math.nan, math.nan, None, None)
    low, high = 0.0, 1.0
    while _rejects(high, n, alpha) < power:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _rejects(middle, n, alpha) < power else (low, middle)
    d_z = high / math.sqrt(n)
    ratio = margin / sd if sd > 0 else math.inf
    return Sensitivity(
        power=power,
        detectable_d_z=d_z,
        detectable_difference=d_z * sd,
        units_for_margin=_fewest(lambda k: t_power(ratio, k, alpha), power),
        units_for_equivalence=_fewest(lambda k: equivalence_power(ratio, k, alpha), power),
    )


def _rejects(shift: float, n: int, alpha: float) -> float:
    s, weight = _spreads(n - 1)
    limit = float(stdtrit(n - 1, 1 - alpha / 2)) * s
    return float((weight * (ndtr(shift - limit) + ndtr(-shift - limit))).sum())


def _spreads(df: int) -> tuple[Floats, Floats]:
    """Nodes of s and the probability that each stands for; they sum to 1."""
    ends = np.sqrt(2 * gammaincinv(df / 2, [_TAIL, 1 - _TAIL]) / df)
    nodes, weights = _legendre()
    s = ends[0] + (ends[1] - ends[0]) * (nodes + 1) / 2
    density = (df - 1) * np.log(s) - df * s**2 / 2 + df / 2 * math.log(df / 2) - gammaln(df / 2)
    weight = weights * np.exp(density) * (ends[1] - ends[0])
    return s, weight / weight.sum()


@cache
def _legendre() -> tuple[Floats, Floats]:
    """Nodes and weights on [-1, 1]."""
    return np.polynomial.legendre.leggauss(_NODES)


def _fewest(power_of: Callable[[int], float], wanted: float) -> int | None:
    """Least number from 2 with the wanted power, which grows with the number."""
    low, high = 1, 2
    while power_of(high) < wanted:
        low, high = high, 2 * high
        if high > _LARGEST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if power_of(middle) < wanted else (low, middle)
    return high
