"""``ranvier train``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ranvier.apps.training_options import (
    check_place,
    export_settings,
    exporting,
    leads,
    need_pytorch,
    several,
    show_bundle,
    show_out_of_fold,
)
from ranvier.errors import SettingsError
from ranvier.training.duration import seconds

if TYPE_CHECKING:
    from ranvier.datasets.folds import Split
    from ranvier.training.cross_validation import Dealt
    from ranvier.training.export import ExportSettings
    from ranvier.training.recipe import Recipe

DEALT = "folds.json"


@click.command()
@click.argument(
    "datasets", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATASET..."
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for checkpoints, log and the model.",
)
@click.option(
    "--recipe",
    default="generalist",
    show_default=True,
    metavar="NAME|FILE",
    help="A recipe that ships, or a TOML file.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change the recipe, e.g. augmentation.invert=0; may be given several times.",
)
@click.option("--name", default="generalist", show_default=True, help="The model's name.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="NAME",
    help="Train on this source of the datasets alone: a dedicated model, with the folds of all sources. May be given "
    "several times.",
)
@click.option(
    "--fold",
    metavar="N|N-M|each|all",
    default="0",
    show_default=True,
    help="Which fold's subjects are held out for validation; N-M or each: a training for each of these folds, and an "
    "ensemble of them; all: one training on everything.",
)
@click.option(
    "--folds",
    type=click.IntRange(2),
    help="How many folds. [default: 5, or those of the aggregate]",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="FILE|MODEL|DIR",
    help="Begin with the weights of another training's checkpoint, or of a model; several folds: each with its own of "
    "an earlier training of the same folds.",
)
@click.option(
    "--time-budget",
    metavar="TIME",
    help="End after this long, e.g. 60m, each of several folds; the schedule is fitted to it.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to compute; several GPUs by torchrun -m ranvier train ...",
)
@click.option("--resume", is_flag=True, help="Go on with the training in DIR.")
@exporting
def train(
    datasets: tuple[Path, ...],
    output: Path,
    recipe: str,
    changes: tuple[str, ...],
    name: str,
    sources: tuple[str, ...],
    fold: str,
    folds: int | None,
    init: Path | None,
    time_budget: str | None,
    device: str,
    resume: bool,
    **chosen: Any,
) -> None:
    """Train a model on annotated datasets.

    DATASET is an aggregate (see ranvier aggregate), whose folds are used, or else a BIDS microscopy dataset, a folder
    with images/ and masks/, an nnU-Net raw dataset, or a folder of such datasets. The model is written to DIR/model;
    of several folds, each training to DIR/fold-N and the mean of their networks to DIR/ensemble.
    """
    need_pytorch()
    from ranvier.training.cross_validation import Dealt
    from ranvier.training.export import check_export, export_bundle
    from ranvier.training.finetune import beginning
    from ranvier.training.loop import LAST
    from ranvier.training.loop import train as train_network
    from ranvier.training.recipe import read_recipe

    numbers = several(fold, lambda: _folds_of(list(datasets), folds))
    check_place(output, resume=resume, marks=(DEALT,) if numbers else (LAST,))
    settings = export_settings(chosen, ensemble=bool(numbers))
    check_export(output / ("ensemble" if numbers else "model"), int8=settings.int8)
    read = read_recipe(recipe, changes)
    how: dict[str, Any] = {
        "init": init,
        "time_budget_s": None if time_budget is None else seconds(time_budget),
        "device": device,
        "report": click.echo,
    }
    if numbers:
        splits = {n: images_of(list(datasets), str(n), folds, sources) for n in numbers}
        dealt = Dealt(datasets, _folds_of(list(datasets), folds), numbers, sources)
        if init is not None:
            how["init"] = _of_folds(init, splits)
        _train_each(splits, dealt, output, recipe=read, name=name, settings=settings, how=how)
        return
    images = images_of(list(datasets), fold, folds, sources)
    click.echo(f"{len(images.train)} images to train on, {len(images.validation)} held out")
    if init is not None:
        how["init"] = beginning(init, images, read, output)
    result = train_network(images, read, output, resume=resume, **how)
    if leads():
        show_bundle(
            export_bundle(result.best, images, output / "model", name=name, settings=settings)
        )


def _of_folds(init: Path, splits: dict[int, Split]) -> Path | dict[int, Path]:
    """A checkpoint for all folds, or each fold's own of an earlier training."""
    from ranvier.training.cross_validation import begun_from

    if init.is_file():
        return init
    if not (init / DEALT).is_file():
        raise SettingsError(
            "several folds begin with nothing, with an earlier training of the same folds, or with a checkpoint",
            where="--init",
            seen=init,
            fix="Give the folder of the earlier training, or a checkpoint that has not seen what the folds hold out",
        )
    return begun_from(init, splits)


def _train_each(
    splits: dict[int, Split],
    dealt: Dealt,
    output: Path,
    *,
    recipe: Recipe,
    name: str,
    settings: ExportSettings,
    how: dict[str, Any],
) -> None:
    """Train the folds one by one, say how they did on what each held out, and export their ensemble."""
    from ranvier.training.cross_validation import save_dealt, save_scores, train_folds
    from ranvier.training.ensemble import HOW, export_ensemble, out_of_fold

    if leads():
        save_dealt(dealt, output)
    done = train_folds(splits, recipe, output, **how)
    if not leads():
        return
    found = out_of_fold(done)
    save_scores(found, done, output, how=HOW)
    show_out_of_fold(found, [f.number for f in done])
    show_bundle(
        export_ensemble(
            done, output / "ensemble", name=name, settings=settings, cross_validated=found
        )
    )


def images_of(
    folders: list[Path], fold: str, folds: int | None, sources: tuple[str, ...] = ()
) -> Split:
    """What to train on and what to hold out.

    Raises
    ------
    SettingsError
        No such fold, or an aggregate beside other datasets or with another number of folds.
    DatasetError
        No such source.
    """
    every = _all_of(folders, fold, folds)
    return every.of(sources) if sources else every


def _all_of(folders: list[Path], fold: str, folds: int | None) -> Split:
    from ranvier.datasets.collection import read_datasets
    from ranvier.datasets.folds import everything, split
    from ranvier.datasets.manifest import is_aggregate, read_aggregate

    if fold != "all" and not fold.isdecimal():
        raise SettingsError(
            "not a fold", where="--fold", seen=fold, fix="Write a number, N-M, each or all"
        )
    if not any(is_aggregate(folder) for folder in folders):
        annotated = read_datasets(folders)
        if fold == "all":
            return everything(annotated)
        return split(annotated, fold=int(fold), folds=folds or 5)
    if len(folders) > 1:
        raise SettingsError(
            "an aggregate stands for all its datasets",
            where=", ".join(map(str, folders)),
            fix="Give the aggregate alone, or aggregate all of them",
        )
    made = read_aggregate(folders[0])
    if folds not in (None, made.folds):
        raise SettingsError(
            "the aggregate has its own folds", where="--folds", seen=f"{folds}, not {made.folds}"
        )
    return made.everything() if fold == "all" else made.split(int(fold))


def _folds_of(folders: list[Path], folds: int | None) -> int:
    """How many folds there are."""
    from ranvier.datasets.manifest import is_aggregate, read_aggregate

    if len(folders) == 1 and is_aggregate(folders[0]):
        return read_aggregate(folders[0]).folds
    return folds or 5
