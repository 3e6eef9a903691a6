"""A cohort on disk: sets of results by what they were made from, and what each shard has seen.

The written contract, version 1. In the folder of a cohort there are

- ``plan.json``: rows, settings and model of the latest run; the same for all its shards
- ``results/KK/KEY/``: one set of results, made aside and moved there whole; ``KEY`` is the hash of what it was
  made from, ``KK`` its first two digits. Its files begin with the key's first 12 digits, and ``..._run.json``
  lists them with their hashes
- ``shards/I-of-N/``: written by that shard alone. ``index.json`` says which key each request has, ``failed/``
  holds one file per image that failed, ``failures.csv`` lists them; ``report.json`` is there once the shard has
  come to its end
- ``cohort/``: what ``collect`` makes of all this
- ``logs/``: times, hosts and process numbers, one file per run; ``tmp/``: work that is not finished

Everything but ``logs`` and ``tmp`` is the same, byte for byte, however often a run was interrupted.
A file appears under its name whole or not at all. A set is never changed.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ranvier._owners import is_abandoned, owned_name
from ranvier.errors import OutputError, OutputExistsError
from ranvier.provenance import file_sha256
from ranvier.results import RUN
from ranvier.writing import make_folder, write_atomically

__all__ = ["Store", "opened", "result_folder", "set_record", "stem_of_key"]

PLAN, COLLECTED = "plan.json", "cohort/cohort.json"
INDEX, REPORT, FAILED, FAILURES = "index.json", "report.json", "failed", "failures.csv"
_OLD_SECONDS = 2 * 24 * 3600
State = Literal["absent", "whole", "lacking"]


def stem_of_key(key: str) -> str:
    """First part of the names of a set's files."""
    return key[:12]


def result_folder(folder: Path, key: str) -> Path:
    """Where the set of a key lies in a cohort's folder."""
    return folder / "results" / key[:2] / key


def set_record(folder: Path, key: str) -> dict[str, Any]:
    """The record of a set; empty where it is missing or no record of a finished set."""
    path = result_folder(folder, key) / f"{stem_of_key(key)}{RUN}"
    record = read_json(path)
    outputs = record.get("outputs")
    return record if record.get("complete") is True and isinstance(outputs, dict) else {}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; empty where there is none that can be read."""
    try:
        loaded = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return loaded if isinstance(loaded, dict) else {}


@dataclass(frozen=True)
class Store:
    """A cohort's folder, opened for writing.

    Attributes
    ----------
    folder
        The cohort's folder.
    scratch
        A folder of this process alone, in the same file system.
    """

    folder: Path
    scratch: Path

    def write(self, path: Path, content: bytes) -> None:
        """Write a file aside, then move it to its place, so that an interruption leaves nothing beside it.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        make_folder(path.parent)
        aside = self.scratch / f"{secrets.token_hex(8)}-{path.name}"
        write_atomically(aside, content)
        _moved(aside, path)

    def state(self, key: str) -> State:
        """Whether the set of a key is there.

        Raises
        ------
        OutputExistsError
            Files of the set are missing, and others in its folder are not as they were written.
        """
        place = result_folder(self.folder, key)
        if not place.is_dir():
            return "absent"
        outputs = set_record(self.folder, key).get("outputs", {})
        if outputs and all((place / name).is_file() for name in outputs):
            return "whole"
        for path in sorted(place.iterdir()):
            ours = path.name == f"{stem_of_key(key)}{RUN}" and outputs
            if not ours and (path.is_dir() or outputs.get(path.name) != file_sha256(path)):
                raise OutputExistsError(
                    "not replaced: these results lack files, and this one was changed since",
                    where=path,
                    fix=f"Move it away and remove the folder {place}",
                )
        return "lacking"

    def keep(self, made: Path, key: str) -> None:
        """Move a finished set to its place. Where another process has put it there, this one goes.

        Raises
        ------
        OutputError
            It cannot be moved.
        """
        place = result_folder(self.folder, key)
        make_folder(place.parent)
        for _ in range(3):
            if place.exists() and self.state(key) == "lacking":
                with contextlib.suppress(OSError):  # another process may be first
                    place.rename(self.scratch / f"old-{secrets.token_hex(8)}")
            with contextlib.suppress(OSError):
                made.rename(place)
                return
            if self.state(key) == "whole":
                shutil.rmtree(made, ignore_errors=True)
                return
        raise OutputError("cannot move results to their place", where=place)


@contextmanager
def opened(folder: Path) -> Iterator[Store]:
    """Open a cohort's folder, which is made if need be, for as long as something is written.

    What processes that are no longer there have left unfinished is removed, before and after.

    Raises
    ------
    OutputError
        The folder cannot be made or written.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError("the cohort's place is a file", where=folder, fix="Give a folder with -o")
    home = make_folder(folder / "tmp")
    _remove_left_over(home)
    scratch = make_folder(home / owned_name())
    try:
        yield Store(folder, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        _remove_left_over(home)


def begin(store: Store, plan: bytes, shard: str) -> Path:
    """Make the plan known, and forget what the shard knew; give its folder.

    Shards of another division are forgotten, too: what they saw may no longer be so.
    """
    if _bytes_of(store.folder / PLAN) != plan:
        store.write(store.folder / PLAN, plan)
    count = shard.rpartition("-")[2]
    home = make_folder(store.folder / "shards")
    for other in home.iterdir():
        if re.fullmatch(r"\d+-of-\d+", other.name) and other.name.rpartition("-")[2] != count:
            _discard(store, other)
    mine = make_folder(home / shard)
    for name in (REPORT, INDEX):
        (mine / name).unlink(missing_ok=True)
    return mine


def begun_elsewhere(store: Store, plan: bytes) -> bool:
    """Whether a run with another plan has begun in this folder since."""
    return _bytes_of(store.folder / PLAN) != plan


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OutputError("cannot be read", where=path, seen=error.strerror) from error


def _discard(store: Store, path: Path) -> None:
    """Take a folder away in one step."""
    with contextlib.suppress(OSError):
        path.rename(store.scratch / f"old-{secrets.token_hex(8)}")


def _moved(aside: Path, path: Path) -> None:
    try:
        aside.replace(path)
    except OSError as error:
        raise OutputError("cannot write", where=path, seen=error.strerror) from error


def _remove_left_over(home: Path) -> None:
    """Remove folders of processes that have ended: of this machine's, and any that lay for days."""
    for path in home.iterdir():
        with contextlib.suppress(OSError):
            old = time.time() - path.stat().st_mtime > _OLD_SECONDS
            if old or is_abandoned(path.name):
                shutil.rmtree(path, ignore_errors=True)
