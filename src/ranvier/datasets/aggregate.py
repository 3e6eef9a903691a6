"""Several datasets as one: a test set, folds by subject, and nothing on both sides."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

from ranvier.datasets.annotated import Annotated, raise_together
from ranvier.datasets.checking import Examined, check
from ranvier.datasets.folds import Split, Subject, deal, everything
from ranvier.datasets.held_out import HeldOut, choose_tested
from ranvier.errors import DatasetError, SettingsError

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Entry:
    """One image of an aggregate.

    Attributes
    ----------
    image
        With hashes; its role is ``train`` or ``test``.
    shape
        Rows and columns.
    fold
        In whose validation set it stands; None in the test set.
    """

    image: Annotated
    shape: tuple[int, int]
    fold: int | None


@dataclass(frozen=True)
class Aggregate:
    """Datasets with their folds. Pixels stay where they are.

    Attributes
    ----------
    name
        For example ``FULL_AGG``.
    folds, seed
        How many folds, and what they were dealt by.
    entries
        Sorted by source and name.
    warnings
        What the folds and the test set lack.
    """

    name: str
    folds: int
    seed: int
    entries: tuple[Entry, ...]
    warnings: tuple[str, ...] = ()

    @property
    def test(self) -> tuple[Annotated, ...]:
        """The test set: the union of the sources' own."""
        return tuple(e.image for e in self.entries if e.fold is None)

    def split(self, fold: int) -> Split:
        """What one fold trains on and is validated on; test images are in neither.

        Raises
        ------
        DatasetError
            There is no such fold.
        """
        if not 0 <= fold < self.folds:
            raise DatasetError(f"{self.name} has folds 0 to {self.folds - 1}", seen=fold)
        kept = [e for e in self.entries if e.fold is not None]
        return Split(
            tuple(e.image for e in kept if e.fold != fold),
            tuple(e.image for e in kept if e.fold == fold),
            self.warnings,
        )

    def everything(self) -> Split:
        """Train on all images but the test set and hold out none."""
        return everything(tuple(e.image for e in self.entries))

    def sources(self) -> dict[str, dict[str, Any]]:
        """Counts by source: images, megapixels, subjects, test images, and validation images of each fold."""
        return {
            source: _counts([e for e in self.entries if e.image.source == source], self.folds)
            for source in sorted({e.image.source for e in self.entries})
        }

    def counts(self) -> dict[str, Any]:
        """The same of all sources together."""
        return _counts(list(self.entries), self.folds)

    def verify(self) -> tuple[Examined, ...]:
        """Load every image with its masks and compare hashes.

        Raises
        ------
        DatasetError
            Files are missing, have changed or cannot be used; all are listed.
        """
        return check(e.image for e in self.entries)


def _counts(entries: list[Entry], folds: int) -> dict[str, Any]:
    by_fold = Counter(e.fold for e in entries)
    return {
        "images": len(entries),
        "megapixels": round(sum(e.shape[0] * e.shape[1] for e in entries) / 1e6, 3),
        "subjects": len({(e.image.source, e.image.subject) for e in entries}),
        "test": by_fold[None],
        "validation": [by_fold[fold] for fold in range(folds)],
    }


def aggregate(
    images: Iterable[Annotated],
    *,
    name: str,
    folds: int = 5,
    seed: int = 0,
    held_out: HeldOut = HeldOut(),  # noqa: B008  # frozen
    drop_duplicates: bool = False,
) -> Aggregate:
    """Make one dataset of several, by the rules of Collin et al. 2024.

    The test set is the union of the sources' own test sets. All other subjects are dealt to the folds
    (:func:`ranvier.datasets.folds.deal`): each source stands in the validation set of every fold if it has as many
    subjects as there are folds, and folds are balanced within sources and in all. Subjects are known by their source:
    ``rat1`` of two sources are two animals, unless both show the same image.

    Images are compared by their decoded pixels, so that copies are found under other names and in other lossless file
    formats. The same arguments give the same aggregate, in whatever order images come.

    Parameters
    ----------
    images
        Of any sources, e.g. from :func:`ranvier.datasets.collection.read_datasets`. Every one is loaded.
    name
        Letters, digits, ``_`` and ``-``.
    folds
        At least 2.
    seed
        Another seed deals otherwise.
    held_out
        Test set of the sources that have none.
    drop_duplicates
        Keep the first (by source and name) of images that are the same; their subjects stay together. Without, such
        images are a problem.

    Raises
    ------
    DatasetError
        Images that cannot be used, duplicates, an image or a subject both in a test set and outside; all are
        listed. Or there are too few subjects for that many folds.
    SettingsError
        A name with other characters, or fewer than 2 folds.
    """
    if not NAME.fullmatch(name):
        raise SettingsError("letters, digits, _ and - only", where="name", seen=repr(name))
    if folds < 2:
        raise SettingsError("at least 2", where="folds", seen=folds)
    listed = sorted(images, key=lambda a: (a.source, a.name))
    found = check(listed)
    problems = [*_named_twice(listed), *_on_both_sides(listed)]
    found, kin, warnings = _without_copies(found, problems, drop=drop_duplicates)
    raise_together(problems, name)
    tested, more = choose_tested([f.image for f in found], kin, held_out=held_out, seed=seed)
    with_role = [
        replace(f.image, role="test" if (f.image.source, f.image.subject) in tested else "train")
        for f in found
    ]
    pixels = {(f.image.source, f.image.name): f.shape[0] * f.shape[1] for f in found}
    training = [image for image in with_role if image.role == "train"]
    dealt = deal(training, folds=folds, seed=seed, pixels=pixels, kin=kin)
    entries = tuple(
        Entry(image, f.shape, None if image.role == "test" else dealt[image.source, image.subject])
        for image, f in zip(with_role, found, strict=True)
    )
    _check_folds(dealt, folds, name)
    made = Aggregate(name, folds, seed, entries)
    return replace(made, warnings=(*warnings, *more, *_lacking(made)))


def _named_twice(images: list[Annotated]) -> list[str]:
    counts = Counter((a.source, a.name) for a in images)
    return [f"{s}: {n} images are named {name}" for (s, name), n in counts.items() if n > 1]


def _on_both_sides(images: list[Annotated]) -> list[str]:
    """Subjects with images inside and outside the test set."""
    inside = {(a.source, a.subject) for a in images if a.role == "test"}
    outside = {(a.source, a.subject) for a in images if a.role != "test"}
    return [
        f"{source}: subject {subject} has test images and others"
        for source, subject in sorted(inside & outside)
    ]


def _without_copies(
    found: tuple[Examined, ...], problems: list[str], *, drop: bool
) -> tuple[tuple[Examined, ...], list[tuple[Subject, Subject]], list[str]]:
    """Images that differ from each other, subjects that shared one, and warnings."""
    alike: dict[str, list[Examined]] = {}
    for image in found:
        alike.setdefault(image.pixels_sha256, []).append(image)
    kin: list[tuple[Subject, Subject]] = []
    warnings: list[str] = []
    for group in alike.values():
        first, *copies = (e.image for e in group)
        for copy in copies:
            said = f"{copy.source}/{copy.name} is the same image as {first.source}/{first.name}"
            if (copy.role == "test") != (first.role == "test"):
                problems.append(f"{said}, and only one of them is in the test set")
            elif not drop:
                problems.append(f"{said} (--drop-duplicates keeps the first)")
            else:
                warnings.append(f"{said}: left out")
                one, other = (first.source, first.subject), (copy.source, copy.subject)
                kin += [(one, other)] if one != other else []
    kept = tuple(group[0] for group in alike.values())
    return tuple(sorted(kept, key=lambda e: (e.image.source, e.image.name))), kin, warnings


def _check_folds(dealt: dict[Subject, int], folds: int, name: str) -> None:
    filled = len(set(dealt.values()))
    if filled < folds:
        raise DatasetError(
            f"{len(dealt)} subjects outside the test set are too few for {folds} folds",
            where=name,
            fix=f"Make at most {filled}" if filled > 1 else "Add sources",
        )


def _lacking(made: Aggregate) -> list[str]:
    """Say in which folds a source is not validated, or not trained on."""
    said = []
    for source, counts in made.sources().items():
        images = sum(counts["validation"])
        without = [str(f) for f, n in enumerate(counts["validation"]) if not n]
        subjects = {
            e.image.subject for e in made.entries if e.image.source == source and e.fold is not None
        }
        if not images:
            said.append(f"{source} has test images only: no fold trains on it")
            continue
        if without:
            said.append(
                f"{source} has {len(subjects)} subject(s) for {made.folds} folds: no validation images "
                f"in fold(s) {', '.join(without)}"
            )
        said += [
            f"{source} is in no training set of fold {f}"
            for f, n in enumerate(counts["validation"])
            if n == images
        ]
    return said
