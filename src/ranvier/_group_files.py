"""The tables of groups as a set of files: all of them or none, and never over anything else."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranvier.errors import OutputError, OutputExistsError
from ranvier.exporting import json_bytes, table_csv
from ranvier.groups import Grouped
from ranvier.provenance import file_sha256
from ranvier.writing import make_folder, write_atomically

RECORD = "run.json"
TABLES = ("images.csv", "subjects.csv", "groups.csv", "fibres.csv")
COMMAND = "summarise"


def check_free(folder: Path, *, overwrite: bool) -> None:
    """Make sure that the tables may be written.

    Raises
    ------
    OutputExistsError
        A file is there already and ``overwrite`` is False, or it is not one that an earlier run
        wrote and nobody has changed since.
    OutputError
        ``folder`` is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            "the place for tables is a file", where=folder, fix="Give a folder with -o"
        )
    present = [p for name in (*TABLES, RECORD) if (p := folder / name).exists()]
    if present and not overwrite:
        raise OutputExistsError(
            "a file is there already",
            where=present[0],
            fix="Use --overwrite to replace tables of an earlier run, or another folder with -o",
        )
    written = _written(folder / RECORD)
    for path in present:
        if written is None or (path.name != RECORD and written.get(path.name) != file_sha256(path)):
            raise OutputExistsError(
                "not overwritten: this file was not written by Ranvier, or was changed since",
                where=path,
                fix="Move it away, or choose another folder with -o",
            )


def _written(record: Path) -> dict[str, Any] | None:
    """Hashes of the files that an earlier run wrote; None where there is no such record."""
    try:
        run = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(run, dict) or run.get("command") != COMMAND:
        return None
    outputs = run.get("outputs")
    return outputs if isinstance(outputs, dict) else None


def write_groups(
    grouped: Grouped, folder: Path, *, about: Mapping[str, Any], overwrite: bool = False
) -> list[Path]:
    """Write images.csv, subjects.csv, groups.csv, fibres.csv and run.json.

    All are written under another name first, so that a full disk leaves what was there.

    Parameters
    ----------
    grouped
        What to write.
    folder
        Made if need be.
    about
        What run.json shall say beside warnings, inputs and outputs.
    overwrite
        Replace the tables of an earlier run.

    Raises
    ------
    OutputError
        The folder cannot be written.
    OutputExistsError
        As for :func:`check_free`.
    """
    check_free(folder, overwrite=overwrite)
    tables = (grouped.images, grouped.subjects, grouped.groups, grouped.fibres)
    files = {name: table_csv(table) for name, table in zip(TABLES, tables, strict=True)}
    record = {
        **about,
        "warnings": list(grouped.warnings),
        "inputs": [dict(source) for source in grouped.sources],
        "outputs": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "complete": True,
    }
    files[RECORD] = json_bytes(record)
    make_folder(folder)
    _replace_all(folder, files)
    return [folder / name for name in files]


def _replace_all(folder: Path, files: Mapping[str, bytes]) -> None:
    """Write all files beside their places, then move them there."""
    waiting = {folder / name: folder / f".{name}.new" for name in files}
    try:
        for (path, beside), content in zip(waiting.items(), files.values(), strict=True):
            if path.is_dir():
                raise OutputError("there is a folder of this name", where=path)
            write_atomically(beside, content)
        for path, beside in waiting.items():
            beside.replace(path)
    except OSError as error:
        raise OutputError("cannot write", where=folder, seen=error.strerror) from error
    finally:
        for beside in waiting.values():
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)
