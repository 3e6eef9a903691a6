"""One network that learns what several know.

A student learns the probabilities that its teacher gives to every pixel (Hinton et al. 2015), and, where there are
masks, the masks beside them. Images without masks teach it as well.

What a student's score means depends on who taught it:

- By default the teacher is the ensemble of all folds, on labelled and unlabelled images alike. It is the best
  teacher, and every labelled image was seen by all of its networks but one, and is seen by the student. No image is
  left on which the student could be scored: it has no cross-validated score of its own.
- :func:`cross_validate` trains a student for each fold *k*. Every other network was trained on what fold *k* holds
  out, and would tell the student about it; so network *k* alone is its teacher, on the training images of fold *k*
  and on the unlabelled ones. No weight was then ever fitted to what the student is scored on (only which checkpoint to
  keep was chosen there, the teacher's and the student's, as in any training here). Such scores are of students with one
  teacher, and if anything too low for a student of the whole ensemble; to score that one, an ensemble would have to be
  trained anew within each fold.

Unlabelled images must show no subject that is held out. Files that are also labelled, or in a test set, are left out;
that other images show other animals is for the user to know.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ranvier.bundle import Bundle, lineage
from ranvier.datasets.folds import Split
from ranvier.errors import SettingsError
from ranvier.training.agreement import Agreement
from ranvier.training.checkpoint import load_checkpoint
from ranvier.training.cross_validation import fold_folder
from ranvier.training.ensemble import Fold, Scores, images_of
from ranvier.training.export import ExportSettings, listed, product, write_bundle
from ranvier.training.finetune import beginning
from ranvier.training.loop import Report, TrainingResult, train
from ranvier.training.teacher import Lesson, file_hash, teach
from ranvier.training.temperature import Calibration, tempered

TEACHER = "teacher"
STUDENT = "student"
HOW = (
    "Whole images of held-out subjects, one view, mean over images: scores of other students, one for each fold, each "
    "taught only by the one network that did not see the subjects that it is scored on. The student of this model was "
    "taught by all networks on all images and has no such score. Which checkpoint of a student to keep was chosen on "
    "the images that it is scored on."
)
TEACHERS_HOW = (
    "Whole images of held-out subjects, one view, mean over images: scores of the student's teachers, each image by "
    "the one network that did not see its subject. The student of this model was taught by all networks on all images "
    "and has no such score. Which checkpoint of a teacher to keep was chosen on the images that it is scored on."
)

TEACHER_HOW = (
    "The teacher's scores, from its own card; the student learned from all images that it was given and has none. Of "
    "the teacher it is said: "
)


@dataclass(frozen=True)
class Known:
    """What is known of a student that has no score of its own.

    Attributes
    ----------
    scores, how_scored
        Dice and IoU by source, and whose they are: of :func:`cross_validate`'s students, or of the teachers.
    calibration
        The temperature of its logits; None leaves them.
    """

    scores: Scores = field(default_factory=dict)
    how_scored: str = ""
    calibration: Calibration | Agreement | None = None


def lesson_of(folds: Sequence[Fold], lesson: Lesson) -> dict[str, Any]:
    """What makes students alike: teachers, recipe and how they are taught, as JSON."""
    begun = {} if lesson.init is None else {"init": str(lesson.init)}
    return {
        **begun,
        "teachers": [file_hash(fold.checkpoint) for fold in folds],
        "recipe": lesson.recipe.as_dict(),
        "settings": asdict(lesson.settings),
        "from_teacher": lesson.from_teacher,
        "unlabelled": sorted(digest for image in lesson.unlabelled for digest in image.sha256),
    }


def distil(
    folds: Sequence[Fold], lesson: Lesson, folder: Path, *, report: Report = print
) -> tuple[TrainingResult, Split]:
    """Train one student of the whole ensemble, on all images that any fold was trained on or held out.

    Parameters
    ----------
    folds
        The teacher's.
    lesson
        What the student is told.
    folder
        ``student`` is made in it, and ``teacher`` for the probabilities.
    report
        Takes a line of text.

    Returns
    -------
    result, split
        The training, and what it was trained on; nothing is held out.

    Raises
    ------
    DatasetError, SettingsError
        As for :func:`ranvier.training.loop.train`; or the probabilities in the folder are of other teachers.
    BundleError
        The bundle to begin with is missing or cannot be read back.
    """
    images = (*images_of(folds), *lesson.unlabelled)
    checkpoints = [fold.checkpoint for fold in folds]
    learned = teach(images, checkpoints, lesson, folder / TEACHER, report)
    split = Split(learned, (), ("the student itself was scored on nothing that it had not seen",))
    init = checkpoints[0] if lesson.from_teacher else None
    if lesson.init is not None:
        init = beginning(lesson.init, split, lesson.recipe, folder)
    return _train(split, lesson, folder / STUDENT, init, report=report), split


def cross_validate(
    folds: Sequence[Fold], lesson: Lesson, folder: Path, *, report: Report = print
) -> tuple[Fold, ...]:
    """Train a student for each fold, taught by that fold's network alone; see the module's docstring.

    Parameters
    ----------
    folds
        The teachers.
    lesson
        What the students are told; the time budget is that of each.
    folder
        ``fold-k`` is made in it for each, with the probabilities.
    report
        Takes a line of text.

    Returns
    -------
    tuple of Fold
        The students, for :func:`ranvier.training.ensemble.out_of_fold`.

    Raises
    ------
    DatasetError, SettingsError
        As for :func:`distil`; or weights that may know what is held out begin or teach.
    """
    for option, given in (("--init", lesson.init), ("--teacher", lesson.teacher)):
        if given is not None:
            raise SettingsError(
                "the weights may know what the folds hold out",
                where=option,
                seen=given,
                fix="Let each fold's network teach, and begin with fresh weights or with that (--from-teacher)",
            )
    students = []
    for fold in folds:
        report(f"student {fold.number}: taught by network {fold.number} alone")
        place = fold_folder(folder, fold.number)
        images = (*fold.split.train, *lesson.unlabelled)
        learned = teach(images, [fold.checkpoint], lesson, place / TEACHER, report)
        split = replace(fold.split, train=learned)
        init = fold.checkpoint if lesson.from_teacher else None
        result = _train(split, lesson, place, init, report=report)
        students.append(Fold(fold.number, result.best, split))
    return tuple(students)


def _train(
    split: Split, lesson: Lesson, folder: Path, init: Path | None, *, report: Report
) -> TrainingResult:
    return train(
        split,
        lesson.recipe,
        folder,
        init=init,
        time_budget_s=lesson.time_budget_s,
        resume=lesson.resume,
        device=lesson.device,
        report=report,
    )


def _known_to(about: Mapping[str, Any]) -> set[str]:
    """Images, as source/name, that a checkpoint's network and those that it began with were trained on."""
    parts = [each.get("images") or {} for each in lineage(about)]
    return {image for part in parts for image in part.get("train") or ()}


def export_student(
    trained: tuple[TrainingResult, Split],
    lesson: Lesson,
    folds: Sequence[Fold],
    folder: Path,
    *,
    name: str,
    settings: ExportSettings,
    known: Known | None = None,
) -> Bundle:
    """Make a bundle of a student, whose ``training`` says who taught it.

    Parameters
    ----------
    trained
        From :func:`distil`.
    lesson, folds
        What it was told, and by whom.
    folder, name, settings
        As for :func:`ranvier.training.export.write_bundle`.
    known
        What is written about it, and the temperature that it gets.

    Raises
    ------
    OutputExistsError, MissingExtraError, BundleError
        As for :func:`ranvier.training.export.export_bundle`.
    """
    result, split = trained
    made = product(result.best, split)
    known = known or Known()
    summary: dict[str, Any] = {
        **made.summary,
        "validation": known.scores,
        "distilled_from": {
            "teachers": [
                ({"fold": f.number} if lesson.teacher is None else {"model": str(lesson.teacher)})
                | {"sha256": file_hash(f.checkpoint)}
                for f in folds
            ],
            "hard_weight": lesson.settings.hard_weight,
            "unlabelled": listed(lesson.unlabelled),
        },
    }
    if lesson.init is not None:
        summary["distilled_from"]["init"] = str(lesson.init)
    if lesson.teacher is not None and not lesson.from_teacher:
        # What a network begins with tells its images itself; what only teaches it does not.
        for told, fold in zip(summary["distilled_from"]["teachers"], folds, strict=True):
            told["trained_on"] = sorted(_known_to(load_checkpoint(fold.checkpoint).about))
    if known.calibration is not None:
        summary["calibration"] = known.calibration.as_dict()
        made = replace(made, network=tempered(made.network, known.calibration.temperature))
    made = replace(made, summary=summary, how_scored=known.how_scored)
    return write_bundle(made, folder, name=name, settings=settings)
