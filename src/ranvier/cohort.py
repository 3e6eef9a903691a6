"""Many inputs: found, taken one by one; a failure neither hides nor stops the rest."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from ranvier._mask_files import (
    IMAGE_ENDINGS,
    MaskFile,
    chosen,
    is_nerve,
    mask_file,
    masks_of,
    of_named,
)
from ranvier.errors import InputError, RanvierError, ReadError
from ranvier.jobs import MaskSet, Options, Outcome
from ranvier.reading import is_image
from ranvier.results import OUTPUT_ENDINGS, RUN, stem_of

NAMED_LIKE_A_MASK = "named like a mask; give it by its own name to segment it all the same"
T = TypeVar("T")


@dataclass(frozen=True)
class Found(Generic[T]):
    """What paths, folders and globs stand for, and what was wrong with some of them."""

    items: tuple[T, ...]
    outcomes: tuple[Outcome, ...] = ()
    """Outcomes that are known already: what is not there, and results of earlier runs."""


def find_images(paths: Iterable[str]) -> Found[Path]:
    """List the images that files, folders and globs stand for.

    A folder stands for the files in it (not below) that have an image's name or an image's first bytes, so
    that a broken image is found too; Ranvier's own results are left out. A file stands for itself.

    A path or glob that matches nothing and a folder without images are failures; they don't stop the rest.
    """
    found: dict[str, Path] = {}
    failures: list[Outcome] = []
    for text in paths:
        try:
            for path in _matches(text):
                if path.is_file() and (reason := _reason_to_skip(path, named=path == Path(text))):
                    failures.append(Outcome(path, "skipped", message=reason))
                    continue
                for image in _images_in(path, failures) if path.is_dir() else [path]:
                    found.setdefault(os.path.abspath(image), image)  # noqa: PTH100 - links stay
        except (RanvierError, OSError) as error:
            failures.append(Outcome(Path(text), "failed", message=_said(text, error)))
    return Found(tuple(found.values()), tuple(failures))


def find_masks(paths: Iterable[str]) -> Found[MaskSet]:
    """List the masks that files, folders and globs stand for, put together by image.

    ``X_seg-axon.*`` and ``X_seg-myelin.*`` make a pair, which is preferred over ``X_seg-axonmyelin.*``
    where both are there. ``X_seg-axon-manual.*`` and so on are a set of their own, and the two are never
    mixed: of a folder or glob, the manual set is taken where it is complete, and the outcome has a note if
    there are masks of the other; a file that is named is taken with those of its own set. Where a folder
    has none of these names, every image in it is taken as a mask with three levels.

    A path that matches nothing, an axon or myelin mask that is alone and two files of one kind in one set
    are failures; they don't stop the rest.
    """
    texts = list(paths)
    given = {path for text in texts if (path := Path(text)).is_file()}
    sets: list[MaskSet] = []
    failures: dict[str, Outcome] = {}
    for text in texts:
        try:
            for where, find in _mask_groups(text, given):
                try:
                    sets.append(find())
                except InputError as error:
                    failures[str(error)] = Outcome(where, "failed", message=str(error))
        except (RanvierError, OSError) as error:
            failures[str(error)] = Outcome(Path(text), "failed", message=_said(text, error))
    unique = {masks.files: masks for masks in sets}
    return Found(tuple(unique.values()), tuple(failures.values()))


def run_all(
    found: Found[T],
    work: Callable[[T], Outcome],
    *,
    place: Callable[[T], tuple[Path, str]],
    path_of: Callable[[T], Path],
) -> Iterator[Outcome]:
    """Do the work on each item and say what became of it.

    Parameters
    ----------
    found
        Inputs. What was wrong with finding them is said first.
    work
        What to do with one.
    place
        Folder and stem of an item's results; items that would write the same files fail, all of them.
    path_of
        The file that stands for an item.
    """
    yield from found.outcomes
    counts = Counter(place(item) for item in found.items)
    for item in found.items:
        folder, stem = place(item)
        try:
            if counts[(folder, stem)] > 1:
                raise InputError(
                    "several inputs would write the same results",
                    where=path_of(item),
                    seen=f"{counts[(folder, stem)]} inputs called {stem}",
                    fix="Give them different names, or run them with different -o folders",
                )
            yield work(item)
        except RanvierError as error:
            yield Outcome(path_of(item), "failed", message=str(error))
        except MemoryError:
            message = f"{path_of(item)}: not enough memory for this image. Crop it, or free memory"
            yield Outcome(path_of(item), "failed", message=message)
        except Exception as error:
            message = f"{path_of(item)}: unexpected failure (seen: {type(error).__name__}: {error})"
            yield Outcome(path_of(item), "failed", message=message.replace("\n", " "))


def image_place(options: Options) -> Callable[[Path], tuple[Path, str]]:
    """Folder and stem of an image's results, for :func:`run_all`."""
    return lambda path: (options.folder_for(path).resolve(), stem_of(path))


def mask_place(options: Options) -> Callable[[MaskSet], tuple[Path, str]]:
    """Folder and stem of a mask set's results, for :func:`run_all`."""
    return lambda masks: (options.folder_for(masks.files[0]).resolve(), masks.stem)


def _matches(text: str) -> list[Path]:
    """The path itself if it is there, else the files that the glob matches."""
    path = Path(text)
    if path.exists():
        return [path]
    matched = [Path(p) for p in sorted(glob.glob(text, recursive=True))]  # noqa: PTH207 - absolute patterns
    files = [p for p in matched if not p.is_dir()]
    if not files:
        raise ReadError("nothing there", where=text, fix="Give images, folders or globs that exist")
    return files


def _is_result_name(path: Path) -> bool:
    return path.name.endswith(OUTPUT_ENDINGS)


def _reason_to_skip(path: Path, *, named: bool) -> str:
    """Why a file that a path or glob stands for is not segmented; empty if it is."""
    if _is_own_result(path):
        return "a result of an earlier run"
    if not named and (mask_file(path) is not None or is_nerve(path)):
        return NAMED_LIKE_A_MASK
    return ""


def _is_own_result(path: Path) -> bool:
    """Whether an earlier run wrote this file: its run.json lies beside it."""
    return any(
        path.name.endswith(e) and path.with_name(path.name.removesuffix(e) + RUN).is_file()
        for e in OUTPUT_ENDINGS
    )


def _said(text: str, error: Exception) -> str:
    """An error with its place, also where the system raised it."""
    if isinstance(error, OSError):
        return str(InputError("cannot be opened", where=text, seen=error.strerror))
    return str(error)


def _images_in(folder: Path, left_out: list[Outcome]) -> list[Path]:
    """Images in a folder. Results of earlier runs are left out; files named like masks too, and that is said."""
    inside = [p for p in sorted(folder.iterdir()) if _is_candidate(p)]
    masks = [p for p in inside if mask_file(p) is not None or is_nerve(p)]
    left_out += [Outcome(p, "skipped", message=NAMED_LIKE_A_MASK) for p in masks]
    images = [p for p in inside if p not in masks]
    if not images:
        raise InputError("no image in this folder", where=folder)
    return images


def _is_candidate(path: Path) -> bool:
    if path.name.startswith(".") or path.is_dir() or _is_own_result(path):
        return False
    return path.suffix.lower() in IMAGE_ENDINGS or _has_image_bytes(path)


def _has_image_bytes(path: Path) -> bool:
    try:
        return is_image(path)
    except ReadError:
        return False


_Group = tuple[Path, Callable[[], MaskSet]]
"""The path that stands for the masks of one image, and what puts them together."""


def _mask_groups(text: str, given: set[Path]) -> list[_Group]:
    """Of every image that a file, a folder or a glob stands for, how to put its masks together."""
    matches = _matches(text)
    if matches != [Path(text)]:
        return _groups_of(matches)
    (path,) = matches
    if path.is_dir():
        return _groups_in(path)
    named = mask_file(path)
    if named is None:
        return [(path, partial(MaskSet, stem_of(path), (path,)))]
    return [(path, partial(of_named, named, given))]


def _groups_in(folder: Path) -> list[_Group]:
    """Masks of every image that a folder holds masks of."""
    inside = [
        path
        for path in sorted(folder.iterdir())
        if not path.name.startswith(".") and path.is_file() and path.suffix.lower() in IMAGE_ENDINGS
    ]
    by_stem: dict[str, list[MaskFile]] = {}
    for mask in filter(None, map(mask_file, inside)):
        by_stem.setdefault(mask.stem, []).append(mask)
    if by_stem:
        return [(folder, partial(chosen, files)) for files in by_stem.values()]
    others = [path for path in inside if not _is_result_name(path) and not is_nerve(path)]
    if not others:
        raise InputError("no mask in this folder", where=folder)
    return [(path, partial(MaskSet, stem_of(path), (path,))) for path in others]


def _groups_of(matched: list[Path]) -> list[_Group]:
    """Masks of every image of which a glob matches one: those matched, and others of their set."""
    groups: dict[tuple[Path, str], list[MaskFile]] = {}
    found: list[_Group] = []
    for path in matched:
        mask = mask_file(path)
        if mask is not None:
            groups.setdefault((path.parent, mask.stem), []).append(mask)
        elif path.is_file() and not _is_result_name(path) and not is_nerve(path):
            found.append((path, partial(MaskSet, stem_of(path), (path,))))
    for (folder, stem), files in groups.items():
        wanted = {(mask.manual, mask.kind == "axonmyelin") for mask in files}
        beside = [m for m in masks_of(stem, folder) if (m.manual, m.kind == "axonmyelin") in wanted]
        found.append((files[0].path, partial(chosen, beside, {mask.path for mask in files})))
    return found
