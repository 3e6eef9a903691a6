"""``ranvier train``."""

from __future__ import annotations

import re
from importlib.util import find_spec
from pathlib import Path

import click

from ranvier.errors import MissingExtraError, SettingsError

_SECONDS = {"s": 1, "m": 60, "h": 3600}


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
    default="compact",
    show_default=True,
    metavar="NAME|FILE",
    help="A recipe that ships, or a TOML file.",
)
@click.option("--name", default="generalist", show_default=True, help="The model's name.")
@click.option(
    "--fold",
    metavar="N|all",
    default="0",
    show_default=True,
    help="Which fold's subjects are held out for validation; all: train on everything.",
)
@click.option(
    "--folds", type=click.IntRange(2), default=5, show_default=True, help="How many folds."
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Begin with the weights of this checkpoint of another training.",
)
@click.option(
    "--time-budget",
    metavar="TIME",
    help="End after this long, e.g. 60m; the schedule is fitted to it.",
)
@click.option("--resume", is_flag=True, help="Go on with the training in DIR.")
@click.option(
    "--int8/--no-int8", default=True, show_default=True, help="Add a quantised graph (needs NNCF)."
)
def train(
    datasets: tuple[Path, ...],
    output: Path,
    recipe: str,
    name: str,
    fold: str,
    folds: int,
    init: Path | None,
    time_budget: str | None,
    resume: bool,
    int8: bool,
) -> None:
    """Train a model on annotated datasets.

    DATASET is a BIDS microscopy dataset, a folder with images/ and masks/, or a folder of such datasets.
    The model is written to DIR/model.
    """
    for library, module in (("PyTorch", "torch"), ("safetensors", "safetensors")):
        if find_spec(module) is None:
            raise MissingExtraError(f"training needs {library}", fix="pip install 'ranvier[train]'")
    from ranvier.datasets.collection import read_datasets
    from ranvier.datasets.folds import everything, split
    from ranvier.training.export import check_export, export_bundle
    from ranvier.training.loop import LAST
    from ranvier.training.loop import train as train_network
    from ranvier.training.recipe import read_recipe

    if output.exists() and not output.is_dir():
        raise SettingsError("the place for the training is a file", where=output)
    if output.exists() and any(output.iterdir()) and not (resume and (output / LAST).is_file()):
        raise SettingsError(
            "this folder is not empty",
            where=output,
            fix="Give --resume to go on with a training in it, or another -o",
        )
    check_export(output / "model", int8=int8)
    budget = None if time_budget is None else seconds(time_budget)
    annotated = read_datasets(list(datasets))
    if fold == "all":
        images = everything(annotated)
    elif fold.isdecimal():
        images = split(annotated, fold=int(fold), folds=folds)
    else:
        raise SettingsError("not a fold", where="--fold", seen=fold, fix="Write a number or all")
    click.echo(f"{len(images.train)} images to train on, {len(images.validation)} held out")
    result = train_network(
        images,
        read_recipe(recipe),
        output,
        init=init,
        time_budget_s=budget,
        resume=resume,
        report=click.echo,
    )
    bundle = export_bundle(result.best, images, output / "model", name=name, int8=int8)
    click.echo(f"model: {bundle.folder} ({bundle.sha256[:12]})")


def seconds(text: str) -> float:
    """``90s``, ``60m``, ``1.5h`` in seconds.

    Raises
    ------
    SettingsError
        Another form.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if match is None or float(match[1]) == 0:
        raise SettingsError(
            "not a time", where="--time-budget", seen=text, fix="Write e.g. 60m, 90s or 1.5h"
        )
    return float(match[1]) * _SECONDS[match[2]]
