"""Scores as a folder of files: all of them or none, and never over anything else."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ranvier.errors import OutputError, OutputExistsError
from ranvier.exporting import json_bytes
from ranvier.provenance import file_sha256, own_version, versions
from ranvier.scoring.running import Report
from ranvier.scoring.score_pictures import HEAT_MAPS, pictures_of
from ranvier.scoring.score_tables import (
    scores_csv,
    summary_csv,
    summary_json,
    summary_md,
)
from ranvier.scoring.scores import Scores
from ranvier.writing import make_folder, write_atomically

__all__ = ["COMMAND", "RECORD", "Written", "check_free", "write_scores"]

RECORD = "run.json"
COMMAND = "evaluate"
_TABLES = ("scores.csv", "summary.csv", "summary.md", "summary.json")
_STAGING = ".evaluate.part"


@dataclass(frozen=True)
class Written:
    """What became of the files.

    Attributes
    ----------
    paths
        What was written, run.json last.
    left_out
        What was not, and why.
    """

    paths: tuple[Path, ...]
    left_out: tuple[str, ...] = ()


def check_free(folder: Path, *, overwrite: bool = False) -> None:
    """Make sure that scores may be written into a folder.

    Raises
    ------
    OutputExistsError
        Scores are there already and ``overwrite`` is False; or a file would be replaced that no earlier run wrote, or
        that was changed since.
    OutputError
        The place is a file.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(
            "the place for scores is a file", where=folder, fix="Give a folder with -o"
        )
    before = _written(folder)
    if before is None:
        for name in (*_TABLES, *(f"{n}{e}" for n in HEAT_MAPS for e in (".png", ".svg")), RECORD):
            _refuse(folder / name)
        return
    if not overwrite:
        raise OutputExistsError(
            "scores are there already",
            where=folder / RECORD,
            fix="Use --overwrite to replace them, or -o for another folder",
        )
    for name, digests in before.items():
        if file_sha256(folder / name) not in digests:
            _refuse(folder / name)


def _refuse(path: Path) -> None:
    if path.exists():
        raise OutputExistsError(
            "not overwritten: this file was not written by Ranvier, or was changed since",
            where=path,
            fix="Move it away, or choose another folder with -o",
        )


def _written(folder: Path) -> dict[str, set[str]] | None:
    """What an earlier run wrote, or replaced when it was stopped, with the hashes; None where there is no record."""
    try:
        run = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    if not isinstance(run, dict) or run.get("command") != COMMAND:
        return None
    found: dict[str, set[str]] = {}
    for key in ("outputs", "replaced"):
        listed = run.get(key)
        for name, digests in listed.items() if isinstance(listed, dict) else ():
            # Names that lead out of the folder are none of ours.
            if not Path(name).is_absolute() and ".." not in Path(name).parts:
                found.setdefault(name, set()).update(
                    digests if isinstance(digests, list) else [digests]
                )
    return found


def write_scores(
    scores: Scores,
    folder: Path,
    *,
    about: Mapping[str, Any] | None = None,
    pictures: bool = True,
    overwrite: bool = False,
    report: Report | None = None,
) -> Written:
    """Write tables, pictures and run.json.

    ``scores.csv``, ``summary.csv``, ``summary.md``, ``summary.json``; with pictures also ``heatmap_*.png``, ``.svg``,
    ``agreement/`` and ``errors/``. All but run.json are the same bytes for the same scores. Files are made in a
    folder beside, and moved when all are there; files of the run that is replaced go.

    Parameters
    ----------
    scores
        From :func:`ranvier.scoring.running.score`.
    folder
        Made if need be.
    about
        What run.json shall say beside models, images, failures, warnings and outputs: settings, times.
    pictures
        Whether to draw. Without matplotlib, heat maps and plots are left out, and that is said.
    overwrite
        Replace the scores of an earlier run.
    report
        Told of each picture that cannot be made.

    Raises
    ------
    OutputExistsError
        As for :func:`check_free`.
    OutputError
        The folder cannot be written, or there is nothing to write.
    """
    check_free(folder, overwrite=overwrite)
    if not scores.results:
        raise OutputError("nothing could be scored, so there is nothing to write", where=folder)
    made = _Made(folder, folder / _STAGING)
    make_folder(folder)
    try:
        made.take(_tables(scores))
        if pictures:
            made.take(pictures_of(scores, made.left_out, report or made.left_out.append))
        made.publish(_record(scores, made, about or {}))
    finally:
        shutil.rmtree(made.staging, ignore_errors=True)
    return Written(
        (*(folder / name for name in made.hashes), folder / RECORD), tuple(made.left_out)
    )


@dataclass
class _Made:
    """Files that wait in a folder of their own until all are there."""

    folder: Path
    staging: Path
    hashes: dict[str, str] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)

    def take(self, files: Iterable[tuple[str, bytes]]) -> None:
        """Write files as they come."""
        for name, content in files:
            path = self.staging / name
            make_folder(path.parent)
            write_atomically(path, content)
            self.hashes[name] = hashlib.sha256(content).hexdigest()

    def publish(self, record: Mapping[str, Any]) -> None:
        """Move them to their places; a record says before and after what belongs to the run."""
        before = _written(self.folder) or {}
        for name in self.hashes:
            if name not in before:
                _refuse(self.folder / name)
        replaced = {name: sorted(digests) for name, digests in before.items()}
        begun = {**record, "complete": False, "replaced": replaced}
        write_atomically(self.folder / RECORD, json_bytes(begun))
        try:
            for name in before.keys() - self.hashes.keys():
                (self.folder / name).unlink(missing_ok=True)
            for name in self.hashes:
                make_folder((self.folder / name).parent)
                (self.staging / name).replace(self.folder / name)
        except OSError as error:
            raise OutputError("cannot write", where=self.folder, seen=error.strerror) from error
        write_atomically(self.folder / RECORD, json_bytes({**record, "complete": True}))


def _tables(scores: Scores) -> Iterator[tuple[str, bytes]]:
    made = (scores_csv, summary_csv, summary_md, summary_json)
    yield from ((name, make(scores)) for name, make in zip(_TABLES, made, strict=True))


def _record(scores: Scores, made: _Made, about: Mapping[str, Any]) -> dict[str, Any]:
    """What run.json says."""
    hashes = {(r.test_set, r.image.name): r.sha256 for r in scores.results}
    return {
        "ranvier": own_version(),
        "command": COMMAND,
        "models": [{"name": c.name, "sha256": c.sha256, **c.about} for c in scores.contenders],
        "images": [
            {
                "test_set": a.source,
                "subject": a.subject,
                "image": a.name,
                "role": a.role,
                "path": str(a.image),
                "masks": [str(m) for m in a.masks],
                "sha256": list(hashes.get((a.source, a.name), ())),
            }
            for a in scores.images
        ],
        "failures": [asdict(f) for f in scores.failures],
        "warnings": scores.warnings(),
        "left_out": made.left_out,
        "versions": versions(),
        **about,
        "outputs": made.hashes,
    }
