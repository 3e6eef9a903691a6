"""Bytes -> a file that is there whole or not at all."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ranvier.errors import OutputError


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that its name never shows half of it.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise OutputError(
            "cannot write", where=path, seen=error.strerror, fix="Choose another folder with -o"
        ) from error


def make_folder(folder: Path) -> Path:
    """Make a folder for results, with its parents.

    Raises
    ------
    OutputError
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            "cannot make this folder",
            where=folder,
            seen=error.strerror,
            fix="Choose another with -o",
        ) from error
    return folder
