"""What a fine-tuning trains on, what it is judged by, and what is mixed in."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from ranvier.datasets.annotated import Annotated
from ranvier.datasets.folds import Split
from ranvier.errors import DatasetError, SettingsError
from ranvier.training.lessons import part_of, replayed
from ranvier.training.teacher import file_hash

_SMALLEST_PX = 48


@dataclass(frozen=True)
class FinetuneSettings:
    """What is held out and what is mixed in.

    Attributes
    ----------
    validation_share
        Share of the images, or of the single subject's pixels, that is held out.
    replay_share
        Share of the patches that come from replayed images, where there are.
    seed
        Which subjects are held out.
    """

    validation_share: float = 0.25
    replay_share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("validation_share", "replay_share"):
            value = getattr(self, name)
            if not 0 < value < 1:
                where = f"--{name.replace('_', '-')}"
                raise SettingsError("must be between 0 and 1", where=where, seen=value)


@dataclass(frozen=True)
class Plan:
    """What a fine-tuning trains on and is judged by.

    Attributes
    ----------
    own
        The user's images.
    by_strip
        Whether strips are held out and not subjects.
    replay
        What is mixed in, and on what forgetting is measured; may be empty.
    """

    own: Split
    by_strip: bool = False
    replay: Split = field(default_factory=lambda: Split((), ()))

    @property
    def split(self) -> Split:
        """For the training: it is validated on the user's images only."""
        return Split((*self.own.train, *self.replay.train), self.own.validation, self.own.warnings)


def plan(
    images: tuple[Annotated, ...],
    settings: FinetuneSettings | None = None,
    *,
    replay: Split | None = None,
) -> Plan:
    """Choose what to hold out, and what to mix in.

    Parameters
    ----------
    images
        The user's.
    settings
        Shares and seed.
    replay
        Of the datasets to mix in: its training images are, but for files that the user gave, too; its validation
        images tell what was forgotten.

    Raises
    ------
    DatasetError
        No images, or a single subject's image that is too small for a strip.
    """
    settings = settings or FinetuneSettings()
    if not images:
        raise DatasetError("no images to train on")
    subjects = sorted(
        {(a.source, a.subject) for a in images}, key=lambda s: _hash(settings.seed, s)
    )
    own = (
        _by_subject(images, subjects, settings)
        if len(subjects) > 1
        else _by_strip(images, settings)
    )
    if replay is None:
        return Plan(own, len(subjects) == 1)
    given = {file_hash(a.image) for a in images}
    kept = [a for a in replay.train if file_hash(a.image) not in given]
    again = tuple(replayed(a, settings.replay_share) for a in kept)
    return Plan(own, len(subjects) == 1, Split(again, replay.validation))


def _by_subject(
    images: tuple[Annotated, ...], subjects: list[tuple[str, str]], settings: FinetuneSettings
) -> Split:
    held: set[tuple[str, str]] = set()
    wanted = settings.validation_share * len(images)
    for subject in subjects[:-1]:
        if held and sum((a.source, a.subject) in held for a in images) >= wanted:
            break
        held.add(subject)
    return Split(
        tuple(a for a in images if (a.source, a.subject) not in held),
        tuple(a for a in images if (a.source, a.subject) in held),
    )


def _by_strip(images: tuple[Annotated, ...], settings: FinetuneSettings) -> Split:
    kept: list[Annotated] = []
    held: list[Annotated] = []
    for image in images:
        rows, columns = image.load()[0].shape
        length = max(rows, columns)
        cut = length - max(_SMALLEST_PX, round(settings.validation_share * length))
        if cut < _SMALLEST_PX:
            raise DatasetError(
                "too small to hold out a strip of it",
                where=image.image,
                seen=f"{rows} x {columns} pixels",
                fix="Give a second subject, or a larger image",
            )
        for first, last, into in ((0, cut, kept), (cut, length, held)):
            down = rows >= columns
            box = (first, 0, last, columns) if down else (0, first, rows, last)
            axis = "rows" if down else "columns"
            into.append(
                replace(part_of(image, box), name=f"{image.name}-{axis}-{first}-{last - 1}")
            )
    return Split(
        tuple(kept),
        tuple(held),
        ("the held-out strips are of the subject that was trained on, so scores flatter",),
    )


def _hash(seed: int, parts: Iterable[str]) -> str:
    return hashlib.sha256(f"{seed}/{tuple(parts)!r}".encode()).hexdigest()
