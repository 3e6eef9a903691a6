"""A published dataset -> a folder with its files, each verified, and a record of where they came from.

Files come from the DANDI archive over HTTPS, one after the other. Each grows in a partial file, which a later run
goes on with, and gets its name once its size and SHA-256 (or, where the archive states none, its dandi-etag) are
those that the archive lists. What is there already and right is kept; what differs is left alone unless
``overwrite`` is set.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ranvier.datasets._dandi import Asset
from ranvier.datasets._fetch_digest import Digests, digests
from ranvier.datasets._fetch_files import fetch_file, partial_bytes
from ranvier.datasets._fetch_paths import RECORD, leaves
from ranvier.datasets._fetch_plan import Plan, plan
from ranvier.datasets._fetch_web import API, FinalError, Web, WebSettings
from ranvier.errors import OutputError, OutputExistsError, RanvierError
from ranvier.provenance import own_version
from ranvier.writing import make_folder, write_atomically

__all__ = ["API", "RECORD", "Fetched", "Outcome", "Plan", "Web", "WebSettings", "fetch", "plan"]

_SPARE = 64 << 20  # bytes left free on the disk

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Outcome:
    """What became of one file.

    Attributes
    ----------
    status
        "fetched", "kept" (it was there and right) or "failed".
    sha256
        Of the file as it is there; empty if it failed.
    verified_by
        "sha256", "dandi-etag" or "size only".
    message
        Why it failed.
    """

    path: str
    status: str
    bytes: int = 0
    sha256: str = ""
    verified_by: str = ""
    message: str = ""


@dataclass(frozen=True)
class Fetched:
    """What became of a dataset; ``record`` is the file that says so."""

    plan: Plan
    folder: Path
    files: tuple[Outcome, ...]
    record: Path

    @property
    def failures(self) -> tuple[Outcome, ...]:
        """The files that are not there or not right."""
        return tuple(file for file in self.files if file.status == "failed")


def fetch(
    planned: Plan,
    folder: Path,
    *,
    web: Web,
    overwrite: bool = False,
    progress: Progress = lambda _done, _total: None,
) -> Fetched:
    """Bring a plan's files into a folder. One that fails does not stop the others.

    Parameters
    ----------
    folder
        The dataset's folder; made if need be. Nothing is written outside of it.
    overwrite
        Replace files that differ from the archive's.
    progress
        Called with the bytes done and the bytes of all files.

    Returns
    -------
    Fetched
        One outcome per file, those that the plan refused included.

    Raises
    ------
    OutputError
        The folder cannot be written, or the disk is too full (OutputExistsError: it holds another dataset).
    """
    _check_record(planned, folder, overwrite=overwrite)
    make_folder(folder)
    outcomes = {path: Outcome(path, "failed", message=why) for path, why in planned.refused}
    missing = []
    done = 0
    for asset in planned.assets:
        outcome = _look(asset, folder, overwrite=overwrite)
        if outcome is None:
            missing.append(asset)
        else:
            outcomes[asset.path] = outcome
            done += asset.bytes
            progress(done, planned.bytes)
    _check_space(missing, folder)
    for asset in missing:
        before = done

        def show(now: int, before: int = before) -> None:
            progress(before + now, planned.bytes)

        outcomes[asset.path] = _bring(web, asset, folder, overwrite=overwrite, show=show)
        done += asset.bytes
        progress(done, planned.bytes)
    files = tuple(outcomes[path] for path in sorted(outcomes))
    record = folder / RECORD
    write_atomically(record, _record(planned, files))
    return Fetched(planned, folder, files, record)


def _look(asset: Asset, folder: Path, *, overwrite: bool) -> Outcome | None:
    """Say what is at a file's place already; None if it is to be fetched."""
    target = folder / asset.path
    try:
        if leaves(folder, asset.path):
            return _failed(asset, "a link leads it out of the folder")
        if not target.exists() and not target.is_symlink():
            return None
        if target.is_dir():
            return _failed(asset, "a folder is at its place")
        found = digests(target) if target.is_file() else None
    except OSError as error:
        return _failed(asset, f"what is there cannot be read: {error.strerror}")
    if found is not None and asset.fits(found):
        return _there(asset, "kept", found)
    if overwrite:
        return None
    return _failed(asset, "another file is there (--overwrite replaces it)")


def _bring(
    web: Web, asset: Asset, folder: Path, *, overwrite: bool, show: Callable[[int], None]
) -> Outcome:
    try:
        target = folder / asset.path
        found = fetch_file(web, asset, target, overwrite=overwrite, progress=show)
    except (FinalError, RanvierError) as error:
        return _failed(asset, str(error))
    return _there(asset, "fetched", found)


def _failed(asset: Asset, why: str) -> Outcome:
    return Outcome(asset.path, "failed", asset.bytes, message=why)


def _there(asset: Asset, status: str, found: Digests) -> Outcome:
    return Outcome(asset.path, status, found.bytes, found.sha256, asset.verified_by)


def _check_space(missing: list[Asset], folder: Path) -> None:
    """Refuse to begin what the disk cannot hold."""
    needed = sum(a.bytes - partial_bytes(folder / a.path, a) for a in missing)
    free = shutil.disk_usage(folder).free
    if needed and needed + _SPARE > free:
        raise OutputError(
            "the disk is too full for this dataset",
            where=folder,
            seen=f"{needed / 1e9:.2f} GB to fetch, {free / 1e9:.2f} GB free",
            fix="Make room, or choose another folder with -o",
        )


def _check_record(planned: Plan, folder: Path, *, overwrite: bool) -> None:
    """Refuse a folder that holds another dataset, or another version unless ``overwrite`` is set."""
    path = folder / RECORD
    if not path.exists():
        return
    try:
        record = json.loads(path.read_bytes())
        number, version = str(record["dandiset"]), str(record["version"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise OutputExistsError(
            "this is no record of a fetched dataset", where=path, fix="Choose another -o"
        ) from error
    place = planned.dataset.dandiset
    if place is None or number != place.number:
        raise OutputExistsError(
            "another dataset is here", where=folder, seen=number, fix="Choose another -o"
        )
    if version != planned.version and not overwrite:
        raise OutputExistsError(
            "another version of this dataset is here",
            where=folder,
            seen=version,
            fix="Choose another -o, or give --overwrite",
        )


def _record(planned: Plan, files: tuple[Outcome, ...]) -> bytes:
    place = planned.dataset.dandiset
    content: dict[str, Any] = {
        "dataset": planned.dataset.name,
        "dandiset": None if place is None else place.number,
        "version": planned.version,
        "url": planned.url,
        "title": planned.title,
        "licence": planned.licence,
        "citation": planned.citation,
        "fetched": datetime.now(UTC).isoformat(timespec="seconds"),
        "ranvier": own_version(),
        "complete": all(file.status != "failed" for file in files),
        "files": [_shown(file) for file in files if file.status != "failed"],
        "failed": [{"path": f.path, "why": f.message} for f in files if f.status == "failed"],
    }
    return (json.dumps(content, indent=1) + "\n").encode()


def _shown(file: Outcome) -> dict[str, Any]:
    return {k: v for k, v in asdict(file).items() if k not in ("status", "message")}
