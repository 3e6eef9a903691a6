"""Pairs of scores: checked, put in order, and reduced to differences of subjects and of sources."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import InputError

__all__ = ["Pair", "Unit", "by_source", "dedicated_pairs", "units", "validated"]

Unit = Literal["subject", "pair"]
DECIMALS = 12
"""Differences are rounded to so many, so that 0.845 - 0.840 and 0.880 - 0.875 are equal as they are on paper."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Pair:
    """Scores of two models for the same thing.

    Attributes
    ----------
    source
        Dataset or domain.
    subject
        Animal or donor; the same name in two sources means two subjects.
    image
        Image, or anything that tells the pairs of a subject apart.
    metric
        Of what the scores are, e.g. ``dice_axon``.
    one, other
        The scores; NaN where there is none, as the Dice of a class that is nowhere.

    Raises
    ------
    InputError
        A score is no number, or infinite.
    """

    source: str
    subject: str
    image: str
    metric: str
    one: float
    other: float

    def __post_init__(self) -> None:
        for score in (self.one, self.other):
            if not _usable(score):
                raise InputError(
                    "a score must be a number, or NaN where there is none",
                    where=self.name,
                    seen=score,
                )

    @property
    def name(self) -> str:
        """Source, subject, image and metric."""
        return f"{self.source} / {self.subject} / {self.image}, {self.metric}"


def _usable(score: object) -> bool:
    number = isinstance(score, int | float | np.integer | np.floating)
    return number and not isinstance(score, bool) and not np.isinf(float(score))  # type: ignore[arg-type]


def validated(pairs: Iterable[Pair]) -> tuple[list[Pair], int, int]:
    """Leave pairs without NaN, in a fixed order; say how many were dropped, and how many of these for one NaN only.

    Raises
    ------
    InputError
        Something is scored twice.
    """
    known: dict[tuple[str, str, str, str], Pair] = {}
    for pair in pairs:
        key = (pair.source, pair.subject, pair.image, pair.metric)
        if key in known:
            raise InputError(
                "scored twice",
                where=pair.name,
                fix="Give each image of a subject its own name, and each metric once",
            )
        known[key] = pair
    ordered = [known[key] for key in sorted(known)]
    missing = [math.isnan(p.one) + math.isnan(p.other) for p in ordered]
    valid = [pair for pair, n in zip(ordered, missing, strict=True) if not n]
    return valid, len(ordered) - len(valid), missing.count(1)


def _difference(pair: Pair) -> float:
    return round(float(pair.other) - float(pair.one), DECIMALS)


def _by_subject(pairs: Iterable[Pair]) -> dict[tuple[str, str], list[float]]:
    """Differences of each subject of each source."""
    found: dict[tuple[str, str], list[float]] = defaultdict(list)
    for pair in pairs:
        found[pair.source, pair.subject].append(_difference(pair))
    return found


def units(pairs: Iterable[Pair], unit: Unit) -> Floats:
    """Take what the tests count as independent: the pairs' differences, or the mean of each subject's."""
    if unit == "pair":
        return np.array([_difference(pair) for pair in pairs])
    means = [float(np.mean(differences)) for differences in _by_subject(pairs).values()]
    return np.array([round(mean, DECIMALS) for mean in means])


def by_source(pairs: Iterable[Pair]) -> dict[str, tuple[Floats, Floats]]:
    """Two arrays for each source, one element per subject: sums of its differences, and how many there are."""
    found: dict[str, list[tuple[float, int]]] = defaultdict(list)
    for (source, _), differences in _by_subject(pairs).items():
        found[source].append((math.fsum(differences), len(differences)))
    return {
        source: (np.array([s for s, _ in parts]), np.array([float(n) for _, n in parts]))
        for source, parts in found.items()
    }


def dedicated_pairs(
    table: Mapping[tuple[str, str], float],
    *,
    dedicated: Mapping[str, str],
    generalist: str,
    metric: str = "dice",
) -> tuple[Pair, ...]:
    """Take from a heat map what the model of each test set scores there, and what the generalist does.

    Parameters
    ----------
    table
        Score by (test set, model).
    dedicated
        Which model is dedicated to which test set; other test sets and models are left aside.
    generalist
        Name of the model that is compared with all of them.
    metric
        Of what the scores are; pairs of several classes go into one comparison under different names.

    Returns
    -------
    pairs
        One per test set, in their order, ``one`` the dedicated model and ``other`` the generalist. The test set is
        source and subject, as a mean does not tell its subjects apart.

    Raises
    ------
    InputError
        Scores are missing (all of them are listed), or a test set's own model is the generalist.
    """
    own = [test_set for test_set, model in dedicated.items() if model == generalist]
    if own:
        raise InputError(
            "the generalist cannot be compared with itself",
            where=", ".join(own),
            seen=generalist,
            fix="Name the models that are dedicated to these test sets",
        )
    wanted = {s: ((s, model), (s, generalist)) for s, model in dedicated.items()}
    missing = [
        f"{model} on {s}"
        for cells in wanted.values()
        for s, model in cells
        if (s, model) not in table
    ]
    if missing:
        raise InputError(
            "scores are missing in the heat map",
            where=metric,
            seen=", ".join(missing),
            fix="Evaluate these models on these test sets, or leave the test sets out",
        )
    return tuple(
        Pair(s, s, "mean", metric, table[one], table[other]) for s, (one, other) in wanted.items()
    )
