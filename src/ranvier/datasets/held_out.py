"""The test set of an aggregate: the sources' own, and subjects taken from those that have none."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass

from ranvier.datasets.annotated import Annotated
from ranvier.datasets.folds import Subject, families
from ranvier.errors import SettingsError


@dataclass(frozen=True)
class HeldOut:
    """What becomes the test set of a source that has none of its own; nothing by default.

    Whole subjects are taken in an order that the seed decides, and at least two are left for training.

    Attributes
    ----------
    share
        Subjects are taken as long as each brings the share of test images closer to this; at least one is: the
        smallest, if none does.
    subjects
        This many subjects are taken.

    Raises
    ------
    SettingsError
        Both are given, or one is out of its range.
    """

    share: float | None = None
    subjects: int | None = None

    def __post_init__(self) -> None:
        if self.share is not None and self.subjects is not None:
            raise SettingsError("a share and a number of subjects exclude each other")
        if self.share is not None and not (math.isfinite(self.share) and 0 < self.share < 1):
            raise SettingsError("must lie between 0 and 1", where="test share", seen=self.share)
        if self.subjects is not None and self.subjects < 1:
            raise SettingsError("must be at least 1", where="test subjects", seen=self.subjects)


def choose_tested(
    images: list[Annotated],
    kin: list[tuple[Subject, Subject]],
    *,
    held_out: HeldOut,
    seed: int,
) -> tuple[set[Subject], list[str]]:
    """Choose the subjects of the test set.

    Parameters
    ----------
    images
        All of all sources; those with the role ``test`` are in it, with their subjects.
    kin
        Pairs of subjects that must not be separated.
    held_out
        What is taken of sources without a test set.
    seed
        Decides the order in which subjects are taken.

    Returns
    -------
    tuple
        Sources and subjects, and warnings about the sources without a test set of their own.
    """
    tested = {(a.source, a.subject) for a in images if a.role == "test"}
    together = families({(a.source, a.subject) for a in images}, kin)
    warnings: list[str] = []
    for source in sorted({a.source for a in images}):
        sizes = Counter(a.subject for a in images if a.source == source)
        if any(s == source for s, _ in tested):
            continue
        taken = _taken(source, sizes, held_out, seed)
        tested |= {member for subject in taken for member in together[source, subject]}
        asked = held_out.share is not None or held_out.subjects is not None
        if not taken:
            few = f", and {len(sizes)} subjects are too few to take one" if asked else ""
            warnings.append(
                f"{source} has no test set of its own: none of its images is tested{few}"
            )
        else:
            of_all = f"{sum(sizes[s] for s in taken)} of {sizes.total()} images"
            warnings.append(
                f"{source} has no test set of its own: took {of_all}, subject(s) {', '.join(sorted(taken))}"
            )
    return tested, warnings


def _taken(source: str, sizes: Counter[str], held_out: HeldOut, seed: int) -> list[str]:
    """Subjects that become a source's test set."""

    def order(subject: str) -> str:
        return hashlib.sha256(f"{seed}/test/{source}/{subject}".encode()).hexdigest()

    subjects, most = sorted(sizes, key=order), len(sizes) - 2
    if most < 1:
        return []
    if held_out.subjects is not None:
        return subjects[: min(held_out.subjects, most)]
    if held_out.share is None:
        return []
    wanted, taken = held_out.share * sizes.total(), list[str]()
    for subject in subjects:
        have = sum(sizes[s] for s in taken)
        if len(taken) < most and abs(have + sizes[subject] - wanted) < abs(have - wanted):
            taken.append(subject)
    return taken or [min(subjects, key=lambda s: sizes[s])]
