"""Many inputs: found, taken one by one; a failure neither hides nor stops the rest."""

from __future__ import annotations

import glob
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from ranvier.errors import InputError, RanvierError, ReadError
from ranvier.jobs import MaskSet, Options, Outcome
from ranvier.pipeline import NERVE_NAMES
from ranvier.reading import is_image
from ranvier.results import OUTPUT_ENDINGS, RUN, stem_of

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".btf", ".tf2", ".tf8")

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
    where both are there. Where a folder has none of these names, every image in it is taken as a mask
    with three levels.

    A path that matches nothing and an axon or myelin mask that is alone are failures; they don't stop the rest.
    """
    sets: dict[tuple[Path, str], MaskSet] = {}
    failures: dict[str, Outcome] = {}
    for text in paths:
        try:
            for path in _matches(text):
                if path != Path(text) and path.is_file() and _is_no_mask(path):
                    continue
                groups = _groups_in(path) if path.is_dir() else [_group_of(path)]
                for stem, files in groups:
                    try:
                        sets[(path, stem)] = _together(stem, files)
                    except InputError as error:
                        failures[str(error)] = Outcome(path, "failed", message=str(error))
        except (RanvierError, OSError) as error:
            failures[str(error)] = Outcome(Path(text), "failed", message=_said(text, error))
    unique = {masks.files: masks for masks in sets.values()}
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


def _is_no_mask(path: Path) -> bool:
    return _is_result_name(path) and _split_mask_name(path) is None


def _reason_to_skip(path: Path, *, named: bool) -> str:
    """Why a file that a path or glob stands for is not segmented; empty if it is."""
    if _is_own_result(path):
        return "a result of an earlier run"
    if not named and (_split_mask_name(path) is not None or _is_nerve(path)):
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
    masks = [p for p in inside if _split_mask_name(p) is not None or _is_nerve(p)]
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


def _groups_in(folder: Path) -> list[tuple[str, dict[str, Path]]]:
    """Stem and mask files by kind of every image that a folder holds masks of."""
    kinds: dict[str, dict[str, Path]] = {}
    others: list[tuple[str, dict[str, Path]]] = []
    for path in sorted(folder.iterdir()):
        if (
            path.name.startswith(".")
            or not path.is_file()
            or path.suffix.lower() not in IMAGE_ENDINGS
        ):
            continue
        split = _split_mask_name(path)
        if split is not None:
            kinds.setdefault(split[0], {})[split[1]] = path
        elif not _is_result_name(path) and not _is_nerve(path):
            others.append((stem_of(path), {"axonmyelin": path}))
    if not kinds and not others:
        raise InputError("no mask in this folder", where=folder)
    return list(kinds.items()) or others


def _group_of(path: Path) -> tuple[str, dict[str, Path]]:
    """Stem and mask files of one image, of which one was named."""
    split = _split_mask_name(path)
    if split is None or split[1] == "axonmyelin":
        return (split[0] if split else stem_of(path)), {"axonmyelin": path}
    stem, kind = split
    beside = (p for p in sorted(path.parent.iterdir()) if p.is_file())
    same = {s[1]: p for p in beside if (s := _split_mask_name(p)) is not None and s[0] == stem}
    return stem, {**same, kind: path}


def _split_mask_name(path: Path) -> tuple[str, str] | None:
    """Stem and kind of ``STEM_seg-KIND.*`` or ``STEM_seg-KIND-manual.*``."""
    base = stem_of(path).removesuffix("-manual")
    for kind in ("axonmyelin", "axon", "myelin"):
        ending = f"_seg-{kind}"
        if (
            base.endswith(ending)
            and len(base) > len(ending)
            and path.suffix.lower() in IMAGE_ENDINGS
        ):
            return base.removesuffix(ending), kind
    return None


def _is_nerve(path: Path) -> bool:
    """Whether a file is named like the mask of a nerve."""
    return stem_of(path).removesuffix("-manual").endswith(NERVE_NAMES)


def _together(stem: str, files: dict[str, Path]) -> MaskSet:
    if "axon" in files and "myelin" in files:
        return MaskSet(stem, (files["axon"], files["myelin"]))
    if "axonmyelin" in files:
        path = files["axonmyelin"]
        return MaskSet(stem, (path,), names_both=_split_mask_name(path) is not None)
    (alone,) = files.values()
    other = "myelin" if "axon" in files else "axon"
    raise InputError(
        f"the {other} mask of this image is missing",
        where=alone,
        fix=f"Put {stem}_seg-{other}{alone.suffix} beside it, or give one mask with three levels",
    )
