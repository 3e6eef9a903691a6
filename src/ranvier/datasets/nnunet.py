"""Read annotated micrographs laid out as a raw dataset of nnU-Net."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast, get_args

from ranvier.calibration import PixelSize, Source, checked
from ranvier.datasets.annotated import Annotated, Role, load_json, text_of
from ranvier.datasets.listing import Listing, names_twice
from ranvier.errors import DatasetError, RanvierError

ABOUT, OWN, SPLITS = "dataset.json", "ranvier.json", "splits_final.json"
_NEEDED = ("background", "myelin", "axon")
_PLACES: tuple[tuple[str, str, Role], ...] = (
    ("imagesTr", "labelsTr", "train"),
    ("imagesTs", "labelsTs", "test"),
)
_TEXTS = ("sample", "modality", "species", "organ", "pathology", "licence")


def is_nnunet(folder: Path) -> bool:
    """Whether a folder is laid out as a raw dataset of nnU-Net."""
    return (folder / ABOUT).is_file() and (folder / "imagesTr").is_dir()


def read_nnunet(folder: Path) -> tuple[Annotated, ...]:
    """List the annotated micrographs of a raw dataset of nnU-Net, as :func:`list_nnunet` finds them.

    Raises
    ------
    DatasetError
        The dataset holds no annotated image, or some of its files make no sense; all problems are listed.
    """
    return list_nnunet(folder).accepted()


def list_nnunet(folder: Path) -> Listing:
    """Look through a raw dataset of nnU-Net (versions 1 and 2, two-dimensional images).

    ``imagesTr/CASE_0000.png`` goes with ``labelsTr/CASE.png``, ``imagesTs/`` with ``labelsTs/``; the latter are the
    test set, and left out where they have no labels. ``dataset.json`` names the labels: background, myelin
    and axon are needed, upper or lower case and in any order. A further label is accepted as long as no pixel has it:
    a mask that uses one is refused when it is read. Regions (labels that are lists) and cases of several channels are
    refused. Pixel sizes are unknown to nnU-Net.

    ``ranvier.json``, which :func:`ranvier.datasets.nnunet_export.export_nnunet` writes, tells for each case its
    source, subject, name, pixel size and the rest. Without it, the dataset is one source and each case its own subject.
    """
    problems: list[str] = []
    notes: list[str] = []
    about = _about(folder, problems, notes)
    found: list[Annotated] = []
    for images, labels, role in _PLACES:
        for case, image, mask in _cases(folder, images, labels, about.ending, problems, notes):
            try:
                found.append(_annotated(about, case, image, mask, role))
            except RanvierError as error:
                problems.append(text_of(error))
    tested = {a.source for a in found if a.role == "test"}
    found = [a if a.source in tested else replace(a, role=None) for a in found]
    if found and not about.cases:
        notes.append(f"there is no {OWN}: each image is its own subject, its pixel size unknown")
    problems += names_twice(found)
    if not found and not problems:
        problems.append("no annotated image in this nnU-Net dataset (imagesTr/, labelsTr/)")
    return Listing(folder, tuple(found), tuple(notes), tuple(dict.fromkeys(problems)))


def read_folds(folder: Path) -> dict[str, int]:
    """Fold in whose validation set each case stands, from splits_final.json.

    Raises
    ------
    DatasetError
        The file is missing or of another form, or a case stands in several validation sets or on both sides of a fold.
    """
    import json

    path = folder / SPLITS
    try:
        splits = json.loads(path.read_text(encoding="utf-8-sig"))
        folds = [(set(fold["train"]), list(fold["val"])) for fold in splits]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DatasetError(
            "not a list of folds with train and val", where=path, seen=str(error)
        ) from error
    found: dict[str, int] = {}
    for number, (train, validation) in enumerate(folds):
        for case in validation:
            if case in found or case in train:
                raise DatasetError(
                    "a case is validated in two folds or trained on where it is validated",
                    where=path,
                    seen=f"{case}, fold {number}",
                )
            found[case] = number
    return found


@dataclass(frozen=True)
class _About:
    """dataset.json and ranvier.json, checked."""

    folder: Path
    name: str
    levels: tuple[int, int, int] | None = None
    ending: str = ".png"
    licence: str | None = None
    cases: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def _about(folder: Path, problems: list[str], notes: list[str]) -> _About:
    path = folder / ABOUT
    try:
        about = load_json(path)
        levels = _levels(about.get("labels"), path, notes)
        own = load_json(folder / OWN) if (folder / OWN).is_file() else {}
    except RanvierError as error:
        problems.append(text_of(error))
        return _About(folder, folder.name)
    cases = own.get("cases", {})
    if not isinstance(cases, dict) or not all(isinstance(v, dict) for v in cases.values()):
        problems.append(f"{folder / OWN}: cases must be an object of objects")
        cases = {}
    channels = about.get("channel_names", about.get("modality", {}))
    if isinstance(channels, dict) and len(channels) > 1:
        notes.append(f"{len(channels)} channels in one file are read as one grey image")
    licence = about.get("licence", about.get("license"))
    return _About(
        folder,
        str(about.get("name", folder.name)),
        levels,
        str(about.get("file_ending", ".png")),
        None if licence is None else str(licence),
        cases,
    )


def _levels(labels: object, where: Path, notes: list[str]) -> tuple[int, int, int] | None:
    """Values of background, myelin and axon; None for 0, 1, 2."""
    if not isinstance(labels, dict):
        raise DatasetError(
            "labels must name background, myelin and axon", where=where, seen=repr(labels)
        )
    if all(str(key).isdecimal() for key in labels):  # nnU-Net 1 has them the other way round
        labels = {str(name): int(value) for value, name in labels.items()}
    named = {str(name).strip().lower(): value for name, value in labels.items()}
    values = [named.get(name) for name in _NEEDED]
    if len(set(map(str, values))) != 3 or not all(type(v) is int and 0 <= v < 256 for v in values):
        raise DatasetError(
            "labels must give background, myelin and axon a whole number each",
            where=where,
            seen=repr(labels)[:200],
            fix="Datasets with regions, or of other classes, cannot be used",
        )
    more = sorted(set(named) - set(_NEEDED))
    if more:
        notes.append(f"further labels are accepted as long as no pixel has them: {', '.join(more)}")
    background, myelin, axon = cast(list[int], values)
    usual = (background, myelin, axon) == (0, 1, 2) and not more
    return None if usual else (background, myelin, axon)


def _cases(
    folder: Path, images: str, labels: str, ending: str, problems: list[str], notes: list[str]
) -> list[tuple[str, Path, Path]]:
    """Case, image and label file of every case that has both."""
    files = {p.name: p for p in sorted((folder / images).glob(f"*{ending}"))}
    masks = {p.name.removesuffix(ending): p for p in sorted((folder / labels).glob(f"*{ending}"))}
    found = []
    unmarked = []
    for name, path in files.items():
        case, _, channel = name.removesuffix(ending).rpartition("_")
        if not case or not (len(channel) == 4 and channel.isdecimal()):
            problems.append(f"{images}/{name}: the name does not end in a channel such as _0000")
        elif channel != "0000":
            problems.append(f"{images}/{name}: cases of several channels cannot be used")
        elif case in masks:
            found.append((case, path, masks.pop(case)))
        elif images == "imagesTs":
            unmarked.append(case)
        else:
            problems.append(f"{images}/{name} has no label")
    problems += [f"{labels}/{path.name} has no image" for path in masks.values()]
    if unmarked:
        notes.append(f"{len(unmarked)} test image(s) without labels left out")
    return found


def _annotated(about: _About, case: str, image: Path, mask: Path, role: Role) -> Annotated:
    own = about.cases.get(case, {})
    texts = {key: own.get(key) for key in _TEXTS}
    texts["licence"] = texts["licence"] or about.licence
    return Annotated(
        source=str(own.get("source", about.name)),
        subject=str(own.get("subject", case)),
        name=str(own.get("name", case)),
        image=image,
        masks=(mask,),
        pixel_size=_pixel_size(own, case, about.folder / OWN),
        role=role,
        levels=about.levels,
        **{k: None if v is None else str(v) for k, v in texts.items()},  # type: ignore[arg-type]
    )


def _pixel_size(own: Mapping[str, Any], case: str, where: Path) -> PixelSize | None:
    value, source = own.get("pixel_size_um"), own.get("pixel_size_source", "dataset.json")
    if value is None:
        return None
    if (
        not isinstance(value, int | float)
        or isinstance(value, bool)
        or source not in get_args(Source)
    ):
        raise DatasetError(
            "pixel_size_um or pixel_size_source makes no sense",
            where=where,
            seen=f"{case}: {value!r}, {source!r}",
        )
    return checked(float(value), float(value), cast(Source, source), where=where)
