"""Split annotated images into folds by subject, so that every source stands in every fold."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass

from ranvier.datasets.annotated import Annotated
from ranvier.errors import DatasetError


@dataclass(frozen=True)
class Split:
    """What one fold trains on and what it is validated on."""

    train: tuple[Annotated, ...]
    validation: tuple[Annotated, ...]
    warnings: tuple[str, ...] = ()


def split(annotated: tuple[Annotated, ...], *, fold: int, folds: int, seed: int = 0) -> Split:
    """Choose the validation images of one fold.

    Within each source the subjects are dealt to the folds: the largest first (by images), each to the fold that
    has the fewest images of that source, ties by a hash of the seed. All images of a subject go together.

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
    warnings: list[str] = []
    held_out: set[tuple[str, str]] = set()
    for source in sorted({a.source for a in annotated}):
        dealt = _deal([a for a in annotated if a.source == source], folds, seed)
        if len(dealt) < 2:
            raise DatasetError("a source with one subject cannot be split by subject", where=source)
        if len(dealt) < folds:
            warnings.append(
                f"{source} has {len(dealt)} subjects: not in every one of {folds} folds"
            )
        held_out |= {(source, subject) for subject, f in dealt.items() if f == fold}
    return Split(
        tuple(a for a in annotated if (a.source, a.subject) not in held_out),
        tuple(a for a in annotated if (a.source, a.subject) in held_out),
        tuple(warnings),
    )


def everything(annotated: tuple[Annotated, ...]) -> Split:
    """Train on all images and hold out none."""
    return Split(annotated, (), ("nothing is held out: nothing tells how good the result is",))


def _deal(images: list[Annotated], folds: int, seed: int) -> dict[str, int]:
    sizes: dict[str, int] = defaultdict(int)
    for image in images:
        sizes[image.subject] += 1

    def order(subject: str) -> tuple[int, str]:
        key = f"{seed}/{images[0].source}/{subject}"
        return (-sizes[subject], hashlib.sha256(key.encode()).hexdigest())

    load = [0] * folds
    dealt: dict[str, int] = {}
    for subject in sorted(sizes, key=order):
        target = load.index(min(load))
        dealt[subject] = target
        load[target] += sizes[subject]
    return dealt
