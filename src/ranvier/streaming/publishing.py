"""Files that were written to a folder of work, put in their place as one set; see :mod:`ranvier.results`."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ranvier._owners import is_abandoned, owned_name
from ranvier.errors import OutputError
from ranvier.exporting import json_bytes
from ranvier.provenance import file_sha256
from ranvier.results import Existing, Place, _read_run, _source_of, check_room
from ranvier.writing import make_folder, write_atomically

__all__ = ["publish_files", "remove_left_over", "work_folder"]

_PART = ".part"


@contextmanager
def work_folder(place: Place) -> Iterator[Path]:
    """A hidden folder beside the results, on the same disk; deleted whatever happens, unless the process is killed.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    make_folder(place.folder)
    made = place.folder / f".{place.stem}.{owned_name()}{_PART}"
    try:
        made.mkdir(mode=0o700)
    except OSError as error:
        raise OutputError(
            "cannot make a folder to work in", where=place.folder, seen=error.strerror
        ) from error
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def remove_left_over(place: Place) -> None:
    """Delete the folders of work that killed processes of this machine have left beside the same results.

    Those of processes that are there, of other machines and of other results stay.
    """
    before = f".{place.stem}."
    with suppress(OSError):
        for path in place.folder.iterdir():
            name = path.name
            if not (name.startswith(before) and name.endswith(_PART)):
                continue
            owned = name.removeprefix(before).removesuffix(_PART)
            if is_abandoned(owned) and path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)


def publish_files(
    files: Mapping[str, Path], run: Mapping[str, Any], *, place: Place, existing: Existing
) -> list[Path]:
    """Move a set of results to its place, the run.json last; as :func:`ranvier.results.publish`.

    Parameters
    ----------
    files
        Ending of the name to a finished file on the same disk.
    run, place, existing
        As for ``publish``.

    Raises
    ------
    OutputError
        The folder cannot be written.
    OutputExistsError
        A file is there that may not be replaced.
    """
    check_room(place, existing)
    before = _read_run(place.record)
    outputs = {place.file(e).name: file_sha256(path) for e, path in files.items()}
    earlier = {**before.get("kept", {}), **before.get("outputs", {})}
    kept = {name: digest for name, digest in earlier.items() if name not in outputs}
    record = {**run, "complete": False, "outputs": outputs}
    if kept:
        record |= {"kept": kept, "kept_from": before.get("kept_from") or _source_of(before)}
    replaced = {p.name: file_sha256(p) for e in files if (p := place.file(e)).exists()}
    write_atomically(place.record, json_bytes({**record, "replaced": replaced}))
    for ending, path in files.items():
        try:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
            path.replace(place.file(ending))
        except OSError as error:
            raise OutputError(
                "cannot write", where=place.file(ending), seen=error.strerror
            ) from error
    write_atomically(place.record, json_bytes({**record, "complete": True}))
    return [*(place.file(e) for e in files), place.record]
