"""How far a mean difference would move with other subjects: the cluster bootstrap, within each source.

Images of one subject are alike, so subjects are drawn, not images, and images go with their subject (Davison & Hinkley
1997, section 3.8). Sources are fixed: each keeps its number of subjects, so the interval is about other subjects of
these sources and not about other sources.

References
----------
Efron & Tibshirani (1993). An introduction to the bootstrap, chapter 13.
Davison & Hinkley (1997). Bootstrap methods and their application.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ranvier._paired_tests import NOT_SHOWN, Conclusion, verdict

__all__ = ["Bootstrap", "Weighting", "bootstrap"]

Weighting = Literal["sources", "images"]
Floats = NDArray[np.float64]
_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Bootstrap:
    """Percentile interval of the mean difference.

    Attributes
    ----------
    mean
        The mean difference, weighted as the settings say.
    low, high
        Its interval at 1 - alpha; NaN where no source has two subjects.
    inner_low, inner_high
        At 1 - 2 alpha.
    fewest
        Subjects of the smallest source. The spread of k subjects comes out as sqrt((k - 1) / k) of what it is.
    lone
        Sources of one subject, which add no spread, in order.
    conclusion
        What the intervals show of the margin, in words; nothing where a source has one subject.
    """

    mean: float
    low: float
    high: float
    inner_low: float
    inner_high: float
    fewest: int
    lone: tuple[str, ...]
    conclusion: Conclusion


def bootstrap(
    sources: Mapping[str, tuple[Floats, Floats]],
    *,
    weighting: Weighting,
    resamples: int,
    seed: int,
    alpha: float,
    margin: float,
) -> Bootstrap:
    """Draw subjects with replacement within each source, again and again, and take percentiles of the mean.

    Parameters
    ----------
    sources
        By source, two arrays with one element per subject: sums of its differences, and how many there are.
    weighting
        ``sources``: the mean of the sources' means; ``images``: the mean of all differences.
    resamples, seed
        How often, and the start of the random numbers: the same seed gives the same interval.
    alpha, margin
        Of the intervals and the conclusion.
    """
    names = sorted(sources)
    lone = tuple(name for name in names if sources[name][0].size == 1)
    fewest = min((int(sources[name][0].size) for name in names), default=0)
    once = [tuple(part.sum(keepdims=True) for part in sources[name]) for name in names]
    mean = float(_mean(once, weighting)[0]) if names else math.nan
    ends = np.full(4, math.nan)
    if len(lone) < len(names):
        generator = np.random.default_rng(seed)
        drawn = [_drawn(*sources[name], resamples, generator) for name in names]
        shares = [alpha / 2, 1 - alpha / 2, alpha, 1 - alpha]
        ends = np.quantile(_mean(drawn, weighting), shares)
    low, high, inner_low, inner_high = (float(end) for end in ends)
    found = verdict((low, high), (inner_low, inner_high), margin)
    conclusion = NOT_SHOWN if lone else found
    return Bootstrap(mean, low, high, inner_low, inner_high, fewest, lone, conclusion)


def _drawn(
    sums: Floats, counts: Floats, resamples: int, generator: np.random.Generator
) -> tuple[Floats, Floats]:
    """Sums and counts of each resample of one source's subjects."""
    n = sums.size
    parts = []
    for start in range(0, resamples, max(1, _AT_ONCE // n)):
        rows = min(max(1, _AT_ONCE // n), resamples - start)
        who = generator.integers(n, size=(rows, n))
        parts.append((sums[who].sum(axis=1), counts[who].sum(axis=1)))
    return np.concatenate([s for s, _ in parts]), np.concatenate([c for _, c in parts])


def _mean(drawn: Sequence[tuple[Floats, ...]], weighting: Weighting) -> Floats:
    """Means of resamples from each source's sums and counts."""
    sums, counts = (np.array([part[k] for part in drawn]) for k in (0, 1))
    means: Floats = sums.sum(axis=0) / counts.sum(axis=0)
    if weighting == "sources":
        means = (sums / counts).mean(axis=0)
    return means
