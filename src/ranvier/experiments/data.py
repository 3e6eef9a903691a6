"""What an experiment is made on: its sources as one aggregate, and the sets that nothing is trained on."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from ranvier.datasets.aggregate import Aggregate, aggregate
from ranvier.datasets.annotated import Annotated
from ranvier.datasets.collection import read_dataset
from ranvier.datasets.registry import DATASETS
from ranvier.errors import DatasetError, SettingsError
from ranvier.experiments.settings import Experiment


@dataclass(frozen=True)
class Material:
    """Images of an experiment.

    Attributes
    ----------
    aggregate
        All sources, under the experiment's names for them.
    out_of_distribution
        By name.
    qualitative
        Image files by name.
    missing
        Datasets that are not there, by name.
    """

    aggregate: Aggregate
    out_of_distribution: dict[str, tuple[Annotated, ...]]
    qualitative: dict[str, tuple[Path, ...]]
    missing: dict[str, Path]


def missing_of(experiment: Experiment) -> dict[str, Path]:
    """Datasets of an experiment whose folders do not exist."""
    return {name: path for name, path in experiment.datasets().items() if not path.is_dir()}


def without(experiment: Experiment, missing: dict[str, Path]) -> Experiment:
    """The experiment with what can be done without some datasets.

    Models lose the sources that are missing; those left with none are left out, as is a generalist that is left with
    one source.

    Raises
    ------
    SettingsError
        No model that is trained is left.
    """
    models = []
    for model in experiment.models:
        left = tuple(s for s in model.sources if s not in missing)
        lost = len(model.sources) > 1 and len(left) < 2
        if not model.is_trained or (left and not lost):
            models.append(replace(model, sources=left))
    if not any(m.is_trained for m in models):
        raise SettingsError(
            "no model can be trained without the missing datasets",
            where=experiment.where,
            seen=", ".join(missing),
        )
    rows = {
        row: left
        for row, inside in experiment.rows.items()
        if (left := tuple(s for s in inside if s not in missing))
    }

    def kept(datasets: dict[str, Path]) -> dict[str, Path]:
        return {name: path for name, path in datasets.items() if name not in missing}

    names = {m.name for m in models}
    return replace(
        experiment,
        models=tuple(models),
        rows=rows,
        sources=kept(dict(experiment.sources)),
        out_of_distribution=kept(dict(experiment.out_of_distribution)),
        qualitative=kept(dict(experiment.qualitative)),
        generalist=experiment.generalist if experiment.generalist in names else None,
    )


def refuse_missing(experiment: Experiment, missing: dict[str, Path]) -> None:
    """Name every dataset that is not there, and who holds it where the registry knows.

    Raises
    ------
    DatasetError
        Any is missing.
    """
    if not missing:
        return
    known = {entry.name: entry for entry in DATASETS}
    said = []
    for name, path in missing.items():
        entry = known.get(name)
        where = "" if entry is None else f" ({entry.where})"
        said.append(f"{name} at {path}{where}")
    raise DatasetError(
        "datasets of this experiment are missing",
        where=experiment.where,
        seen="; ".join(said),
        fix="Put them there, give --data FOLDER that holds them, or --without-missing to do what can be done",
    )


def gather(experiment: Experiment, missing: dict[str, Path]) -> Material:
    """Read every dataset and deal the folds.

    Raises
    ------
    DatasetError
        A dataset has problems, or with the protocol ``test`` a source has no test set; all of the latter are named.
    """
    images = [a for name, path in experiment.sources.items() for a in _renamed(path, name)]
    made = aggregate(
        images, name=_identifier(experiment.name), folds=experiment.folds, seed=experiment.seed
    )
    if experiment.protocol == "test":
        tested = {a.source for a in made.test}
        lacking = [name for name in experiment.sources if name not in tested]
        if lacking:
            raise DatasetError(
                "sources without a test set",
                where=experiment.where,
                seen=", ".join(lacking),
                fix='Give them one (docs/datasets.md), or say protocol = "cross-validation"',
            )
    return Material(
        made,
        {n: _renamed(path, n) for n, path in experiment.out_of_distribution.items()},
        {n: _pictures(path) for n, path in experiment.qualitative.items()},
        missing,
    )


def _renamed(folder: Path, name: str) -> tuple[Annotated, ...]:
    return tuple(replace(a, source=name) for a in read_dataset(folder))


def _identifier(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "-", name)


def _pictures(folder: Path) -> tuple[Path, ...]:
    """Image files of a folder, or of ``images`` in it."""
    from ranvier._mask_files import IMAGE_ENDINGS

    home = folder / "images" if (folder / "images").is_dir() else folder
    found = sorted(p for p in home.iterdir() if p.suffix.lower() in IMAGE_ENDINGS)
    if not found:
        raise DatasetError("no image in this folder", where=home)
    return tuple(found)
