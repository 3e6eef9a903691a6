"""``ranvier finetune``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ranvier.apps.cli_train import images_of
from ranvier.apps.showing import failing
from ranvier.apps.training_options import (
    check_place,
    export_settings,
    exporting,
    leads,
    need_pytorch,
    said,
    show_bundle,
)
from ranvier.training.duration import seconds

if TYPE_CHECKING:
    from ranvier.training.finetune import Finetuned


@click.command()
@click.argument("model", metavar="MODEL")
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
    "--replay",
    type=click.Path(path_type=Path),
    metavar="AGG",
    help="An aggregate or dataset to mix in, so that the model does not forget it.",
)
@click.option(
    "--replay-share",
    type=float,
    default=0.5,
    show_default=True,
    help="Share of the patches that are from there.",
)
@click.option(
    "--replay-fold",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Which of its folds is not mixed in, and tells what was forgotten.",
)
@click.option(
    "--validation-share",
    type=float,
    default=0.25,
    show_default=True,
    help="Share of your images that is held out: whole subjects, or a strip if there is only one.",
)
@click.option(
    "--recipe",
    default="refit",
    show_default=True,
    metavar="NAME|FILE",
    help="A recipe that ships, or a TOML file; its network, input and width of axons give way to the model's.",
)
@click.option("--name", default="finetuned", show_default=True, help="The new model's name.")
@click.option(
    "--time-budget", metavar="TIME", default="10m", show_default=True, help="End after this long."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to compute.",
)
@click.option("--resume", is_flag=True, help="Go on with the training in DIR.")
@click.option("--keep-anyway", is_flag=True, help="Write the model even if it is worse.")
@exporting
@failing
def finetune(
    model: str,
    datasets: tuple[Path, ...],
    output: Path,
    replay: Path | None,
    replay_share: float,
    replay_fold: int,
    validation_share: float,
    recipe: str,
    name: str,
    time_budget: str,
    device: str,
    resume: bool,
    keep_anyway: bool,
    **chosen: Any,
) -> int:
    """Train a model further on a few images of your own.

    MODEL is an embedded model's name, a model's folder, or a training's checkpoint. Dice on what is held out is printed
    before and after. The model is written to DIR/model if it did not get worse; otherwise the exit code is 1.
    """
    need_pytorch()
    from ranvier.datasets.collection import read_datasets
    from ranvier.datasets.folds import without_test
    from ranvier.training.export import check_export
    from ranvier.training.finetune import BEGUN, export_finetuned
    from ranvier.training.finetune import finetune as tune
    from ranvier.training.holding_out import FinetuneSettings, plan
    from ranvier.training.recipe import read_recipe

    check_place(output, resume=resume, marks=(BEGUN, "last.safetensors"))
    exported = export_settings(chosen)
    check_export(output / "model", int8=exported.int8)
    again = None if replay is None else images_of([replay], str(replay_fold), None)
    planned = plan(
        without_test(read_datasets(list(datasets))),
        FinetuneSettings(validation_share=validation_share, replay_share=replay_share),
        replay=again,
    )
    held = (
        "strips of the single subject's images" if planned.by_strip else "images of other subjects"
    )
    click.echo(f"{len(planned.own.train)} images to train on; held out: {held}")
    tuned = tune(
        model,
        planned,
        read_recipe(recipe),
        output,
        time_budget_s=seconds(time_budget),
        device=device,
        resume=resume,
        report=click.echo,
    )
    if not leads():
        return 0
    _show(tuned)
    if not tuned.better and not keep_anyway:
        click.echo(
            f"worse than before by {-tuned.gain:.4f}: no model is written, keep the old one "
            "(--resume --keep-anyway writes it)",
            err=True,
        )
        return 1
    if not tuned.better:
        click.echo(f"worse than before by {-tuned.gain:.4f}, written all the same", err=True)
    show_bundle(export_finetuned(tuned, output / "model", name=name, settings=exported))
    return 0


def _show(tuned: Finetuned) -> None:
    """Print Dice before and after, on what is held out and on what is replayed."""
    for title, before, after in (
        ("held out", tuned.before, tuned.after),
        ("replayed data, its own held-out images", tuned.replay_before, tuned.replay_after),
    ):
        for source in before:
            click.echo(f"{title}, {source}:")
            click.echo(f"  before  {said(before[source])}")
            click.echo(f"  after   {said(after[source])}")
