"""Tests of paired differences: Student's t, Wilcoxon's signed ranks, equivalence by two one-sided tests.

All take the differences of the units of analysis (1-D float64, finite), which the tests take to be independent of
each other. What would be 0/0 is NaN, what would be x/0 is infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, stdtr, stdtrit

__all__ = [
    "DIFFERENT",
    "EQUIVALENT",
    "EXACT_UP_TO",
    "NOT_SHOWN",
    "Conclusion",
    "Equivalence",
    "SignedRank",
    "TTest",
    "equivalence",
    "half_width",
    "paired_t",
    "signed_rank",
    "verdict",
]

Conclusion = Literal["equivalent", "not shown to be equivalent", "different beyond the margin"]
EQUIVALENT: Conclusion = "equivalent"
NOT_SHOWN: Conclusion = "not shown to be equivalent"
DIFFERENT: Conclusion = "different beyond the margin"

EXACT_UP_TO = 200
"""Differences other than 0 up to which Wilcoxon's p-value is exact."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class TTest:
    """Student's t-test of paired differences.

    Attributes
    ----------
    n
        Number of differences.
    mean, median, sd, se
        Of the differences; sd with n - 1, se = sd / sqrt(n).
    t, df
        ``t = mean / se`` with ``df = n - 1`` degrees of freedom.
    p_two_sided, p_greater, p_less
        Against a mean of 0: either way, above 0, below 0.
    low, high
        Confidence interval of the mean at 1 - alpha.
    d_z
        Effect size mean / sd.
    """

    n: int
    mean: float
    median: float
    sd: float
    se: float
    t: float
    df: int
    p_two_sided: float
    p_greater: float
    p_less: float
    low: float
    high: float
    d_z: float


@dataclass(frozen=True)
class SignedRank:
    """Wilcoxon's signed-rank test.

    Attributes
    ----------
    n
        Differences other than 0, which alone are ranked.
    zeros
        Differences of 0, left out.
    ties
        Differences whose absolute value another has, too; they share their mean rank.
    w_plus, w_minus
        Sums of the ranks of positive and of negative differences.
    p_two_sided, p_greater, p_less
        Against symmetry about 0.
    method
        ``exact``: among all 2^n ways to give signs to these very ranks; ``normal``: its normal approximation with
        continuity correction.
    """

    n: int
    zeros: int
    ties: int
    w_plus: float
    w_minus: float
    p_two_sided: float
    p_greater: float
    p_less: float
    method: Literal["exact", "normal"]


@dataclass(frozen=True)
class Equivalence:
    """Two one-sided t-tests (TOST) against a margin on either side of 0.

    Attributes
    ----------
    margin
        Differences below it do not matter.
    p_lower, p_upper
        Against a mean of -margin or less, and of +margin or more.
    p
        The larger of the two: of equivalence.
    low, high
        Confidence interval of the mean at 1 - 2 alpha; equivalence holds where it lies inside the margins.
    least_margin
        Margins above this one would have been met.
    conclusion
        In words.
    """

    margin: float
    p_lower: float
    p_upper: float
    p: float
    low: float
    high: float
    least_margin: float
    conclusion: Conclusion


def ratio(over: float, under: float) -> float:
    """Divide; 0/0 is NaN and x/0 infinite."""
    if under == 0:
        return math.nan if over == 0 or math.isnan(over) else math.copysign(math.inf, over)
    return over / under


def half_width(se: float, df: int, alpha: float) -> float:
    """Half of a two-sided confidence interval at 1 - alpha; NaN without degrees of freedom."""
    return float(stdtrit(df, 1 - alpha / 2)) * se if df > 0 else math.nan


def verdict(outer: tuple[float, float], inner: tuple[float, float], margin: float) -> Conclusion:
    """Say what intervals of the mean at 1 - alpha (outer) and 1 - 2 alpha (inner) show of a margin.

    Equivalent where the inner one lies between the margins (Schuirmann 1987), different where the outer one lies
    beyond one of them, and neither is shown elsewhere, as where an interval is NaN.
    """
    if -margin < inner[0] and inner[1] < margin:
        return EQUIVALENT
    if outer[0] > margin or outer[1] < -margin:
        return DIFFERENT
    return NOT_SHOWN


def paired_t(differences: Floats, alpha: float) -> TTest:
    """Test whether the mean of paired differences is 0 [1]_, with its effect size d_z [2]_.

    References
    ----------
    .. [1] Student (1908). The probable error of a mean. Biometrika 6, 1-25.
    .. [2] Cohen (1988). Statistical power analysis for the behavioral sciences, 2nd ed., 48.
    """
    n = int(differences.size)
    mean = median = sd = math.nan
    if n:
        mean, median = float(differences.mean()), float(np.median(differences))
    if n > 1:
        sd = float(differences.std(ddof=1))
        if np.ptp(differences) == 0:  # exactly, where rounding would leave a trace of spread
            mean, sd = float(differences[0]), 0.0
    se = sd / math.sqrt(n) if n else math.nan
    t, df = ratio(mean, se), max(n - 1, 0)
    wide = half_width(se, df, alpha)
    less, greater = _tail(df, t), _tail(df, -t)
    return TTest(
        n=n,
        mean=mean,
        median=median,
        sd=sd,
        se=se,
        t=t,
        df=df,
        p_two_sided=2 * min(less, greater),
        p_greater=greater,
        p_less=less,
        low=mean - wide,
        high=mean + wide,
        d_z=ratio(mean, sd),
    )


def _tail(df: int, t: float) -> float:
    """P(T <= t)."""
    if df < 1 or math.isnan(t):
        return math.nan
    return float(stdtr(df, t)) if math.isfinite(t) else float(t > 0)


def equivalence(found: TTest, *, margin: float, alpha: float) -> Equivalence:
    """Test whether the mean lies between -margin and +margin [1]_, [2]_.

    ``t_lower = (mean + margin) / se`` and ``t_upper = (mean - margin) / se``.

    References
    ----------
    .. [1] Schuirmann (1987). A comparison of the two one-sided tests procedure and the power approach for assessing
       the equivalence of average bioavailability. J. Pharmacokinet. Biopharm. 15, 657-680.
    .. [2] Lakens (2017). Equivalence tests: a practical primer for t tests, correlations, and meta-analyses.
       Soc. Psychol. Personal. Sci. 8, 355-362.
    """
    p_lower = _tail(found.df, -ratio(found.mean + margin, found.se))
    p_upper = _tail(found.df, ratio(found.mean - margin, found.se))
    wide = half_width(found.se, found.df, 2 * alpha)
    inner = (found.mean - wide, found.mean + wide)
    return Equivalence(
        margin=margin,
        p_lower=p_lower,
        p_upper=p_upper,
        p=math.nan if math.isnan(p_lower + p_upper) else max(p_lower, p_upper),
        low=inner[0],
        high=inner[1],
        least_margin=abs(found.mean) + wide,
        conclusion=verdict((found.low, found.high), inner, margin),
    )


def signed_rank(differences: Floats) -> SignedRank:
    """Test whether paired differences lie symmetrically about 0 [1]_.

    Differences of 0 are left out, as in [1]_; equal absolute values share their mean rank, and the distribution is
    that of these ranks, so that p-values stay exact under ties.

    References
    ----------
    .. [1] Wilcoxon (1945). Individual comparisons by ranking methods. Biometrics Bulletin 1, 80-83.
    """
    kept = differences[differences != 0]
    n = int(kept.size)
    _, group, size = np.unique(np.abs(kept), return_inverse=True, return_counts=True)
    doubled = (2 * np.cumsum(size) - size + 1)[group]  # twice the mean rank: a whole number
    plus, total = int(doubled[kept > 0].sum()), int(doubled.sum())
    exact = n <= EXACT_UP_TO
    greater, less = _exact(doubled, plus) if exact else _normal(doubled, plus)
    return SignedRank(
        n=n,
        zeros=int(differences.size) - n,
        ties=int(size[size > 1].sum()),
        w_plus=plus / 2,
        w_minus=(total - plus) / 2,
        p_two_sided=min(1.0, 2 * min(greater, less)),
        p_greater=greater,
        p_less=less,
        method="exact" if exact else "normal",
    )


def _exact(ranks: NDArray[np.int64], plus: int) -> tuple[float, float]:
    """P(W >= plus) and P(W <= plus), W the sum of a random half of the ranks: each counts or not, evenly."""
    chance = np.zeros(int(ranks.sum()) + 1)
    chance[0] = 1
    for rank in ranks.tolist():
        more = chance.copy()
        more[rank:] += chance[:-rank]
        chance = more / 2
    return min(1.0, float(chance[plus:].sum())), min(1.0, float(chance[: plus + 1].sum()))


def _normal(ranks: NDArray[np.int64], plus: int) -> tuple[float, float]:
    """Do the same from W's mean and variance; ranks and ``plus`` are doubled, and so is the correction of 1/2."""
    sd = math.sqrt(float((ranks.astype(float) ** 2).sum()) / 4)
    away = plus - float(ranks.sum()) / 2
    return float(ndtr((1 - away) / sd)), float(ndtr((1 + away) / sd))
