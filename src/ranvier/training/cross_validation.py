"""Several folds trained one after the other, and what they were dealt from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranvier.datasets.annotated import load_json
from ranvier.datasets.folds import Split
from ranvier.errors import DatasetError
from ranvier.training.checkpoint import load_checkpoint
from ranvier.training.ensemble import Fold, Scores
from ranvier.training.loop import BEST, Report, train
from ranvier.training.recipe import Recipe
from ranvier.writing import make_folder, write_atomically

DEALT, CROSS_VALIDATION = "folds.json", "cross_validation.json"


@dataclass(frozen=True)
class Dealt:
    """What folds were dealt from.

    Attributes
    ----------
    datasets
        Folders, absolute.
    folds
        How many there are.
    trained
        Which were trained.
    sources
        Of which sources; none stands for all.
    """

    datasets: tuple[Path, ...]
    folds: int
    trained: tuple[int, ...]
    sources: tuple[str, ...] = ()


def fold_folder(folder: Path, number: int) -> Path:
    """Where a fold's training lies."""
    return folder / f"fold-{number}"


def train_folds(
    splits: Mapping[int, Split],
    recipe: Recipe,
    folder: Path,
    *,
    init: Path | Mapping[int, Path] | None = None,
    time_budget_s: float | None = None,
    device: str = "auto",
    report: Report = print,
) -> tuple[Fold, ...]:
    """Train each fold into ``folder/fold-k``, or go on with what is there; a finished one is left as it is.

    Parameters
    ----------
    splits
        By number of the fold.
    recipe
        Of all of them.
    folder
        Made if need be.
    init
        A checkpoint that all of them begin with, or one for each, by number.
    device, report
        As for :func:`ranvier.training.loop.train`.
    time_budget_s
        Of each fold.

    Raises
    ------
    DatasetError, SettingsError
        As for :func:`ranvier.training.loop.train`.
    """
    done = []
    for number, split in splits.items():
        report(f"fold {number}: {len(split.train)} images, {len(split.validation)} held out")
        result = train(
            split,
            recipe,
            fold_folder(folder, number),
            init=init[number] if isinstance(init, Mapping) else init,
            time_budget_s=time_budget_s,
            resume=True,
            device=device,
            report=report,
        )
        done.append(Fold(number, result.best, split))
    return tuple(done)


def begun_from(folder: Path, splits: Mapping[int, Split]) -> dict[int, Path]:
    """The best checkpoint of each fold of an earlier training, for the fold of that number to begin with.

    Parameters
    ----------
    folder
        Of :func:`train_folds`.
    splits
        What is trained now, by number of the fold.

    Raises
    ------
    DatasetError
        A checkpoint is missing or damaged, or has seen what its fold holds out now.
    """
    found = {number: fold_folder(folder, number) / BEST for number in splits}
    for number, path in found.items():
        held_out = {f"{a.source}/{a.name}" for a in splits[number].validation}
        seen = sorted(held_out.intersection(load_checkpoint(path).about["images"]["train"]))
        if seen:
            raise DatasetError(
                "this checkpoint was trained on what its fold holds out now, so its scores would mean nothing",
                where=path,
                seen=", ".join(seen),
                fix="Begin with folds of the same datasets, as many, or with nothing",
            )
    return found


def save_dealt(dealt: Dealt, folder: Path) -> None:
    """Write ``folds.json``.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    text = {
        "format": 1,
        "datasets": [str(path.resolve()) for path in dealt.datasets],
        "folds": dealt.folds,
        "trained": list(dealt.trained),
        "sources": list(dealt.sources),
    }
    write_atomically(make_folder(folder) / DEALT, (json.dumps(text, indent=1) + "\n").encode())


def load_dealt(folder: Path) -> Dealt:
    """Read ``folds.json``.

    Raises
    ------
    DatasetError
        It is not there or makes no sense.
    """
    path = folder / DEALT
    if not path.is_file():
        raise DatasetError(
            "no folds were trained here",
            where=folder,
            fix="Train them with: ranvier train DATASET... -o DIR --fold each",
        )
    about = load_json(path)
    try:
        if about["format"] != 1:
            raise ValueError(f"format {about['format']!r}")
        datasets = tuple(Path(str(p)) for p in about["datasets"])
        trained = tuple(int(n) for n in about["trained"])
        sources = tuple(str(name) for name in about.get("sources", ()))
        return Dealt(datasets, int(about["folds"]), trained, sources)
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError("not a list of folds", where=path, seen=repr(error)) from error


def trained_folds(folder: Path, splits: Mapping[int, Split]) -> tuple[Fold, ...]:
    """The finished trainings of a folder.

    Parameters
    ----------
    folder
        Of :func:`train_folds`.
    splits
        By number of the fold, dealt again.

    Raises
    ------
    DatasetError
        A checkpoint is missing or damaged, or the datasets are not those that it was trained on.
    """
    found = []
    for number, split in splits.items():
        path = fold_folder(folder, number) / BEST
        known = load_checkpoint(path).about["images"]
        for part, images in (("train", split.train), ("validation", split.validation)):
            if known[part] != [f"{a.source}/{a.name}" for a in images]:
                raise DatasetError(
                    "the datasets are no longer those that this fold was dealt from", where=path
                )
        found.append(Fold(number, path, split))
    return tuple(found)


def save_scores(
    scores: Scores,
    folds: Sequence[Fold],
    folder: Path,
    *,
    how: str,
    lesson: Mapping[str, Any] | None = None,
) -> None:
    """Write ``cross_validation.json``: what the figures are, which folds, and the figures by source.

    Parameters
    ----------
    scores, folds, folder, how
        To be written, and where.
    lesson
        Of students: how they were taught, for :func:`known_scores`.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    text = {"how": how, "folds": [fold.number for fold in folds], "scores": scores}
    if lesson is not None:
        text["lesson"] = dict(lesson)
    content = json.dumps(text, indent=1) + "\n"
    write_atomically(make_folder(folder) / CROSS_VALIDATION, content.encode())


def known_scores(folder: Path, lesson: Mapping[str, Any]) -> Scores | None:
    """Scores of students that :func:`save_scores` wrote; None where there are none, or they were taught otherwise."""
    path = folder / CROSS_VALIDATION
    if not path.is_file():
        return None
    about = load_json(path)
    if about.get("lesson") != json.loads(json.dumps(lesson)):
        return None
    scores: Scores = about["scores"]
    return scores
