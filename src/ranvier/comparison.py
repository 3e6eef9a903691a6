"""Whether one model is better than another, as good, or neither shown: statistics of paired scores.

The difference of a pair is ``other - one``, so that above 0 the other is better. In three steps: pairs are validated,
reduced to one difference per unit and to sums per subject, and these to figures.

- Units are what the tests count as independent: subjects (the mean of a subject's pairs), or the pairs themselves, as
  where a heat map of means compares dedicated models with a generalist [1]_.
- Student's paired t-test, Wilcoxon's signed ranks, two one-sided tests of equivalence, Cohen's d_z, and what so many
  units could have found at all: a difference that is "not significant" is not for that the same as none.
- Beside them, an interval of the mean difference from a bootstrap of subjects within their sources.

References
----------
.. [1] Collin et al. (2024). Multi-domain data aggregation for axon and myelin segmentation in histology images.
   arXiv:2409.11552.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from ranvier._bootstrap import Bootstrap, Weighting, bootstrap
from ranvier._comparison_words import rows, sentences
from ranvier._paired_tests import (
    Conclusion,
    Equivalence,
    SignedRank,
    TTest,
    equivalence,
    paired_t,
    signed_rank,
)
from ranvier._power import Sensitivity, sensitivity
from ranvier._score_pairs import Pair, Unit, by_source, dedicated_pairs, units, validated
from ranvier.errors import SettingsError

__all__ = ["Comparison", "ComparisonSettings", "Pair", "compare", "dedicated_pairs"]


@dataclass(frozen=True)
class ComparisonSettings:
    """How pairs are compared.

    Attributes
    ----------
    margin
        Mean differences below it do not matter. The default, 0.02 Dice, is what an outline costs that lies 1 % of an
        axon's diameter too far in all around (see docs/statistics.md); fix it before looking at the results.
    alpha
        Level of each test; intervals are at 1 - alpha, and at 1 - 2 alpha for equivalence.
    unit
        ``subject``: pairs of a subject are averaged first. ``pair``: each counts as independent.
    weighting
        Of the bootstrap's mean. ``sources``: each source counts the same, so that one with many images does not
        decide alone. ``images``: each pair counts the same.
    resamples, seed
        Of the bootstrap.
    power
        Probability with which a difference should have been found, for what so many units could find.
    names
        What the two models are called in words.

    Raises
    ------
    SettingsError
        One of them is out of its range.
    """

    margin: float = 0.02
    alpha: float = 0.05
    unit: Unit = "subject"
    weighting: Weighting = "sources"
    resamples: int = 10_000
    seed: int = 0
    power: float = 0.8
    names: tuple[str, str] = ("one", "other")

    def __post_init__(self) -> None:
        allowed = {
            "margin": (0 < self.margin < math.inf, "above 0"),
            "alpha": (0 < self.alpha < 0.5, "above 0 and below 0.5"),
            "unit": (self.unit in ("subject", "pair"), "subject or pair"),
            "weighting": (self.weighting in ("sources", "images"), "sources or images"),
            "resamples": (_whole(self.resamples, 100), "a whole number from 100"),
            "seed": (_whole(self.seed, 0), "a whole number from 0"),
            "power": (self.alpha < self.power < 1, "above alpha and below 1"),
            "names": (len(set(self.names)) == 2 and all(self.names), "two different names"),
        }
        for name, (good, what) in allowed.items():
            if not good:
                raise SettingsError(
                    f"must be {what}", where=f"comparison, {name}", seen=getattr(self, name)
                )


def _whole(number: object, least: int) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and number >= least


_DEFAULT = ComparisonSettings()


@dataclass(frozen=True)
class Comparison:
    """What pairs show.

    Attributes
    ----------
    settings
        With which they were compared.
    pairs, sources, subjects
        How many were compared.
    dropped
        Pairs left out because a score is NaN.
    half_dropped
        Those of them where only one is: one model found a class that is nowhere, and the other did not.
    t, wilcoxon, equivalence, sensitivity
        Of the units' differences.
    bootstrap
        Of the pairs, by subjects.
    """

    settings: ComparisonSettings
    pairs: int
    sources: int
    subjects: int
    dropped: int
    half_dropped: int
    t: TTest
    wilcoxon: SignedRank
    equivalence: Equivalence
    sensitivity: Sensitivity
    bootstrap: Bootstrap

    @property
    def conclusion(self) -> Conclusion:
        """Of the test of equivalence, in words."""
        return self.equivalence.conclusion

    def rows(self) -> tuple[tuple[str, str], ...]:
        """Name and value of every figure, in words, for a table."""
        return rows(self)

    def sentences(self) -> tuple[str, ...]:
        """What was compared, what was found and what may be concluded."""
        return sentences(self)

    def markdown(self, title: str) -> tuple[str, ...]:
        """Lines of a section: heading, table, sentences."""
        table = (f"| {name} | {value} |" for name, value in self.rows())
        listed = (f"- {sentence}" for sentence in self.sentences())
        return (f"### {title}", "", "| figure | value |", "| --- | --- |", *table, "", *listed)

    def figures(self) -> dict[str, Any]:
        """All figures and settings under flat names, for JSON; None where a figure is not finite."""
        names = ("pairs", "sources", "subjects", "dropped", "half_dropped")
        result: dict[str, Any] = {name: getattr(self, name) for name in names}
        for part in ("t", "wilcoxon", "equivalence", "sensitivity", "bootstrap", "settings"):
            prefix = "" if part == "settings" else f"{part}_"
            result |= {f"{prefix}{k}": v for k, v in asdict(getattr(self, part)).items()}
        return {name: _plain(value) for name, value in result.items()}


def _plain(value: object) -> object:
    if isinstance(value, tuple):
        return list(value)
    return None if isinstance(value, float) and not math.isfinite(value) else value


def compare(pairs: Iterable[Pair], *, settings: ComparisonSettings = _DEFAULT) -> Comparison:
    """Compare two models by their scores for the same things.

    Pairs with a NaN are left out and counted; fewer than two units give NaN where a spread is needed. The order of
    the pairs does not matter.

    Parameters
    ----------
    pairs
        One per image and metric, or of means. Metrics are pooled: compare one at a time unless that is meant.
    settings
        Margin, level, units and weights.

    Raises
    ------
    InputError
        Something is scored twice.
    """
    valid, dropped, half = validated(pairs)
    sources = by_source(valid)
    differences = units(valid, settings.unit)
    t = paired_t(differences, settings.alpha)
    shared = {"margin": settings.margin, "alpha": settings.alpha}
    return Comparison(
        settings=settings,
        pairs=len(valid),
        sources=len(sources),
        subjects=sum(int(sums.size) for sums, _ in sources.values()),
        dropped=dropped,
        half_dropped=half,
        t=t,
        wilcoxon=signed_rank(differences),
        equivalence=equivalence(t, **shared),
        sensitivity=sensitivity(t.n, t.sd, power=settings.power, **shared),
        bootstrap=bootstrap(
            sources,
            weighting=settings.weighting,
            resamples=settings.resamples,
            seed=settings.seed,
            **shared,
        ),
    )
