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
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which fold's subjects are held out for validation.",
)
@click.option(
    "--folds", type=click.IntRange(2), default=5, show_default=True, help="How many folds."
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
    fold: int,
    folds: int,
    time_budget: str | None,
    resume: bool,
    int8: bool,
) -> None:
    """Train a model on annotated datasets.

    DATASET is a BIDS microscopy dataset, a folder with images/ and masks/, or a folder of such datasets.
    The model is written to DIR/model.
    """
    if find_spec("torch") is None:
        raise MissingExtraError("training needs PyTorch", fix="pip install 'ranvier[train]'")
    from ranvier.datasets.collection import read_datasets
    from ranvier.datasets.folds import split
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
    images = split(read_datasets(list(datasets)), fold=fold, folds=folds)
    click.echo(f"{len(images.train)} images to train on, {len(images.validation)} held out")
    result = train_network(
        images,
        read_recipe(recipe),
        output,
        time_budget_s=None if time_budget is None else seconds(time_budget),
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
