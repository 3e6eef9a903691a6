"""The files of one image as one set: checked before work begins, written together, never over anything else.

``<stem>_run.json`` lists what belongs to the set with its hashes, and says what it was made from. Only files that
it lists, and that are still as they were written, may be overwritten; so neither a user's own file nor a mask that was
corrected by hand is ever lost. A set is current if it was made from the same bytes, model and settings.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ranvier.errors import OutputError, OutputExistsError, SettingsError
from ranvier.exporting import EXPORT_ENDINGS, json_bytes
from ranvier.provenance import file_sha256
from ranvier.writing import make_folder, write_atomically

Existing = Literal["refuse", "overwrite", "skip"]
"""What to do where results are there already."""

RUN = "_run.json"
MASK_ENDINGS = ("_seg-axon.png", "_seg-myelin.png", "_seg-axonmyelin.png")
TABLE_ENDINGS = ("_instances.tif", "_morphometrics.csv")
OVERLAY = "_overlay.png"
FASCICLES = "_fascicles.csv"
DEFAULT_ENDINGS = (*MASK_ENDINGS, *TABLE_ENDINGS, OVERLAY, RUN)
"""What segmenting writes unless more is asked for."""
OUTPUT_ENDINGS = (
    *MASK_ENDINGS,
    *TABLE_ENDINGS,
    OVERLAY,
    FASCICLES,
    *EXPORT_ENDINGS.values(),
    RUN,
)
_WRITERS = 4
_LISTS = ("outputs", "replaced", "kept")


@dataclass(frozen=True)
class Place:
    """Where the results of one image go.

    Attributes
    ----------
    folder, stem
        Folder, and first part of the files' names.
    endings
        Last part of the names, without that of the record.
    """

    folder: Path
    stem: str
    endings: tuple[str, ...]

    @property
    def record(self) -> Path:
        """The run.json."""
        return self.folder / f"{self.stem}{RUN}"

    def file(self, ending: str) -> Path:
        """One of the files."""
        return self.folder / f"{self.stem}{ending}"


def stem_of(path: Path) -> str:
    """First part of the names of an image's results: its name without the ending, ``.ome`` included."""
    stem = path.stem
    return stem[:-4] if stem.lower().endswith(".ome") and len(stem) > 4 else stem


def identity(facts: Mapping[str, Any]) -> str:
    """Hash of what a set of results was made from."""
    return hashlib.sha256(json_bytes(dict(sorted(facts.items())))).hexdigest()


def is_current(place: Place, made_from: str) -> bool:
    """Whether a complete set of results is there that was made from the same.

    Raises
    ------
    OutputExistsError
        A complete set is there, but it was made from another input, model or other settings.
    """
    run = _read_run(place.record)
    whole = all(place.file(e).is_file() for e in place.endings)
    if not (run.get("complete") and whole):
        return False
    if run.get("identity") != made_from:
        raise OutputExistsError(
            "results are there, but of another input, model or other settings",
            where=place.record,
            fix="Use --overwrite to replace them, or -o for another folder",
        )
    return True


def check_room(place: Place, existing: Existing) -> None:
    """Make sure that a set of results may be written.

    Raises
    ------
    OutputExistsError
        A file is there already and ``existing`` is ``refuse``, or it is not one that an earlier run wrote and
        nobody has changed since.
    SettingsError
        ``folder`` is a file.
    OutputError
        The folder cannot be written.
    """
    _check_writable(place.folder)
    present = [p for e in (*place.endings, RUN) if (p := place.file(e)).exists()]
    if not present:
        return
    if existing == "refuse":
        raise OutputExistsError(
            "results are there already",
            where=present[0],
            fix="Use --overwrite to replace them, --skip-existing to keep those that are current, or -o",
        )
    run = _read_run(place.record)
    for path in present:
        if path == place.record and run:
            continue
        if file_sha256(path) not in {run.get(k, {}).get(path.name) for k in _LISTS} - {None}:
            raise OutputExistsError(
                "not overwritten: this file was not written by Ranvier, or was changed since",
                where=path,
                fix="Move it away, or choose another folder with -o",
            )


def _check_writable(folder: Path) -> None:
    """Find out before the work whether results can be written after it."""
    if folder.exists() and not folder.is_dir():
        raise SettingsError(
            "the place for results is a file", where=folder, fix="Give a folder with -o"
        )
    above = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not os.access(above, os.W_OK | os.X_OK):
        raise OutputError(
            "this folder cannot be written", where=above, fix="Choose another with -o"
        )


def publish(
    files: Mapping[str, bytes], run: Mapping[str, Any], *, place: Place, existing: Existing
) -> list[Path]:
    """Write a set of results, its run.json last.

    Files of an earlier set that this one does not replace stay listed, as ``kept``.

    Parameters
    ----------
    files
        Ending of the name to content, for each of the place's endings.
    run
        What run.json shall say, besides the lists of files.
    place
        Where they go.
    existing
        As for :func:`check_room`, which is asked once more: the work may have taken a while.

    Raises
    ------
    OutputError
        The folder cannot be written.
    OutputExistsError
        As for :func:`check_room`.
    """
    make_folder(place.folder)
    check_room(place, existing)
    before = _read_run(place.record)
    outputs = {place.file(e).name: hashlib.sha256(c).hexdigest() for e, c in files.items()}
    earlier = {**before.get("kept", {}), **before.get("outputs", {})}
    kept = {name: digest for name, digest in earlier.items() if name not in outputs}
    record = {**run, "complete": False, "outputs": outputs}
    if kept:
        record |= {"kept": kept, "kept_from": before.get("kept_from") or _source_of(before)}
    replaced = {p.name: file_sha256(p) for e in files if (p := place.file(e)).exists()}
    write_atomically(place.record, json_bytes({**record, "replaced": replaced}))
    with ThreadPoolExecutor(
        _WRITERS
    ) as pool:  # a disk that is asked to sync several files waits once
        done = [pool.submit(write_atomically, place.file(e), c) for e, c in files.items()]
    for file in done:
        file.result()
    write_atomically(place.record, json_bytes({**record, "complete": True}))
    return [*(place.file(e) for e in files), place.record]


def _source_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """What an earlier run's files were made from, to be told beside those that are kept."""
    keys = ("ranvier", "command", "inputs", "model", "backend", "settings", "started")
    return {key: run[key] for key in keys if key in run}


def _read_run(path: Path) -> dict[str, Any]:
    """What an earlier run recorded; empty where there is no such record."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    good = isinstance(loaded, dict) and "ranvier" in loaded
    if not good or not all(isinstance(loaded.get(k, {}), dict) for k in _LISTS):
        return {}
    found: dict[str, Any] = loaded
    return found
