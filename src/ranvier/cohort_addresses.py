"""Where the results of units are stored: at the hash of the bytes that they are made from."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from ranvier._mask_files import NERVE_NAMES, is_nerve, nerve_beside
from ranvier._pixel_size import TEXT_NAME
from ranvier.cohort_plan import SHORT, Unit
from ranvier.errors import ReadError
from ranvier.provenance import file_sha256
from ranvier.results import identity, stem_of
from ranvier.streaming.sources import content_sha256

__all__ = ["Addresses"]


class Addresses:
    """Keys of units. A folder is listed once only, however many images it holds."""

    def __init__(self) -> None:
        self._nerves: dict[Path, set[str]] = {}

    def of(self, unit: Unit) -> tuple[str, list[str]]:
        """The key of a unit, and the hashes of its files in the order in which they are read.

        Beside the image or masks and the mask of the nerve, the files that may tell a pixel size count.

        Raises
        ------
        ReadError
            A file cannot be read.
        MaskError
            Two masks of the nerve lie beside the image.
        """
        inputs = [_hashed(path) for path in (*unit.files, *self._nerve(unit))]
        beside = [] if unit.options.pixel_size is not None else _sidecars(unit.files)
        facts = {**unit.facts, "inputs": inputs, "sidecars": [file_sha256(p) for p in beside]}
        return identity(facts)[:SHORT], inputs

    def _nerve(self, unit: Unit) -> list[Path]:
        if unit.options.fascicles is not None:
            return [unit.options.fascicles]
        folder = unit.path.parent
        if folder not in self._nerves:
            self._nerves[folder] = {_shown_by(p) for p in folder.iterdir() if is_nerve(p)}
        stem = stem_of(unit.path) if unit.masks is None else unit.masks.stem
        found = nerve_beside(folder, stem)[0] if stem in self._nerves[folder] else None
        return [] if found is None else [found]


def _shown_by(nerve: Path) -> str:
    """Stem of the image that a mask of a nerve belongs to."""
    stem = stem_of(nerve).removesuffix("-manual")
    return next(stem.removesuffix(name) for name in NERVE_NAMES if stem.endswith(name))


def _sidecars(files: Iterable[Path]) -> list[Path]:
    found = []
    for path in files:
        found += [path.with_name(f"{stem_of(path)}.json"), path.with_name(TEXT_NAME)]
    return found


def _hashed(path: Path) -> str:
    why = ""
    try:
        digest = content_sha256(path) if path.exists() else ""
    except OSError as error:
        digest, why = "", error.strerror or str(error)
    if not digest:
        raise ReadError(
            "the file cannot be read",
            where=path,
            seen=why or None,
            fix="Is it there, and may you read it?",
        )
    return digest
