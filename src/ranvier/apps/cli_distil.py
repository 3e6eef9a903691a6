"""``ranvier distil``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ranvier.apps.cli_train import images_of
from ranvier.apps.training_options import (
    check_place,
    export_settings,
    exporting,
    leads,
    need_pytorch,
    show_bundle,
    show_out_of_fold,
)
from ranvier.errors import DatasetError, SettingsError
from ranvier.training.duration import seconds

if TYPE_CHECKING:
    from ranvier.datasets.annotated import Annotated
    from ranvier.training.distil import Known
    from ranvier.training.ensemble import Fold
    from ranvier.training.recipe import Recipe
    from ranvier.training.temperature import Calibration


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR|DATASET")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="OUT",
    help="Folder for the student and its model.",
)
@click.option(
    "--unlabelled",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="A folder of images without masks; may be given several times.",
)
@click.option(
    "--recipe",
    default="generalist",
    show_default=True,
    metavar="NAME|FILE",
    help="Of the student: a recipe that ships, or a TOML file.",
)
@click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="SECTION.KEY=VALUE",
    help="Change the recipe, e.g. schedule.seed=1; may be given several times.",
)
@click.option("--name", default="generalist", show_default=True, help="The model's name.")
@click.option(
    "--hard-weight",
    type=click.FloatRange(0, 1),
    default=0.5,
    show_default=True,
    help="Weight of the masks beside the teacher's probabilities.",
)
@click.option(
    "--from-teacher",
    is_flag=True,
    help="Begin with the weights of the teacher's first network, not with fresh ones.",
)
@click.option(
    "--teacher",
    type=click.Path(path_type=Path),
    metavar="FILE|MODEL",
    help="One network teaches, a checkpoint or a model, e.g. generalist; all images of DATASET are learned from.",
)
@click.option(
    "--init",
    type=click.Path(path_type=Path),
    metavar="FILE|MODEL",
    help="Begin with the weights of a checkpoint or of a model, e.g. generalist.",
)
@click.option(
    "--time-budget", metavar="TIME", help="End after this long, e.g. 30m, each of several students."
)
@click.option(
    "--device",
    type=click.Choice(["auto", "cpu", "cuda", "mps"]),
    default="auto",
    show_default=True,
    help="Where to compute.",
)
@click.option("--resume", is_flag=True, help="Go on with what is in OUT.")
@click.option(
    "--cross-validate",
    is_flag=True,
    help="Instead, a student for each fold, taught by its network alone, and scored on what the fold held out.",
)
@click.option(
    "--calibrate/--no-calibrate",
    default=True,
    show_default=True,
    help="Fit a temperature on what the folds' networks say of images that they held out, and divide logits by it.",
)
@exporting
def distil(
    folder: Path,
    output: Path,
    unlabelled: tuple[Path, ...],
    recipe: str,
    changes: tuple[str, ...],
    name: str,
    hard_weight: float,
    from_teacher: bool,
    teacher: Path | None,
    init: Path | None,
    time_budget: str | None,
    device: str,
    resume: bool,
    cross_validate: bool,
    calibrate: bool,
    **chosen: Any,
) -> None:
    """Train one network on what an ensemble knows.

    DIR is from ranvier train --fold each, or, with --teacher, a dataset or an aggregate. The student learns the
    ensemble's (or the teacher's) probabilities on all images, and on those of --unlabelled; the model is written to
    OUT/model. It has no score of its own, and gives those of its teachers: run --cross-validate into the same OUT
    before, and it says how such students do.
    """
    need_pytorch()
    from ranvier.training.cross_validation import known_scores
    from ranvier.training.distil import HOW, TEACHERS_HOW, Known, export_student, lesson_of
    from ranvier.training.distil import distil as train_student
    from ranvier.training.ensemble import out_of_fold
    from ranvier.training.export import check_export
    from ranvier.training.recipe import read_recipe
    from ranvier.training.teacher import DistilSettings, Lesson, unlabelled_images

    settings = export_settings(chosen)
    check_export(output / "model", int8=settings.int8)
    read = read_recipe(recipe, changes)
    if teacher is not None and cross_validate:
        raise SettingsError(
            "one network knows all images, and no student of it can be scored",
            where="--cross-validate",
            seen=f"--teacher {teacher}",
            fix="Give one of the two",
        )
    if teacher is None:
        folds, known = teachers(folder)
        _check_output(output, folds, cross_validate=cross_validate, resume=resume)
    else:
        _check_output(output, (), cross_validate=False, resume=resume)
        folds, known = alone(teacher, folder, output, read)
    images, notes = unlabelled_images(_files(unlabelled), known)
    for note in notes:
        click.echo(f"note: {note}")
    lesson = Lesson(
        recipe=read,
        settings=DistilSettings(hard_weight=hard_weight),
        unlabelled=images,
        time_budget_s=None if time_budget is None else seconds(time_budget),
        device=device,
        resume=resume,
        from_teacher=from_teacher,
        init=init,
        teacher=teacher,
    )
    if cross_validate:
        _cross_validate(folds, lesson, output)
        return
    trained = train_student(folds, lesson, output, report=click.echo)
    if not leads():
        return
    if teacher is not None:
        about = _as_its_teacher(teacher, trained[0].best, folds[0], calibrate=calibrate)
    else:
        scores, how = known_scores(output, lesson_of(folds, lesson)), HOW
        if scores is None:
            scores, how = out_of_fold(folds), TEACHERS_HOW
        about = Known(scores, how if scores else "", _calibration(folds) if calibrate else None)
    show_bundle(
        export_student(
            trained,
            lesson,
            folds,
            output / "model",
            name=name,
            settings=settings,
            known=about,
        )
    )
    if about.how_scored == TEACHERS_HOW:
        click.echo(
            "the scores are those of the teachers; --cross-validate with the same settings makes some of students"
        )


def _check_output(
    output: Path, folds: tuple[Fold, ...], *, cross_validate: bool, resume: bool
) -> None:
    """Refuse a folder that holds the teachers, or what would be written, unless that is to be gone on with.

    Raises
    ------
    SettingsError
        As said.
    """
    from ranvier.training.cross_validation import CROSS_VALIDATION, DEALT, fold_folder
    from ranvier.training.distil import STUDENT, TEACHER

    if (output / DEALT).exists():
        raise SettingsError(
            "folds were trained here, and students would be written over them",
            where=output,
            fix="Give another -o",
        )
    students = [fold_folder(output, fold.number).name for fold in folds]
    mine, others = ([STUDENT], [CROSS_VALIDATION, *students])
    if cross_validate:
        mine, others = others, mine
    begun = any((output / name).exists() for name in mine)
    check_place(output, resume=resume or not begun, marks=(*mine, *others, TEACHER))


def _calibration(folds: tuple[Fold, ...]) -> Calibration | None:
    """Fitted on held-out images, and said; None where there are none."""
    from ranvier.training.temperature import calibrate, judge

    if not any(fold.split.validation for fold in folds):
        click.echo("no temperature: no image was held out")
        return None
    found = calibrate(judge(folds))
    click.echo(
        f"temperature {found.temperature:.3f}: calibration error {found.error_before:.4f} -> {found.error_after:.4f} "
        f"on {found.images} held-out images"
    )
    return found


def alone(
    teacher: Path, dataset: Path, output: Path, recipe: Recipe
) -> tuple[tuple[Fold, ...], list[Annotated]]:
    """One network as if it were of a fold that holds nothing out, and every labelled image of the dataset."""
    from ranvier.training.distil import TEACHER
    from ranvier.training.ensemble import Fold
    from ranvier.training.finetune import beginning

    images = images_of([dataset], "all", None)
    fold = Fold(0, beginning(teacher, images, recipe, output / TEACHER), images)
    return (fold,), labelled([dataset])


def _as_its_teacher(teacher: Path, student: Path, fold: Fold, *, calibrate: bool) -> Known:
    """The scores of the one teacher, if it is a model, and the temperature that makes its student as sure."""
    from ranvier.bundle import open_bundle
    from ranvier.training.agreement import agree
    from ranvier.training.distil import TEACHER_HOW, Known

    about = {} if teacher.is_file() else open_bundle(teacher).about
    scores = about.get("training", {}).get("validation") or {}
    how = TEACHER_HOW + str(about.get("how_scored", "")) if scores else ""
    if not calibrate:
        return Known(scores, how)
    found = agree(student, fold.checkpoint, fold.split.train)
    click.echo(
        f"temperature {found.temperature:.3f}, as sure as the teacher on {found.images} images"
    )
    return Known(scores, how, found)


def _cross_validate(folds: tuple[Fold, ...], lesson: Any, output: Path) -> None:
    from ranvier.training.cross_validation import save_scores
    from ranvier.training.distil import HOW, cross_validate, lesson_of
    from ranvier.training.ensemble import out_of_fold

    students = cross_validate(folds, lesson, output, report=click.echo)
    if leads():
        found = out_of_fold(students)
        save_scores(found, students, output, how=HOW, lesson=lesson_of(folds, lesson))
        show_out_of_fold(found, [s.number for s in students])


def teachers(folder: Path) -> tuple[tuple[Fold, ...], list[Annotated]]:
    """The trained folds, and every labelled image of their datasets, test sets included."""
    from ranvier.training.cross_validation import load_dealt, trained_folds

    dealt = load_dealt(folder)
    datasets = list(dealt.datasets)
    splits = {n: images_of(datasets, str(n), dealt.folds, dealt.sources) for n in dealt.trained}
    return trained_folds(folder, splits), labelled(datasets)


def labelled(datasets: list[Path]) -> list[Annotated]:
    """Every labelled image of datasets, or of an aggregate, test sets included."""
    from ranvier.datasets.collection import read_datasets
    from ranvier.datasets.manifest import is_aggregate, read_aggregate

    if is_aggregate(datasets[0]):
        return [entry.image for entry in read_aggregate(datasets[0]).entries]
    return list(read_datasets(datasets))


def _files(folders: tuple[Path, ...]) -> list[tuple[str, Path]]:
    """Source and path of each image in the folders.

    Raises
    ------
    DatasetError
        A folder has no images.
    """
    from ranvier.cohort import find_images

    listed = []
    for folder in folders:
        found = find_images((str(folder),))
        failed = [outcome.message for outcome in found.outcomes if outcome.status == "failed"]
        if failed:
            raise DatasetError(
                "no unlabelled images", where=folder, seen="; ".join(map(str, failed))
            )
        listed += [(folder.resolve().name, path) for path in found.items]
    return listed
