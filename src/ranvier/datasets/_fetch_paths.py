"""Names that an archive lists -> places inside one folder, on every system, or a refusal."""

from __future__ import annotations

import unicodedata
from pathlib import Path

RECORD = "ranvier_fetch.json"
PART = ".part"

_MOST_BYTES = 200  # of one name; leaves room for what a partial file's name adds (limit 255)
_MOST_CHARACTERS = 1000
_FORBIDDEN = set('<>:"|?*\\')
_DEVICES = {"CON", "PRN", "AUX", "NUL", "CONIN$", "CONOUT$", "CLOCK$"} | {
    f"{port}{n}" for port in ("COM", "LPT") for n in "0123456789\u00b9\u00b2\u00b3"
}


def why_unsafe(path: str) -> str | None:
    """Say why a listed path may not be written, or None if it may.

    Safe are relative paths of ``/``-separated names that mean the same file on Linux, macOS and Windows
    (learn.microsoft.com/windows/win32/fileio/naming-a-file) and that leave the folder by no name.
    """
    if not path or len(path) > _MOST_CHARACTERS:
        return "an empty path" if not path else "a path that is too long"
    if path.startswith("/"):
        return "an absolute path"
    for name in path.split("/"):
        why = _why_unsafe_name(name)
        if why is not None:
            return why
    if path.casefold() == RECORD or path.casefold().endswith(PART):
        return "a name that is kept for Ranvier's own files"
    return None


def _why_unsafe_name(name: str) -> str | None:
    if name in ("", ".", ".."):
        return "a path that leaves its folder or names none"
    if _FORBIDDEN & set(name) or any(unicodedata.category(c) in ("Cc", "Cf", "Cs") for c in name):
        return "a name with a character that not every system allows"
    if name[-1] in ". " or name[0] == " ":
        return "a name that begins with a space or ends with a space or a dot"
    if name.split(".", maxsplit=1)[0].rstrip().upper() in _DEVICES:
        return "a name that is reserved on Windows"
    if len(name.encode()) > _MOST_BYTES:
        return "a name that is too long"
    return None


def same_place(path: str) -> str:
    """Key under which two paths meet that are one file where case or Unicode form do not count."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", path).casefold())


def leaves(folder: Path, path: str) -> bool:
    """Whether a link on the way to a file leads out of the folder."""
    home = folder.resolve()
    return not (folder / path).parent.resolve().is_relative_to(home)
