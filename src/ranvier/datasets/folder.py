"""Read annotated micrographs laid out as images/ and masks/ with a dataset.json."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ranvier.calibration import PixelSize, checked
from ranvier.datasets.annotated import Annotated, load_json, raise_together
from ranvier.errors import DatasetError
from ranvier.reading import is_image


def is_folder_dataset(folder: Path) -> bool:
    """Whether a folder has images/ and masks/."""
    return (folder / "images").is_dir() and (folder / "masks").is_dir()


def read_folder(folder: Path) -> tuple[Annotated, ...]:
    """List the annotated micrographs of an image+mask folder.

    ``images/NAME.*`` goes with ``masks/NAME.*`` (three levels: background, myelin, axon). ``dataset.json`` may
    give ``name``, ``pixel_size_um`` and ``subject_from``: ``image`` (every image is its own subject, the default) or
    ``prefix`` (the subject is the part of the name before the first underscore). Where ``subject_from`` is
    missing, a ``groups`` text that says "before the first underscore" means ``prefix``.

    Raises
    ------
    DatasetError
        An image without a mask or the reverse, two files of one name, an unreadable dataset.json; all are listed.
    """
    description = folder / "dataset.json"
    about = load_json(description) if description.is_file() else {}
    images, problems = _by_stem(folder / "images")
    masks, more = _by_stem(folder / "masks")
    problems += more
    problems += [f"images/{p.name} has no mask" for s, p in images.items() if s not in masks]
    problems += [f"masks/{p.name} has no image" for s, p in masks.items() if s not in images]
    raise_together(problems, folder)
    if not images:
        raise DatasetError("no image in images/", where=folder)
    by_prefix = _subject_is_prefix(about, folder)
    size = _pixel_size(about, description)
    return tuple(
        Annotated(
            source=str(about.get("name", folder.name)),
            subject=stem.split("_", 1)[0] if by_prefix else stem,
            name=stem,
            image=images[stem],
            masks=(masks[stem],),
            pixel_size=size,
        )
        for stem in sorted(images)
    )


def _by_stem(folder: Path) -> tuple[dict[str, Path], list[str]]:
    found: dict[str, Path] = {}
    problems: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not path.is_file() or not is_image(path):
            continue
        stem = path.name.split(".", 1)[0]
        if stem in found:
            problems.append(f"{folder.name}/: {found[stem].name} and {path.name} share a name")
        found[stem] = path
    return found, problems


def _subject_is_prefix(about: dict[str, Any], folder: Path) -> bool:
    rule = about.get("subject_from")
    if rule is None:
        return "before the first underscore" in str(about.get("groups", ""))
    if rule not in ("image", "prefix"):
        raise DatasetError(
            "unknown subject_from",
            where=folder / "dataset.json",
            seen=rule,
            fix="Write image or prefix",
        )
    return bool(rule == "prefix")


def _pixel_size(about: dict[str, Any], where: Path) -> PixelSize | None:
    value = about.get("pixel_size_um")
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise DatasetError("pixel_size_um must be a number", where=where, seen=repr(value))
    return checked(float(value), float(value), "dataset.json", where=where)
