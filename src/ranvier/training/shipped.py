"""TOML files that ship with Ranvier, and what is refused in any of them."""

from __future__ import annotations

from collections.abc import Iterable
from importlib import resources
from pathlib import Path

from ranvier.errors import SettingsError


def shipped_file(name: Path | str, *, kind: str, folder: str, installed: str) -> Path:
    """A file by its path, or one that ships by its bare name.

    Parameters
    ----------
    name
        A path, or a name with or without its ending.
    kind
        What the files are, for the error.
    folder
        Where they lie in a checkout.
    installed
        Where they lie in the installed package.

    Raises
    ------
    SettingsError
        There is none; those that ship are listed.
    """
    path = Path(name)
    if path.is_file():
        return path
    home = Path(str(resources.files("ranvier"))) / installed
    checkout = Path(__file__).parents[3] / folder
    shipped = sorted((home if home.is_dir() else checkout).glob("*.toml"))
    for file in shipped:
        if str(name) in (file.name, file.stem):
            return file
    raise SettingsError(
        f"no such {kind}",
        where=name,
        fix=f"Give a TOML file or one of: {', '.join(f.stem for f in shipped)}",
    )


def refuse_unknown(given: Iterable[str], allowed: set[str], what: str, where: Path | str) -> None:
    """Refuse keys that mean nothing.

    Raises
    ------
    SettingsError
        There are any; those that are allowed are listed.
    """
    unknown = sorted(set(given) - allowed)
    if unknown:
        raise SettingsError(
            f"unknown {what}",
            where=where,
            seen=", ".join(unknown),
            fix=f"Allowed: {', '.join(sorted(allowed))}",
        )
