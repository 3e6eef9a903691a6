"""What a reader found in a dataset's folder, its problems included."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ranvier.datasets.annotated import Annotated, raise_together, text_of
from ranvier.errors import RanvierError
from ranvier.reading import read

ENDINGS = (".ome.tiff", ".ome.tif", ".ome.btf", ".png", ".tiff", ".tif", ".btf", ".jpeg", ".jpg")
"""Endings of image files, the longer ones first."""
_PREFERRED = (".png", ".tif", ".tiff", ".ome.tif", ".ome.tiff")


@dataclass(frozen=True)
class Listing:
    """The annotated images of a dataset.

    Attributes
    ----------
    folder
        Where the dataset lies.
    images
        Those that can be used as far as names and descriptions tell; pixels were not looked at.
    notes
        What was accepted or left out, in plain words.
    problems
        What makes no sense, each with its place.
    """

    folder: Path
    images: tuple[Annotated, ...]
    notes: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()

    def accepted(self) -> tuple[Annotated, ...]:
        """The images, if there is no problem.

        Raises
        ------
        DatasetError
            There is one; all are listed.
        """
        raise_together(list(dict.fromkeys(self.problems)), self.folder)
        return self.images


class Choice(NamedTuple):
    """One of several files of the same name, or none; and why."""

    path: Path | None
    why: str


def stem_of(path: Path) -> str:
    """A file's name without the ending of an image."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return path.name[: -len(ending)]
    return path.stem


def choose(twins: list[Path], *, like: Path | None = None) -> Choice:
    """Choose among files that differ in their ending only, such as ``a.png`` and ``a.tif``.

    The rule: files that cannot be read are left out. If the others hold the same grey levels, the PNG is taken,
    or the TIFF without one. If they differ but a single one has the shape of ``like`` (an image's mask), that one is
    taken. In every other case none is.

    Parameters
    ----------
    twins
        At least one file.
    like
        A file whose shape the right one has.
    """
    if len(twins) == 1:
        return Choice(twins[0], "")
    ordered = sorted(twins, key=lambda p: (_rank(p), p.name))
    names = " and ".join(p.name for p in ordered)
    found = {}
    for path in ordered:
        try:
            found[path] = read(path, pixel_size=1.0).pixels
        except RanvierError:
            continue
    if not found:
        return Choice(None, f"{names} share a name and none can be read")
    first = next(iter(found))
    if len(found) == 1:
        return Choice(first, f"{names} share a name: took {first.name}, the one that can be read")
    if all(np.array_equal(found[first], other) for other in found.values()):
        return Choice(first, f"{names} share a name and hold the same pixels: took {first.name}")
    if like is not None:
        try:
            shape = read(like, pixel_size=1.0).shape
        except RanvierError:
            shape = (0, 0)
        fitting = [p for p, pixels in found.items() if pixels.shape == shape]
        if len(fitting) == 1:
            why = f"{names} share a name: took {fitting[0].name}, whose shape is the mask's"
            return Choice(fitting[0], why)
    return Choice(None, f"{names} share a name and differ; remove the wrong one")


def _rank(path: Path) -> int:
    ending = path.name[len(stem_of(path)) :].lower()
    return _PREFERRED.index(ending) if ending in _PREFERRED else len(_PREFERRED)


def names_twice(images: list[Annotated]) -> list[str]:
    """Problems of images that share source and name."""
    seen: dict[tuple[str, str], Annotated] = {}
    problems = []
    for image in images:
        first = seen.setdefault((image.source, image.name), image)
        if first is not image:
            problems.append(f"{first.image} and {image.image} are both named {image.name}")
    return problems


def caught(work: Callable[[], object], problems: list[str]) -> None:
    """Run, and turn an error that Ranvier raises into a problem of the list."""
    try:
        work()
    except RanvierError as error:
        problems.append(text_of(error))
