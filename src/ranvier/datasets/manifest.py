"""An aggregate as files: manifest.csv with a row per image, and aggregate.json."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast, get_args

from ranvier.calibration import PixelSize, Source, checked
from ranvier.datasets.aggregate import Aggregate, Entry
from ranvier.datasets.annotated import Annotated, Role, load_json, raise_together, text_of
from ranvier.errors import DatasetError, OutputExistsError, RanvierError
from ranvier.provenance import own_version
from ranvier.writing import make_folder, write_atomically

ABOUT, MANIFEST = "aggregate.json", "manifest.csv"
FORMAT = 1
_MASKS = (("mask",), ("axon_mask", "myelin_mask"))
_MASK_COLUMNS = ("mask", "axon_mask", "myelin_mask")
_TEXTS = ("modality", "species", "organ", "pathology", "licence")
COLUMNS = (
    "source",
    "subject",
    "sample",
    "name",
    *_TEXTS,
    "pixel_size_um",
    "pixel_size_source",
    "width",
    "height",
    "role",
    "fold",
    "image",
    *_MASK_COLUMNS,
    "mask_levels",
    "image_sha256",
    *(f"{column}_sha256" for column in _MASK_COLUMNS),
)
"""Columns of manifest.csv. ``mask_levels`` holds unusual values of background, myelin and axon, e.g. ``0/2/1``."""


def is_aggregate(folder: Path) -> bool:
    """Whether a folder holds an aggregate."""
    return (folder / ABOUT).is_file()


def write_aggregate(made: Aggregate, folder: Path, *, overwrite: bool = False) -> tuple[Path, Path]:
    """Write manifest.csv and aggregate.json. The same aggregate in the same place gives the same bytes.

    Paths are relative to the folder, with ``/``, where it shares a folder other than the root with the file;
    otherwise they are absolute.

    Returns
    -------
    tuple of Path
        The two files.

    Raises
    ------
    OutputExistsError
        There is an aggregate already and it may not be overwritten.
    OutputError
        The folder cannot be written.
    """
    about, manifest = folder / ABOUT, folder / MANIFEST
    if not overwrite and (about.exists() or manifest.exists()):
        raise OutputExistsError(
            "there is an aggregate already", where=folder, fix="Choose another -o, or --overwrite"
        )
    make_folder(folder)
    buffer = io.StringIO(newline="")
    writer = csv.DictWriter(buffer, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(_row(entry, folder) for entry in made.entries)
    table = buffer.getvalue().encode()
    text = {
        "format": FORMAT,
        "name": made.name,
        "ranvier": own_version(),
        "folds": made.folds,
        "seed": made.seed,
        "all": made.counts(),
        "sources": made.sources(),
        "warnings": list(made.warnings),
        "manifest": {"file": MANIFEST, "sha256": hashlib.sha256(table).hexdigest()},
    }
    write_atomically(manifest, table)
    write_atomically(about, (json.dumps(text, indent=1, ensure_ascii=False) + "\n").encode())
    return about, manifest


def _row(entry: Entry, folder: Path) -> dict[str, Any]:
    image = entry.image
    columns = _MASKS[len(image.masks) - 1]
    size = image.pixel_size
    row: dict[str, Any] = {name: getattr(image, name) or "" for name in ("sample", *_TEXTS)}
    row |= {
        "source": image.source,
        "subject": image.subject,
        "name": image.name,
        "pixel_size_um": "" if size is None else repr(size.um),
        "pixel_size_source": "" if size is None else size.source,
        "height": entry.shape[0],
        "width": entry.shape[1],
        "role": image.role,
        "fold": "" if entry.fold is None else entry.fold,
        "image": _written(image.image, folder),
        "mask_levels": "/".join(map(str, image.levels or ())),
        "image_sha256": image.sha256[0],
    }
    for column, path, digest in zip(columns, image.masks, image.sha256[1:], strict=True):
        row |= {column: _written(path, folder), f"{column}_sha256": digest}
    return row


def _written(path: Path, folder: Path) -> str:
    whole, home = path.resolve(), folder.resolve()
    try:
        shared = Path(os.path.commonpath([whole, home]))
    except ValueError:  # other drives
        return whole.as_posix()
    if shared == Path(shared.anchor):
        return whole.as_posix()
    return Path(os.path.relpath(whole, home)).as_posix()


def read_aggregate(folder: Path) -> Aggregate:
    """Read an aggregate back.

    That the manifest is the one written and that every file exists is checked here; the hash of each file when it is
    loaded, or by :meth:`Aggregate.verify`.

    Raises
    ------
    DatasetError
        A file of the aggregate is missing, changed or makes no sense, or images are missing; all are listed.
    """
    where = folder / ABOUT
    if not where.is_file():
        raise DatasetError(
            "not an aggregate",
            where=folder,
            fix="Make one with: ranvier aggregate DATASET... -o DIR",
        )
    about = load_json(where)
    if about.get("format") != FORMAT:
        raise DatasetError(
            f"not an aggregate of format {FORMAT}", where=where, seen=repr(about.get("format"))
        )
    kinds = {"name": str, "folds": int, "seed": int, "warnings": list, "manifest": dict}
    wrong = [key for key, kind in kinds.items() if type(about.get(key)) is not kind]
    if wrong:
        raise DatasetError("missing or of another kind", where=where, seen=", ".join(wrong))
    entries = _entries(folder / MANIFEST, about)
    warnings = tuple(str(w) for w in about["warnings"])
    return Aggregate(about["name"], about["folds"], about["seed"], entries, warnings)


def _entries(path: Path, about: Mapping[str, Any]) -> tuple[Entry, ...]:
    try:
        table = path.read_bytes()
    except OSError as error:
        raise DatasetError("cannot be read", where=path, seen=error.strerror) from error
    if hashlib.sha256(table).hexdigest() != about["manifest"].get("sha256"):
        raise DatasetError(
            "the manifest has changed since the aggregate was made",
            where=path,
            fix="Make the aggregate anew",
        )
    try:
        reader = csv.DictReader(io.StringIO(table.decode(), newline=""), strict=True)
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise DatasetError("not a table", where=path, seen=str(error)) from error
    if tuple(reader.fieldnames or ()) != COLUMNS:
        raise DatasetError("not the columns of a manifest", where=path, seen=reader.fieldnames)
    entries: list[Entry] = []
    problems: list[str] = []
    for number, row in enumerate(rows, 2):
        try:
            entries.append(_entry(row, path.parent, about["folds"]))
        except RanvierError as error:
            problems.append(f"row {number}: {text_of(error)}")
        except (ValueError, TypeError, AttributeError) as error:
            problems.append(f"row {number} makes no sense: {error}")
    for entry in entries:
        files = (entry.image.image, *entry.image.masks)
        problems += [f"{file}: there is no such file" for file in files if not file.is_file()]
    raise_together(problems, path)
    return tuple(entries)


def _entry(row: dict[str, str], folder: Path, folds: int) -> Entry:
    columns = next(c for c in _MASKS if row[c[0]] or c is _MASKS[-1])
    role, fold = row["role"], int(row["fold"]) if row["fold"] else None
    fitting = fold is None if role == "test" else fold is not None and 0 <= fold < folds
    if role not in get_args(Role) or not fitting:
        raise ValueError(f"role {role!r} with fold {row['fold']!r}")
    levels = tuple(int(v) for v in row["mask_levels"].split("/")) if row["mask_levels"] else None
    if levels is not None and len(levels) != 3:
        raise ValueError(f"mask_levels {row['mask_levels']!r}")
    image = Annotated(
        source=row["source"],
        subject=row["subject"],
        name=row["name"],
        image=_found(row["image"], folder),
        masks=tuple(_found(row[c], folder) for c in columns),
        pixel_size=_pixel_size(row),
        sample=row["sample"] or None,
        role=cast(Role, role),
        levels=levels,
        sha256=(row["image_sha256"], *(row[f"{c}_sha256"] for c in columns)),
        **{name: row[name] or None for name in _TEXTS},  # type: ignore[arg-type]
    )
    return Entry(image, (int(row["height"]), int(row["width"])), fold)


def _found(text: str, folder: Path) -> Path:
    if not text:
        raise ValueError("no path")
    path = Path(text)
    return path if path.is_absolute() else Path(os.path.normpath(folder.resolve() / path))


def _pixel_size(row: dict[str, str]) -> PixelSize | None:
    if not row["pixel_size_um"]:
        return None
    um, source = float(row["pixel_size_um"]), row["pixel_size_source"]
    if source not in get_args(Source):
        raise ValueError(f"pixel_size_source {source!r}")
    return checked(um, um, cast(Source, source))
