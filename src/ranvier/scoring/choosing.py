"""Which images of some datasets are scored: the test images, the others, all, or what a fold held out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from ranvier.datasets.annotated import Annotated
from ranvier.datasets.collection import list_datasets
from ranvier.datasets.manifest import is_aggregate, read_aggregate
from ranvier.errors import DatasetError, SettingsError

__all__ = ["Chosen", "Wanted", "choose_images"]

Wanted = Literal["test", "train", "all"]


@dataclass(frozen=True)
class Chosen:
    """Images to be scored.

    Attributes
    ----------
    images
        By source, in the order of the datasets.
    said
        Which they are, a line for each test set.
    problems
        What is wrong with the datasets beside them.
    """

    images: tuple[Annotated, ...]
    said: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


@dataclass
class _Found:
    """Images by their source."""

    sources: dict[str, list[Annotated]] = field(default_factory=dict)
    homes: dict[str, Path] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, images: Iterable[Annotated], home: Path) -> None:
        """Take the images of one folder; files that are known are not taken again."""
        for image in images:
            of_source = self.sources.setdefault(image.source, [])
            first = next((a for a in of_source if a.name == image.name), None)
            if first is None:
                of_source.append(image)
                self.homes.setdefault(image.source, home)
            elif first.image.resolve() != image.image.resolve():
                raise DatasetError(
                    f"two images are called {image.source}/{image.name}",
                    where=image.image,
                    seen=f"and {first.image}",
                    fix="Give one of the datasets another name in its dataset.json or dataset_description.json",
                )


def choose_images(
    folders: Sequence[Path], *, role: Wanted | None = None, fold: int | None = None
) -> Chosen:
    """List the images of some datasets that are to be scored.

    Parameters
    ----------
    folders
        Datasets, folders of datasets, and aggregates.
    role
        ``test``: the sources' own test images; ``train``: all others; ``all``. None: the test images of a source that
        has any, and all images of others.
    fold
        Only what this fold of an aggregate held out.

    Raises
    ------
    DatasetError
        A folder is no dataset, nothing is left to score, or two images of one source share a name.
    SettingsError
        A fold together with a role, or of something that is no aggregate.
    """
    if fold is not None:
        return _of_fold(folders, role, fold)
    found = _Found()
    for folder in folders:
        if is_aggregate(folder):
            found.add((e.image for e in read_aggregate(folder).entries), folder)
            continue
        for listing in list_datasets([folder]):
            shared = sorted({a.source for a in listing.images} & found.homes.keys())
            if any(found.homes[name].resolve() != listing.folder.resolve() for name in shared):
                raise DatasetError(
                    "two datasets share a name", where=listing.folder, seen=", ".join(shared)
                )
            found.add(listing.images, listing.folder)
            found.problems += listing.problems
    chosen: list[Annotated] = []
    said: list[str] = []
    for source, images in found.sources.items():
        taken, why = _taken(images, role)
        chosen += taken
        said.append(f"{source}: {why}")
    problems = tuple(dict.fromkeys(found.problems))
    if not chosen:
        told = "; ".join((*said, *problems))
        raise DatasetError("no images to score on", where=_named(folders), seen=told or "nothing")
    return Chosen(tuple(chosen), tuple(said), problems)


def _taken(images: list[Annotated], role: Wanted | None) -> tuple[list[Annotated], str]:
    """Images of one source, and why these."""
    tested = [a for a in images if a.role == "test"]
    others = [a for a in images if a.role != "test"]
    if role == "all":
        return images, f"all {len(images)} image(s)"
    if role == "train":
        return others, f"{len(others)} of {len(images)} image(s), those outside the test set"
    if tested:
        return tested, f"the {len(tested)} test image(s) of {len(images)}"
    if role == "test":
        return [], "left out, it has no test images"
    return images, f"all {len(images)} image(s): it has no test set"


def _of_fold(folders: Sequence[Path], role: Wanted | None, fold: int) -> Chosen:
    if role is not None:
        raise SettingsError(
            "a fold and a role exclude each other",
            where="--fold",
            fix="A fold holds out training images: leave --role out",
        )
    found = _Found()
    said: list[str] = []
    for folder in folders:
        if not is_aggregate(folder):
            raise SettingsError(
                "folds are those of an aggregate, and this is none",
                where=folder,
                fix="Make one with: ranvier aggregate DATASET... -o DIR",
            )
        made = read_aggregate(folder)
        held = made.split(fold).validation
        found.add(held, folder)
        said.append(f"{made.name}: {len(held)} image(s) that fold {fold} held out")
    chosen = [image for images in found.sources.values() for image in images]
    if not chosen:
        raise DatasetError("no images to score on", where=_named(folders), seen="; ".join(said))
    return Chosen(tuple(chosen), tuple(said))


def _named(folders: Sequence[Path]) -> str:
    return ", ".join(map(str, folders))
