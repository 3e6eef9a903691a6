"""``ranvier experiment``."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import click

from ranvier.apps.options import ZoomType
from ranvier.apps.showing import failing
from ranvier.apps.training_options import leads, need_pytorch
from ranvier.errors import SettingsError

_MARK = "experiment.toml"


@click.command()
@click.argument("file", metavar="FILE|NAME")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder for trainings, masks and results. Run again, the experiment goes on there.",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path, file_okay=False, exists=True),
    metavar="FOLDER",
    help="What the datasets' folders are relative to.  [default: the file's own folder]",
)
@click.option(
    "--without-missing",
    is_flag=True,
    help="Do what can be done without the datasets that are not there; the page names them.",
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to train.",
)
@click.option(
    "--precision",
    type=click.Choice(["f32", "bf16"]),
    default="f32",
    show_default=True,
    help="In which the models are scored.",
)
@click.option(
    "--views",
    type=click.Choice(["1", "2", "4"]),
    default="2",
    show_default=True,
    help="Ways in which each tile is looked at when the models are scored.",
)
@click.option(
    "--zoom",
    type=ZoomType(),
    default="1",
    show_default=True,
    metavar="auto|F",
    help="At which the models are scored; auto chooses for each image and model, as ranvier segment does.",
)
@click.option(
    "--min-closure",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="Take axons of whose border less than this share is myelin for background when the models are scored.",
)
@click.option(
    "--min-confidence",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="P",
    help="And axons that a model gives a lower probability than this.",
)
@click.option(
    "--min-contrast",
    type=click.FloatRange(0, 1),
    default=0.0,
    show_default=True,
    metavar="SHARE",
    help="And axons that differ in grey from their myelin by less than this share of what is usual in the image.",
)
@click.option("--threads", type=click.IntRange(1), help="CPU threads of the scoring.")
@failing
def experiment(
    file: str,
    output: Path,
    data: Path | None,
    without_missing: bool,
    device: str,
    precision: Literal["f32", "bf16"],
    views: str,
    zoom: float | Literal["auto"],
    min_closure: float,
    min_confidence: float,
    min_contrast: float,
    threads: int | None,
) -> int:
    """Run an experiment: train what is missing, score everything on everything, write a page of results.

    FILE says which models are trained on what and tested on what (docs/experiments.md); intra and inter are those of
    Collin et al. 2024, shared is one of three public sources. What DIR holds already is not trained or predicted
    again. The page is DIR/results/results.md, and results.html beside it.
    """
    need_pytorch()
    from ranvier.experiments.data import gather, missing_of, refuse_missing, without
    from ranvier.experiments.judging import JudgeSettings, judge
    from ranvier.experiments.results import Outcome, write_results
    from ranvier.experiments.running import train_missing
    from ranvier.experiments.settings import find_experiment, read_experiment
    from ranvier.inference import InferenceSettings

    path = find_experiment(file)
    planned = read_experiment(path, data=data)
    missing = missing_of(planned)
    if missing and without_missing:
        click.echo(f"missing, and left out: {', '.join(missing)}", err=True)
        planned = without(planned, missing)
    else:
        refuse_missing(planned, missing)
    material = gather(planned, missing)
    _same_experiment(output, path)
    for warning in material.aggregate.warnings:
        click.echo(f"warning: {warning}", err=True)
    trained = train_missing(planned, material, output, device=device, report=click.echo)
    if not leads():
        return 0
    inference = InferenceSettings(
        zoom=zoom,
        views=int(views),
        min_closure=min_closure,
        min_confidence=min_confidence,
        min_contrast=min_contrast,
    )
    settings = JudgeSettings(precision, threads, inference)
    judged = judge(planned, material, trained, output, settings=settings, report=click.echo)
    chosen = {
        "--precision": precision if precision != "f32" else "",
        "--views": views if views != "2" else "",
        "--zoom": str(zoom) if zoom != 1 else "",
        "--min-closure": f"{min_closure:g}" if min_closure else "",
        "--min-confidence": f"{min_confidence:g}" if min_confidence else "",
        "--min-contrast": f"{min_contrast:g}" if min_contrast else "",
    }
    command = _command(file, data, chosen, without_missing=without_missing)
    written = write_results(
        Outcome(planned, material, trained, judged, command), output / "results"
    )
    click.echo(f"results: {written[0]}")
    if judged.failures:
        click.echo(f"{judged.failures} image(s) could not be scored; the page names them", err=True)
    return 1 if judged.failures else 0


def _same_experiment(output: Path, path: Path) -> None:
    """Keep a copy of the experiment's file in its folder; refuse a folder of something else."""
    from ranvier.writing import make_folder, write_atomically

    mark, content = output / _MARK, path.read_bytes()
    if not mark.exists() and output.exists() and any(output.iterdir()):
        raise SettingsError(
            "this folder is not empty and holds no experiment",
            where=output,
            fix="Choose another -o",
        )
    # A file that says more than before, as another model, is welcome: each training knows its own plan.
    write_atomically(make_folder(output) / mark.name, content)


def _command(
    file: str, data: Path | None, chosen: Mapping[str, str], *, without_missing: bool
) -> str:
    """What made the page, with DATA for the user's own folder."""
    parts = ["ranvier", "experiment", Path(file).name if data is None else Path(file).stem]
    parts += ["--data", "DATA"] if data is not None else []
    parts += ["--without-missing"] if without_missing else []
    parts += [part for name, value in chosen.items() if value for part in (name, value)]
    return shlex.join([*parts, "-o", "DIR"])
