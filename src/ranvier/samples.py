"""The table that says whose tissue each image shows: image, subject and group."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from ranvier.errors import DatasetError

__all__ = ["ALL", "Sample", "Samples", "read_samples", "refuse", "template"]

ALL = "all"
"""The group of every subject where the table has no column of groups."""
_DELIMITERS = "\t;,"
_NEEDED = ("image", "subject")


@dataclass(frozen=True)
class Sample:
    """One row of the table.

    Attributes
    ----------
    image
        File name or stem of an image; after the name of the folder of its results, where folders
        hold results of the same name: ``folder/stem``.
    subject, group
        Whose tissue it shows, and which group that subject is of.
    extra
        Any other columns.
    line
        Where the row stands in the file, from 1.
    """

    image: str
    subject: str
    group: str
    extra: Mapping[str, str]
    line: int


@dataclass(frozen=True)
class Samples:
    """The whole table.

    Attributes
    ----------
    problems
        What is wrong with it, each with its line.
    """

    path: Path
    rows: tuple[Sample, ...]
    extra_columns: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def read_samples(path: Path) -> Samples:
    """Read a table of samples.

    Parameters
    ----------
    path
        CSV or TSV, UTF-8 with or without a byte order mark; tab, semicolon or comma between cells,
        whichever the first line shows. Columns ``image`` and ``subject``, optionally ``group``;
        others are carried along. Columns at the end that are empty from top to bottom are dropped.

    Returns
    -------
    Samples
        Its ``problems`` are rows of wrong length, empty cells, images named twice and subjects in
        two groups.

    Raises
    ------
    DatasetError
        The file cannot be read, is not UTF-8, or lacks columns, so that no row means anything.
    """
    lines = _lines(path)
    if not lines:
        raise DatasetError("the table of samples is empty", where=path)
    header = _trimmed([cell.strip() for cell in lines[0][1]], 0)
    names = [h.lower() if h.lower() in (*_NEEDED, "group") else h for h in header]
    problems = [f"line {lines[0][0]}: no column {n}" for n in _NEEDED if n not in names]
    problems += [
        f"line {lines[0][0]}: column {n or 'without a name'} stands {names.count(n)} times"
        for n in dict.fromkeys(names)
        if names.count(n) > 1
    ]
    refuse(problems, path, fix="The columns are image, subject and, if there are groups, group")
    extra = tuple(n for n in names if n not in (*_NEEDED, "group"))
    rows: list[Sample] = []
    for number, all_cells in lines[1:]:
        cells = _trimmed(all_cells, len(names))
        if len(cells) != len(names):
            problems.append(f"line {number}: {len(cells)} cells instead of {len(names)}")
            continue
        row = dict(zip(names, (cell.strip() for cell in cells), strict=True))
        problems += [f"line {number}: no {n}" for n in (*_NEEDED, "group") if row.get(n) == ""]
        group = row.get("group", ALL)
        carried = {n: row[n] for n in extra}
        rows.append(Sample(row["image"], row["subject"], group, carried, number))
    return Samples(path, tuple(rows), extra, (*problems, *_contradictions(rows)))


def _trimmed(cells: list[str], width: int) -> list[str]:
    """Without the empty cells at the end that stand beyond a width; spreadsheets save such columns."""
    last = max((i for i, cell in enumerate(cells) if cell.strip()), default=-1)
    return cells[: max(width, last + 1)]


def _lines(path: Path) -> list[tuple[int, list[str]]]:
    """Line number and cells of every row that is not blank."""
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(
            "the table of samples cannot be read", where=path, seen=error.strerror
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            "the table of samples is not UTF-8",
            where=path,
            seen=f"byte {error.start}",
            fix='Save it as "CSV UTF-8"',
        ) from error
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda d: _fit(first, d))
    found = []
    before = 0
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                found.append((before + 1, cells))
            before = reader.line_num
    except csv.Error as error:
        raise DatasetError(
            "the table of samples is not CSV", where=path, seen=f"line {before + 1}: {error}"
        ) from error
    return found


def _fit(line: str, delimiter: str) -> tuple[int, int]:
    cells = [cell.strip().strip('"').lower() for cell in line.split(delimiter)]
    return sum(name in cells for name in _NEEDED), len(cells)


def _contradictions(rows: Iterable[Sample]) -> list[str]:
    """Images named twice and subjects in two groups."""
    problems = []
    images: dict[str, int] = {}
    groups: dict[str, Sample] = {}
    for row in rows:
        if row.image and row.image in images:
            problems.append(
                f"line {row.line}: image {row.image} is in line {images[row.image]}, too"
            )
        images.setdefault(row.image, row.line)
        first = groups.setdefault(row.subject, row)
        if row.subject and row.group and first.group and row.group != first.group:
            problems.append(
                f"line {row.line}: subject {row.subject} is in group {row.group} here and in group "
                f"{first.group} in line {first.line}"
            )
    return problems


def refuse(problems: Iterable[str], where: Path | str, *, fix: str | None = None) -> None:
    """Raise one error that lists every problem, or return if there is none.

    Raises
    ------
    DatasetError
        There is a problem.
    """
    told = list(problems)
    if told:
        listed = "".join(f"\n  - {p}" for p in told)
        raise DatasetError(
            f"{len(told)} problem(s):{listed}\n" if fix else f"{len(told)} problem(s):{listed}",
            where=where,
            fix=fix,
        )


def template(images: Iterable[str], path: Path) -> bytes:
    """A table of samples to be filled in: one row per image, subject and group empty.

    The cells are separated by tabs if the name ends in ``.tsv``, otherwise by commas.
    """
    buffer = io.StringIO(newline="")
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    writer = csv.writer(buffer, delimiter=delimiter, lineterminator="\n")
    writer.writerow((*_NEEDED, "group"))
    writer.writerows((image, "", "") for image in images)
    return buffer.getvalue().encode()
