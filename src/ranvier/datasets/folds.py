"""Split annotated images into folds by subject, so that every source stands in every fold."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ranvier.datasets.annotated import Annotated
from ranvier.errors import DatasetError

Subject = tuple[str, str]
"""Source and subject."""


@dataclass(frozen=True)
class Split:
    """What one fold trains on and what it is validated on."""

    train: tuple[Annotated, ...]
    validation: tuple[Annotated, ...]
    warnings: tuple[str, ...] = ()

    def of(self, sources: Iterable[str]) -> Split:
        """The same with images of these sources alone, for a model dedicated to them.

        Raises
        ------
        DatasetError
            A source that this has no training images of.
        """
        wanted = set(sources)
        known = {a.source for a in self.train}
        if not wanted <= known:
            raise DatasetError(
                "no training images of a source",
                where=", ".join(sorted(wanted - known)),
                fix=f"There are {', '.join(sorted(known))}",
            )
        return Split(
            tuple(a for a in self.train if a.source in wanted),
            tuple(a for a in self.validation if a.source in wanted),
            self.warnings,
        )


def split(annotated: tuple[Annotated, ...], *, fold: int, folds: int, seed: int = 0) -> Split:
    """Choose the validation images of one fold, as :func:`deal` deals them.

    Images with the role ``test`` stand on neither side.

    Parameters
    ----------
    annotated
        All images of all sources.
    fold
        0 to ``folds`` - 1.
    folds
        At least 2.
    seed
        Another seed deals in another order.

    Raises
    ------
    DatasetError
        The fold does not exist or a source has a single subject, which cannot be split.
    """
    if folds < 2 or not 0 <= fold < folds:
        raise DatasetError(f"fold must be 0 to {folds - 1} of at least 2 folds", seen=fold)
    images = without_test(annotated)
    subjects = Counter(source for source, _ in {(a.source, a.subject) for a in images})
    for source, count in sorted(subjects.items()):
        if count < 2:
            raise DatasetError("a source with one subject cannot be split by subject", where=source)
    dealt = deal(images, folds=folds, seed=seed)
    return Split(
        tuple(a for a in images if dealt[a.source, a.subject] != fold),
        tuple(a for a in images if dealt[a.source, a.subject] == fold),
        tuple(
            f"{source} has {count} subjects: not in every one of {folds} folds"
            for source, count in sorted(subjects.items())
            if count < folds
        ),
    )


def everything(annotated: tuple[Annotated, ...]) -> Split:
    """Train on all images but those with the role ``test``, and hold out none."""
    return Split(
        without_test(annotated), (), ("nothing is held out: nothing tells how good the result is",)
    )


def without_test(annotated: Iterable[Annotated]) -> tuple[Annotated, ...]:
    """Leave out images with the role ``test``."""
    return tuple(a for a in annotated if a.role != "test")


@dataclass(frozen=True)
class _Unit:
    """Subjects that stay together, and what they weigh in each source."""

    members: tuple[Subject, ...]
    images: Counter[str]
    pixels: Counter[str]


def deal(
    images: Iterable[Annotated],
    *,
    folds: int,
    seed: int = 0,
    pixels: Mapping[tuple[str, str], int] | None = None,
    kin: Iterable[tuple[Subject, Subject]] = (),
) -> dict[Subject, int]:
    """Deal subjects to the folds in whose validation sets they stand.

    Source by source, the one with the largest subject first, and within a source the subjects with most images first
    (ties by pixels, in powers of two, then by a hash of the seed), each subject goes to the fold that has the fewest
    images of its source. Ties go to the fold with the fewest images of all sources, so that no fold gets the large
    share of every source, then to the fewest pixels of the source and of all, then by a hash of the seed. All images
    of a subject go together.

    So every source with at least as many subjects as there are folds stands in each of them, and its fullest and its
    emptiest fold differ by no more images than its largest subject has. The order of the images does not matter.

    Parameters
    ----------
    images
        To be dealt.
    folds
        How many.
    seed
        Another seed breaks ties otherwise.
    pixels
        Number of pixels by source and name; without, pixels do not count.
    kin
        Pairs of subjects that must not be separated, such as two sources' names for one animal. They are
        dealt first.

    Returns
    -------
    dict
        Source and subject to fold.
    """
    units = _units(images, pixels or {}, kin)
    largest: Counter[str] = Counter()
    for unit in units:
        largest |= unit.images

    def order(unit: _Unit) -> tuple[int, int, str, int, int, str]:
        source, size = unit.members[0][0], unit.images.total()
        powers = unit.pixels.total().bit_length()
        first = (-len(unit.images), -largest[source], source)
        return (*first, -size, -powers, _hash(seed, unit.members))

    in_images: list[Counter[str]] = [Counter() for _ in range(folds)]
    in_pixels: list[Counter[str]] = [Counter() for _ in range(folds)]
    dealt: dict[Subject, int] = {}
    for unit in sorted(units, key=order):

        def load(fold: int, unit: _Unit = unit) -> tuple[int, int, int, int, int, str]:
            here, area = in_images[fold], in_pixels[fold]
            return (
                sum(here[source] > 0 for source in unit.images),
                sum(here[source] for source in unit.images),
                sum(here.values()),
                sum(area[source] for source in unit.images),
                sum(area.values()),
                _hash(seed, (*unit.members, fold)),
            )

        fold = min(range(folds), key=load)
        dealt |= dict.fromkeys(unit.members, fold)
        in_images[fold].update(unit.images)
        in_pixels[fold].update(unit.pixels)
    return dealt


def _units(
    images: Iterable[Annotated],
    pixels: Mapping[tuple[str, str], int],
    kin: Iterable[tuple[Subject, Subject]],
) -> list[_Unit]:
    listed = sorted(images, key=lambda a: (a.source, a.subject, a.name))
    together = families({(a.source, a.subject) for a in listed}, kin)
    units: dict[tuple[Subject, ...], _Unit] = {}
    for image in listed:
        members = together[image.source, image.subject]
        unit = units.setdefault(members, _Unit(members, Counter(), Counter()))
        unit.images[image.source] += 1
        unit.pixels[image.source] += pixels.get((image.source, image.name), 0)
    return list(units.values())


def families(
    subjects: Iterable[Subject], kin: Iterable[tuple[Subject, Subject]]
) -> dict[Subject, tuple[Subject, ...]]:
    """Each subject with all those that pairs of ``kin`` tie it to, itself included, sorted."""
    groups = {subject: {subject} for subject in subjects}
    for one, other in kin:
        if one in groups and other in groups and groups[one] is not groups[other]:
            joined = groups[one] | groups[other]
            groups |= dict.fromkeys(joined, joined)
    return {subject: tuple(sorted(group)) for subject, group in groups.items()}


def _hash(seed: int, value: object) -> str:
    return hashlib.sha256(f"{seed}/{value!r}".encode()).hexdigest()
