"""What a teacher says of every pixel of whole images, kept on disk for its students."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ranvier.datasets.annotated import Annotated, load_json
from ranvier.errors import SettingsError
from ranvier.inference import InferenceSettings, tile_logits
from ranvier.micrograph import AXON, CLASS_NAMES, MYELIN, Micrograph
from ranvier.preprocess import statistics, zoomed_shape
from ranvier.reading import read
from ranvier.tiling import Box
from ranvier.training.device import take_place
from ranvier.training.ensemble import make_ensemble, recipe_of
from ranvier.training.lessons import Taught, taught
from ranvier.training.looking import shown_at, suiting_zoom
from ranvier.training.loop import Report
from ranvier.training.network import TorchBackend, field_of
from ranvier.training.recipe import Recipe
from ranvier.writing import make_folder, write_atomically

ABOUT = "teacher.json"


@dataclass(frozen=True)
class DistilSettings:
    """What a student learns from.

    Attributes
    ----------
    hard_weight
        Weight of the masks beside the teacher's probabilities, where there are masks: 0 to 1.
    inference
        Views and tiles of the teacher. It is shown images as they are, or, where its training brought them to one
        width of axons, at the zoom that suits each.
    """

    hard_weight: float = 0.5
    inference: InferenceSettings = field(
        default_factory=lambda: InferenceSettings(zoom=1.0, views=2)
    )

    def __post_init__(self) -> None:
        if not 0 <= self.hard_weight <= 1:
            raise SettingsError("must be in [0, 1]", where="--hard-weight", seen=self.hard_weight)
        if self.inference.zoom != 1:
            raise SettingsError(
                "a teacher looks at images as they are", where="zoom", seen=self.inference.zoom
            )


@dataclass(frozen=True)
class Lesson:
    """All that a training of students is told.

    Attributes
    ----------
    recipe
        Of the student.
    settings
        What it learns from.
    unlabelled
        Images without masks, from :func:`unlabelled_images`.
    time_budget_s, device, resume
        As for :func:`ranvier.training.loop.train`.
    from_teacher
        Begin with the weights of the teacher's first network, which must have the shape of the recipe's, instead of
        fresh ones.
    init
        Or with those of a checkpoint or of a bundle, by name or folder; not for :func:`cross_validate`'s students, who
        must not know what the folds hold out.
    teacher
        The one network that teaches, if it is not the networks of folds: a checkpoint or a bundle, as it was asked for.
    """

    recipe: Recipe
    settings: DistilSettings = field(default_factory=DistilSettings)
    unlabelled: tuple[Annotated, ...] = ()
    time_budget_s: float | None = None
    device: str = "auto"
    resume: bool = False
    from_teacher: bool = False
    init: Path | None = None
    teacher: Path | None = None

    def __post_init__(self) -> None:
        if self.from_teacher and self.init is not None:
            raise SettingsError(
                "a student begins with the teacher's weights or with others",
                where="--init",
                seen=f"{self.init} and --from-teacher",
                fix="Give one of the two",
            )


def unlabelled_images(
    files: Iterable[tuple[str, Path]], known: Iterable[Annotated]
) -> tuple[tuple[Annotated, ...], tuple[str, ...]]:
    """Images without masks, but none that is known already.

    Parameters
    ----------
    files
        Name of their source and path of each image.
    known
        Labelled images, those of test sets too: files with the same bytes are left out.

    Returns
    -------
    images, notes
        What may be used, and what was left out.

    Raises
    ------
    ReadError
        A file cannot be used.
    """
    seen = {file_hash(a.image): f"{a.source}/{a.name}" for a in known}
    images, notes = [], []
    for source, path in files:
        digest = read(path).sha256
        if digest in seen:
            notes.append(f"{path} is left out: the same file as {seen[digest]}")
            continue
        seen[digest] = str(path)
        where = f"{source} (unlabelled)"
        images.append(Annotated(where, path.stem, path.name, path, (), sha256=(digest,)))
    return tuple(images), tuple(notes)


def probabilities(
    micrograph: Micrograph, network: nn.Module, recipe: Recipe, settings: InferenceSettings
) -> NDArray[np.uint8]:
    """Softmax probabilities of a whole image at its own pixels, by the same code that users run.

    A network that was trained on images brought to one width of axons looks at the zoom that suits the image.

    Parameters
    ----------
    micrograph
        The image; a flat one is background throughout.
    network, recipe
        In evaluation mode on its device, and its geometry, input and precision.
    settings
        Views and tile size.

    Returns
    -------
    planes
        uint8 (2, rows, columns): myelin and axon, times 255.
    """
    planes = np.zeros((2, *micrograph.shape), dtype=np.uint8)
    grey = statistics(micrograph.pixels)
    if grey.is_flat:
        return planes
    backend = TorchBackend(network, precision=recipe.schedule.precision)
    zoom = suiting_zoom(micrograph.pixels, backend, recipe, settings)
    shape = zoomed_shape(micrograph.shape, zoom)
    if shape != micrograph.shape:
        return _likely(shown_at(micrograph.pixels, shape, backend, recipe, settings))
    for box, logits in tile_logits(
        micrograph.pixels,
        grey,
        backend,
        field=field_of(recipe.network),
        settings=settings,
        normalisation=recipe.input.scheme,
    ):
        rows, columns = box.within(Box(0, 0, *micrograph.shape))
        planes[:, rows, columns] = _likely(logits)
    return planes


def _likely(logits: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Probability of myelin and of axon, times 255."""
    likely = np.exp(logits - logits.max(axis=0))
    likely *= 255 / likely.sum(axis=0)
    found: NDArray[np.uint8] = np.rint(likely[[MYELIN, AXON]]).astype(np.uint8)
    return found


def teach(
    images: Iterable[Annotated],
    checkpoints: Sequence[Path],
    lesson: Lesson,
    folder: Path,
    report: Report,
) -> tuple[Taught, ...]:
    """Let a teacher look at images, once; what is there already is kept if the same teacher made it.

    Parameters
    ----------
    images
        Labelled and unlabelled.
    checkpoints
        The teacher is the mean of their networks.
    lesson
        How it looks, and where.
    folder
        One .npy for each image goes there.
    report
        Takes a line of text.

    Raises
    ------
    SettingsError
        What is there is of another teacher or other settings.
    """
    place = take_place(lesson.device, lesson.recipe.schedule.precision)
    listing = tuple(images)
    found = [(a, folder / f"{_key(a)}.npy") for a in listing]
    if place.leads:
        _same_teacher(checkpoints, lesson.settings, folder)
        missing = [(a, path) for a, path in found if not path.is_file()]
        if missing:
            report(f"the teacher looks at {len(missing)} images")
            recipe = recipe_of(checkpoints)
            for warning in place.warnings(
                recipe.schedule.precision, "the teacher's recipe asks for it"
            ):
                report(warning)
            network = make_ensemble(checkpoints).to(place.device)
            for image, path in missing:
                pixels = read(image.image, pixel_size=1.0)
                planes = probabilities(pixels, network, recipe, lesson.settings.inference)
                buffer = io.BytesIO()
                np.save(buffer, planes, allow_pickle=False)
                write_atomically(path, buffer.getvalue())
    place.wait()
    return tuple(taught(a, path, lesson.settings.hard_weight) for a, path in found)


def _same_teacher(checkpoints: Sequence[Path], settings: DistilSettings, folder: Path) -> None:
    """Remember who teaches and how, or refuse to go on otherwise."""
    path = make_folder(folder) / ABOUT
    about = {
        "checkpoints": [file_hash(c) for c in checkpoints],
        "classes": list(CLASS_NAMES[1:]),
        "settings": asdict(settings),
    }
    if not path.is_file():
        write_atomically(path, (json.dumps(about, indent=1) + "\n").encode())
    elif load_json(path) != about:
        raise SettingsError(
            "these probabilities are of another teacher or other settings",
            where=path,
            fix="Train into another folder",
        )


def _key(image: Annotated) -> str:
    text = f"{image.source}/{image.name}/{file_hash(image.image)}"
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
