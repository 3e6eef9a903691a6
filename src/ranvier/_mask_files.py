"""Which mask files of a folder go together, by their names.

``X_seg-KIND.*`` and ``X_seg-KIND-manual.*`` are two sets of masks of image X, one made by a program and one
made or corrected by hand. Masks of the two are never mixed.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from ranvier.errors import InputError, MaskError
from ranvier.jobs import MaskSet
from ranvier.results import stem_of

IMAGE_ENDINGS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".btf", ".tf2", ".tf8")
NERVE_NAMES = ("_seg-nerve", "_seg-fascicles")
"""Endings of the names of masks that say where the nerve, or its fascicles, are."""
_KINDS = ("axonmyelin", "axon", "myelin")
_MANUAL = "-manual"
_BOTH_SETS = (True, False)
"""Whether a set is the manual one; the one that is preferred comes first."""


@dataclass(frozen=True)
class MaskFile:
    """A file that is named like a mask.

    Attributes
    ----------
    stem, kind, manual
        The parts of ``STEM_seg-KIND.*`` and ``STEM_seg-KIND-manual.*``.
    """

    path: Path
    stem: str
    kind: str
    manual: bool


def mask_file(path: Path) -> MaskFile | None:
    """What a file's name says; None where it is not that of a mask."""
    base = stem_of(path)
    manual = base.endswith(_MANUAL)
    base = base.removesuffix(_MANUAL)
    for kind in _KINDS:
        stem = base.removesuffix(f"_seg-{kind}")
        if stem not in ("", base) and path.suffix.lower() in IMAGE_ENDINGS:
            return MaskFile(path, stem, kind, manual)
    return None


def is_nerve(path: Path) -> bool:
    """Whether a file is named like the mask of a nerve."""
    return stem_of(path).removesuffix(_MANUAL).endswith(NERVE_NAMES)


def masks_of(stem: str, folder: Path) -> list[MaskFile]:
    """All masks of one image in a folder."""
    beside = (mask_file(path) for path in sorted(folder.iterdir()) if path.is_file())
    return [mask for mask in beside if mask is not None and mask.stem == stem]


def of_named(named: MaskFile, given: Collection[Path]) -> MaskSet:
    """The masks that go with a file that was named: its own, and of its own set.

    Parameters
    ----------
    named
        The file.
    given
        All files that were named, which go before others beside them.

    Raises
    ------
    InputError
        The mask that belongs to it is missing, or two files could be it.
    """
    if named.kind == "axonmyelin":
        return MaskSet(named.stem, (named.path,), names_both=True)
    beside = [
        m
        for m in masks_of(named.stem, named.path.parent)
        if m.manual == named.manual and m.kind not in ("axonmyelin", named.kind)
    ]
    return _one_set([named, *_given_first(beside, given)])


def chosen(files: list[MaskFile], given: Collection[Path] = ()) -> MaskSet:
    """The masks of one image: of the manual set where that is complete, with a note on the other.

    Parameters
    ----------
    files
        Masks of one image. A pair is preferred over one mask with three levels of its set.
    given
        Files that go before others of their kind and set.

    Raises
    ------
    InputError
        Neither set is complete, or two files of one set are of one kind.
    """
    sets = {manual: [m for m in files if m.manual == manual] for manual in _BOTH_SETS}
    complete = [manual for manual in _BOTH_SETS if _is_complete(sets[manual])]
    if not complete:
        return _one_set(sets[True] or sets[False])  # says what is missing
    taken = complete[0]
    found = _one_set(_given_first(sets[taken], given))
    others = ", ".join(m.path.name for m in sets[not taken])
    if not others:
        return found
    why = "masks made by hand go first" if taken else "not a complete set"
    names = " and ".join(path.name for path in found.files)
    return MaskSet(
        found.stem, found.files, found.names_both, (f"{names} taken; left out: {others} ({why})",)
    )


def _given_first(files: list[MaskFile], given: Collection[Path]) -> list[MaskFile]:
    """Without files that were not given where one of the same kind was."""
    kinds = {m.kind for m in files if m.path in given}
    return [m for m in files if m.path in given or m.kind not in kinds]


def _is_complete(files: Iterable[MaskFile]) -> bool:
    kinds = {m.kind for m in files}
    return "axonmyelin" in kinds or {"axon", "myelin"} <= kinds


def _one_set(files: list[MaskFile]) -> MaskSet:
    """The masks to take of one set."""
    by_kind: dict[str, list[Path]] = {}
    for mask in files:
        by_kind.setdefault(mask.kind, []).append(mask.path)
    if {"axon", "myelin"} <= set(by_kind):
        kinds = ["axon", "myelin"]
    elif "axonmyelin" in by_kind:
        kinds = ["axonmyelin"]
    else:
        raise _missing(files[0])
    for kind in kinds:
        _refuse_several(by_kind[kind], f"several {kind} masks of one image")
    paths = tuple(by_kind[kind][0] for kind in kinds)
    return MaskSet(files[0].stem, paths, names_both=kinds == ["axonmyelin"])


def _refuse_several(paths: list[Path], what: str, *, fix: str | None = None) -> None:
    if len(paths) > 1:
        raise MaskError(
            what,
            where=paths[0].parent,
            seen=", ".join(path.name for path in paths),
            fix=fix or "Give the one that counts by its own name, or move the other away",
        )


def _missing(alone: MaskFile) -> InputError:
    other = "myelin" if alone.kind == "axon" else "axon"
    name = f"{alone.stem}_seg-{other}{_MANUAL if alone.manual else ''}{alone.path.suffix}"
    return InputError(
        f"the {other} mask of this image is missing",
        where=alone.path,
        fix=f"Put {name} beside it, or give one mask with three levels",
    )


def nerve_beside(folder: Path, stem: str) -> tuple[Path | None, tuple[str, ...]]:
    """The mask of the nerve beside an image or its masks, if there is one, and a note on others.

    Raises
    ------
    MaskError
        Two files could be it.
    """
    names = {f"{stem}{name}" for name in NERVE_NAMES}
    present = [
        p
        for p in sorted(folder.glob("*"))
        if p.suffix.lower() in IMAGE_ENDINGS and stem_of(p).removesuffix(_MANUAL) in names
    ]
    sets = {m: [p for p in present if stem_of(p).endswith(_MANUAL) == m] for m in _BOTH_SETS}
    taken = sets[True] or sets[False]
    if not taken:
        return None, ()
    fix = "Say which one with --fascicles"
    _refuse_several(taken, "several masks of the nerve beside one image", fix=fix)
    note = ", ".join(p.name for p in sets[False])
    if sets[True] and note:
        return taken[0], (f"left out: {note} (masks made by hand go first)",)
    return taken[0], ()
