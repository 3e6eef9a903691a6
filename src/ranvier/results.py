"""The files of one image as one set: checked before work begins, written together, never over anything else.

``<stem>_run.json`` lists what belongs to the set with its hashes. Only files that it lists, and that are still as they
were written, may be overwritten; so neither a user's own file nor a mask that was corrected by hand is ever lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from ranvier.errors import OutputExistsError, SettingsError
from ranvier.exporting import json_bytes, make_folder, write_atomically

Existing = Literal["refuse", "overwrite", "skip"]
"""What to do where results are there already."""

RUN = "_run.json"
MASK_ENDINGS = ("_seg-axon.png", "_seg-myelin.png", "_seg-axonmyelin.png")
TABLE_ENDINGS = ("_instances.tif", "_morphometrics.csv")
OVERLAY = "_overlay.png"
OUTPUT_ENDINGS = (*MASK_ENDINGS, *TABLE_ENDINGS, OVERLAY, RUN)


def stem_of(path: Path) -> str:
    """First part of the names of an image's results: its name without the ending, ``.ome`` included."""
    stem = path.stem
    return stem[:-4] if stem.lower().endswith(".ome") and len(stem) > 4 else stem


def is_done(folder: Path, stem: str, endings: tuple[str, ...]) -> bool:
    """Whether a complete set of results is there."""
    run = _read_run(folder / f"{stem}{RUN}")
    return bool(run.get("complete")) and all((folder / f"{stem}{e}").is_file() for e in endings)


def check_room(folder: Path, stem: str, endings: tuple[str, ...], existing: Existing) -> None:
    """Make sure that a set of results may be written.

    Raises
    ------
    OutputExistsError
        A file is there already and ``existing`` is not ``overwrite``, or it is not one that an earlier run wrote and
        nobody has changed since.
    SettingsError
        ``folder`` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise SettingsError(
            "the place for results is a file", where=folder, fix="Give a folder with -o"
        )
    present = [p for e in (*endings, RUN) if (p := folder / f"{stem}{e}").exists()]
    if not present:
        return
    if existing != "overwrite":
        raise OutputExistsError(
            "results are there already",
            where=present[0],
            fix="Use --overwrite to replace them, --skip-existing to keep them, or -o for another folder",
        )
    run = _read_run(folder / f"{stem}{RUN}")
    ours = {**run.get("outputs", {}), **run.get("replaced", {})}
    for path in present:
        if path.name == f"{stem}{RUN}" and run:
            continue
        known = {run.get(k, {}).get(path.name) for k in ("outputs", "replaced")} if ours else set()
        if _sha256(path) not in known:
            raise OutputExistsError(
                "not overwritten: this file was not written by Ranvier, or was changed since",
                where=path,
                fix="Move it away, or choose another folder with -o",
            )


def publish(
    files: Mapping[str, bytes], run: Mapping[str, Any], *, folder: Path, stem: str
) -> list[Path]:
    """Write a set of results, its run.json last.

    Parameters
    ----------
    files
        Ending of the name to content.
    run
        What run.json shall say, besides the list of outputs.
    folder, stem
        Place and first part of the names.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    make_folder(folder)
    record = folder / f"{stem}{RUN}"
    before = _read_run(record)
    outputs = {f"{stem}{e}": hashlib.sha256(c).hexdigest() for e, c in files.items()}
    unfinished = {
        **run,
        "complete": False,
        "outputs": outputs,
        "replaced": before.get("outputs", {}),
    }
    write_atomically(record, json_bytes(unfinished))
    for ending, content in files.items():
        write_atomically(folder / f"{stem}{ending}", content)
    write_atomically(record, json_bytes({**run, "complete": True, "outputs": outputs}))
    return [*(folder / name for name in outputs), record]


def _read_run(path: Path) -> dict[str, Any]:
    """What an earlier run recorded; empty where there is no such record."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    good = (
        isinstance(loaded, dict) and isinstance(loaded.get("outputs"), dict) and "ranvier" in loaded
    )
    return loaded if good else {}


def _sha256(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
