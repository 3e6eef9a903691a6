"""Read annotated micrographs laid out as images/ and masks/ with a dataset.json."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ranvier.calibration import PixelSize, checked
from ranvier.datasets.annotated import Annotated, Role, load_json, text_of
from ranvier.datasets.listing import Listing, choose, names_twice, stem_of
from ranvier.errors import DatasetError, RanvierError
from ranvier.micrograph import AXON, BACKGROUND, MYELIN
from ranvier.reading import is_image

_TEXTS = ("modality", "species", "organ", "pathology", "licence")
_PER_IMAGE = ("subject", "sample", "pixel_size_um", *_TEXTS)
_CLASSES = {"background": BACKGROUND, "myelin": MYELIN, "axon": AXON}
_USUAL_LEVELS = ((0, 1, 2), (0, 127, 255), (0, 128, 255), (0, 32767, 65535), (0, 32768, 65535))
_PLACES: tuple[tuple[str, str, Role | None], ...] = (
    ("images", "masks", None),
    ("images_test", "masks_test", "test"),
)


def is_folder_dataset(folder: Path) -> bool:
    """Whether a folder has images/ and masks/."""
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def read_folder(folder: Path) -> tuple[Annotated, ...]:
    """List the annotated micrographs of an image+mask folder, as :func:`list_folder` finds them.

    Raises
    ------
    DatasetError
        An image without a mask or the reverse, files of one name that differ, a dataset.json that makes no sense;
        all are listed.
    """
    return list_folder(folder).accepted()


def list_folder(folder: Path) -> Listing:
    """Look through an image+mask folder.

    ``images/NAME.*`` goes with ``masks/NAME.*`` (one mask of three levels: background, myelin, axon). The source's own
    test set stands in ``images_test/`` and ``masks_test/``, or is listed under ``test``. ``dataset.json`` is optional,
    and so is each of its keys::

        {
          "name": "BF9",                       the folder's name without it
          "modality": "BF", "species": "rat", "organ": "sciatic nerve", "pathology": "healthy", "licence": "MIT",
          "pixel_size_um": 0.2,                or {"NAME": 0.2, ...}
          "subject_from": "prefix",            the subject is the name up to the first underscore;
                                               "image" (each image is its own subject) without it
          "mask_values": {"background": 0, "myelin": 127, "axon": 255},
          "test": ["NAME", ...],
          "images": {"NAME": {"subject": "rat1", "sample": "a", "pixel_size_um": 0.1, ...}}
        }

    ``images`` overrides, image by image, subject, sample, pixel size and the five texts. ``mask_values`` is needed
    only where the values are not 0 / 1 / 2, or 0, half and all of 255 or 65535. Without ``subject_from``, a
    ``groups`` text that says "before the first underscore" means ``prefix``. Other keys are left alone.
    """
    problems: list[str] = []
    notes: list[str] = []
    about = _read_about(folder, problems)
    found: list[tuple[str, Path, Path, Role | None, list[str]]] = []
    for images, masks, role in _PLACES:
        for name, image, mask, why in _pairs(folder / images, folder / masks, problems):
            listed_as_test = role is None and name in about.test
            found.append((name, image, mask, "test" if listed_as_test else role, why))
    names = {name for name, *_ in found}
    problems += [f"test: there is no image {name}" for name in about.test if name not in names]
    problems += [f"images: there is no image {name}" for name in about.images if name not in names]
    if not found and not problems:
        problems.append("no image in images/")
    has_test = any(role == "test" for *_, role, _ in found)
    listed = []
    for name, image, mask, role, why in found:
        role = "train" if role is None and has_test else role  # noqa: PLW2901
        try:
            listed.append(about.annotated(name, image, mask, role, why))
        except RanvierError as error:
            problems.append(text_of(error))
    problems += names_twice(listed)
    return Listing(folder, tuple(listed), tuple(notes), tuple(dict.fromkeys(problems)))


@dataclass(frozen=True)
class _About:
    """A dataset.json, checked."""

    where: Path
    values: Mapping[str, Any]
    test: tuple[str, ...]
    images: Mapping[str, Mapping[str, Any]]
    levels: tuple[int, int, int] | None
    by_prefix: bool

    def annotated(
        self, name: str, image: Path, mask: Path, role: Role | None, notes: list[str]
    ) -> Annotated:
        own = self.images.get(name, {})
        subject = own.get("subject", name.split("_", 1)[0] if self.by_prefix else name)
        texts = {key: own.get(key, self.values.get(key)) for key in _TEXTS}
        return Annotated(
            source=str(self.values["name"]),
            subject=str(subject),
            name=name,
            image=image,
            masks=(mask,),
            pixel_size=self._pixel_size(name, own),
            sample=None if own.get("sample") is None else str(own["sample"]),
            role=role,
            levels=self.levels,
            notes=tuple(notes),
            **{k: None if v is None else str(v) for k, v in texts.items()},  # type: ignore[arg-type]
        )

    def _pixel_size(self, name: str, own: Mapping[str, Any]) -> PixelSize | None:
        value = own.get("pixel_size_um", self.values.get("pixel_size_um"))
        if isinstance(value, dict):
            value = value.get(name)
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise DatasetError(
                "pixel_size_um must be a number", where=self.where, seen=f"{name}: {value!r}"
            )
        return checked(float(value), float(value), "dataset.json", where=self.where)


def _read_about(folder: Path, problems: list[str]) -> _About:
    path = folder / "dataset.json"
    values: dict[str, Any] = {}
    try:
        values = load_json(path) if path.is_file() else {}
    except RanvierError as error:
        problems.append(text_of(error))
    values = {"name": folder.name, **values}

    def wrong(what: str, seen: object) -> None:
        problems.append(text_of(DatasetError(what, where=path, seen=repr(seen)[:200])))

    rule = values.get("subject_from")
    if rule not in (None, "image", "prefix"):
        wrong("subject_from must be image or prefix", rule)
    by_groups = "before the first underscore" in str(values.get("groups", ""))
    test = values.get("test", [])
    if not isinstance(test, list) or not all(isinstance(name, str) for name in test):
        wrong("test must be a list of names", test)
        test = []
    images = values.get("images", {})
    if not isinstance(images, dict) or not all(isinstance(v, dict) for v in images.values()):
        wrong("images must be an object of objects", images)
        images = {}
    unknown = sorted({key for own in images.values() for key in own} - set(_PER_IMAGE))
    if unknown:
        wrong(f"an image may have {', '.join(_PER_IMAGE)}", ", ".join(unknown))
    levels = None
    try:
        levels = _levels(values.get("mask_values"), path)
    except DatasetError as error:
        problems.append(text_of(error))
    by_prefix = rule == "prefix" or (rule is None and by_groups)
    return _About(path, values, tuple(stem_of(Path(t)) for t in test), images, levels, by_prefix)


def _levels(values: object, where: Path) -> tuple[int, int, int] | None:
    """Values of the three classes; None where they are usual ones, which need not be met exactly."""
    if values is None:
        return None
    known = isinstance(values, dict) and set(values) == set(_CLASSES)
    levels = tuple(values[name] for name in _CLASSES) if isinstance(values, dict) and known else ()
    if len(set(levels)) != 3 or not all(type(v) is int and v >= 0 for v in levels):
        raise DatasetError(
            "mask_values must name three different values: background, myelin and axon",
            where=where,
            seen=repr(values)[:200],
        )
    background, myelin, axon = levels
    return None if levels in _USUAL_LEVELS else (background, myelin, axon)


def _pairs(
    images: Path, masks: Path, problems: list[str]
) -> list[tuple[str, Path, Path, list[str]]]:
    """Name, image, mask and notes of every image that has a mask."""
    by_image, by_mask = _by_stem(images), _by_stem(masks)
    for name in sorted(by_image.keys() - by_mask.keys()):
        problems.append(f"{images.name}/{by_image[name][0].name} has no mask")
    for name in sorted(by_mask.keys() - by_image.keys()):
        problems.append(f"{masks.name}/{by_mask[name][0].name} has no image")
    found = []
    for name in sorted(by_image.keys() & by_mask.keys()):
        mask, why_mask = choose(by_mask[name])
        image, why = choose(by_image[name], like=mask)
        problems += [f"{masks.name}/: {why_mask}"] if mask is None else []
        problems += [f"{images.name}/: {why}"] if image is None else []
        if mask is not None and image is not None:
            found.append((name, image, mask, [n for n in (why, why_mask) if n]))
    return found


def _by_stem(folder: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not path.name.startswith(".") and is_image(path):
            found.setdefault(stem_of(path), []).append(path)
    return found
