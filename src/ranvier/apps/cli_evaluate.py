"""``ranvier evaluate``."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ranvier.apps.evaluating import chosen_contenders, chosen_images
from ranvier.apps.options import instance_settings, instances, seeing
from ranvier.apps.showing import ProgressBar, failing

if TYPE_CHECKING:
    from ranvier.scoring.choosing import Chosen
    from ranvier.scoring.contenders import Contender
    from ranvier.scoring.scores import Scores


@click.command()
@click.argument("more", nargs=-1, type=click.Path(path_type=Path), metavar="[DATASET...]")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="[NAME=]MODEL",
    help="An embedded model's name or a model's folder, and how to call it; may be given several times.",
)
@click.option(
    "--pred",
    "predictions",
    multiple=True,
    metavar="[NAME=]DIR",
    help="A folder with masks that any tool made, named like the images; may be given several times.",
)
@click.option(
    "--on",
    "datasets",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="DATASET...",
    help="Annotated datasets: BIDS, images/ and masks/, nnU-Net raw, a folder of such, or an aggregate.",
)
@click.option(
    "--truth",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="In place of a dataset: a folder with true masks, to compare those of --pred with.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for tables and pictures.",
)
@click.option(
    "--role",
    type=click.Choice(["test", "train", "all"]),
    help="Which images. [default: the test images of a dataset that has any, else all]",
)
@click.option(
    "--fold", type=click.IntRange(0), metavar="N", help="Only what fold N of an aggregate held out."
)
@click.option(
    "--pixel-size",
    type=float,
    metavar="UM",
    help="Micrometres per pixel of all images; overrides what datasets and files say.",
)
@seeing
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads. [default: all]")
@instances
@click.option("--no-pictures", is_flag=True, help="Write the tables only.")
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the scores of an earlier run; never other files, nor files changed since.",
)
@failing
def evaluate(
    more: tuple[Path, ...],
    models: tuple[str, ...],
    predictions: tuple[str, ...],
    datasets: tuple[Path, ...],
    truth: Path | None,
    output: Path,
    **chosen: Any,
) -> int:
    """Score models, and other tools' masks, on annotated images.

    Tables of every figure (Dice, IoU, detection, distances, counts, agreement of measurements), heat maps, Bland-Altman
    plots, and pictures of the errors in the best, the median and the worst image are written to -o. Images that a model
    was trained on are marked. The exit code is 1 if an image could not be scored.
    """
    from ranvier.provenance import Clock
    from ranvier.scoring.score_files import check_free

    folders = [*datasets, *more]
    _check_usage(models, predictions, folders=folders, truth=truth, chosen=chosen)
    check_free(output, overwrite=chosen["overwrite"])
    clock = Clock()
    images = chosen_images(folders, truth, chosen)
    for line in images.said:
        click.echo(line)
    for problem in images.problems:
        click.echo(f"error: {problem}", err=True)
    contenders = chosen_contenders(models, predictions, images, chosen)
    clock.lap("preparing")
    scores, settings = _scored(contenders, images, chosen)
    clock.lap("scoring")
    if scores.results:
        _write(scores, output, settings=settings, images=images, clock=clock, chosen=chosen)
    problems = len(scores.failures) + len(images.problems)
    if problems:
        click.echo(f"{problems} problem(s): not everything was scored", err=True)
    return 1 if problems else 0


def _check_usage(
    models: Sequence[str],
    predictions: Sequence[str],
    *,
    folders: Sequence[Path],
    truth: Path | None,
    chosen: Mapping[str, Any],
) -> None:
    if not models and not predictions:
        raise click.UsageError("give what to score: --model or --pred")
    if truth is None and not folders:
        raise click.UsageError("give what to score on: --on DATASET, or --truth DIR")
    if truth is not None:
        for given, name in (
            (folders, "datasets"),
            (models, "--model"),
            (chosen["role"], "--role"),
            (chosen["fold"] is not None, "--fold"),
        ):
            if given:
                raise click.UsageError(
                    f"--truth and {name} exclude each other: masks show no image"
                )


def _scored(
    contenders: Sequence[Contender], images: Chosen, chosen: Mapping[str, Any]
) -> tuple[Scores, dict[str, Any]]:
    """The scores, and the settings that they were made with."""
    from ranvier.scoring.running import ScoreSettings, score

    how = instance_settings(chosen)
    settings = ScoreSettings(how, kept_bytes=0) if chosen["no_pictures"] else ScoreSettings(how)
    with _counting() as progress:
        scores = score(
            contenders,
            images.images,
            settings=settings,
            progress=progress,
            report=lambda text: click.echo(f"error: {text}", err=True),
        )
    told = {
        "instances": asdict(how),
        "role": chosen["role"],
        "fold": chosen["fold"],
        "pixel_size": chosen["pixel_size"],
    }
    return scores, told


@contextmanager
def _counting() -> Iterator[Callable[[int, int], None]]:
    with ProgressBar("scoring", unit="image") as bar:
        yield bar


def _write(
    scores: Scores,
    output: Path,
    *,
    settings: Mapping[str, Any],
    images: Chosen,
    clock: Any,
    chosen: Mapping[str, Any],
) -> None:
    """Write everything, and print what it comes to."""
    from ranvier.scoring.score_files import write_scores

    about = {
        "settings": dict(settings),
        "chosen": list(images.said),
        "problems": list(images.problems),
        "started": clock.started,
        "seconds": clock.laps,
    }
    written = write_scores(
        scores,
        output,
        about=about,
        pictures=not chosen["no_pictures"],
        overwrite=chosen["overwrite"],
        report=lambda text: click.echo(f"note: {text}", err=True),
    )
    _show(scores)
    for line in written.left_out:
        click.echo(f"note: {line}", err=True)
    for warning in scores.warnings():
        click.echo(click.style(f"warning: {warning}", fg="yellow", bold=True), err=True)
    click.echo(f"results: {output}/ ({len(written.paths)} files)")


def _show(scores: Scores) -> None:
    """Print the main figures of each test set."""
    from ranvier.scoring.score_tables import overview

    for test_set in scores.test_sets:
        rows = overview(scores, test_set)
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        click.echo(click.style(test_set, bold=True))
        for row in rows:
            first, *others = (
                cell.rjust(w) if i else cell.ljust(w)
                for i, (cell, w) in enumerate(zip(row, widths, strict=True))
            )
            click.echo(f"  {'  '.join((first, *others))}".rstrip())
