"""The manifest of a cohort: a table with one row per micrograph, checked as a whole before any work begins.

Rows are counted as a spreadsheet counts them: the header is row 1.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ranvier._mask_files import mask_file
from ranvier.calibration import checked
from ranvier.cohort_columns import COLUMNS, header_problems
from ranvier.errors import DatasetError, PixelSizeError, SettingsError
from ranvier.samples import ALL, refuse
from ranvier.streaming.opening import kind_of
from ranvier.tilewise import Zoom, checked_zoom

__all__ = ["Entry", "Manifest", "read_manifest"]

_FILES = ("image", "mask", "axon_mask", "myelin_mask", "nerve_mask")
_DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Entry:
    """One row of the manifest.

    Attributes
    ----------
    row
        Where it stands, as a spreadsheet counts.
    id
        What the cohort's tables call the image: as given, or its path without the ending.
    image, masks, nerve_mask
        Paths as they are written there; empty where there are none. Masks are one with three levels, or one
        of axons and one of myelin.
    subject, group
        Whose tissue the image shows; empty where the manifest has no such column.
    pixel_size_um, zoom, page, channel
        Settings of this image, before those of the command; None takes the command's. The zoom may be ``auto``.
    extra
        The other columns.
    """

    row: int
    id: str
    image: str
    masks: tuple[str, ...]
    nerve_mask: str
    subject: str
    group: str
    pixel_size_um: float | None
    zoom: Zoom | None
    page: int | None
    channel: int | str | None
    extra: Mapping[str, str]

    @property
    def file(self) -> str:
        """The path that stands for the image: its own, or that of its first mask."""
        return self.image or self.masks[0]


@dataclass(frozen=True)
class Manifest:
    """A manifest without problems.

    Attributes
    ----------
    sha256
        Hash of the file's bytes.
    has_subjects
        Whether it says whose tissue each image shows.
    """

    path: Path
    sha256: str
    entries: tuple[Entry, ...]
    extra_columns: tuple[str, ...]
    has_subjects: bool

    def at(self, text: str) -> Path:
        """A file that the manifest names; a relative path begins at the manifest's folder."""
        return self.path.parent / text


def read_manifest(path: Path) -> Manifest:
    """Read a manifest and check all of it, the files that it names included.

    Parameters
    ----------
    path
        CSV or TSV, UTF-8 with or without a byte order mark; comma, semicolon or tab between cells, whichever
        the first line shows. Columns are those of
        :data:`ranvier.cohort_columns.COLUMNS`, of which only ``image`` (or masks) is needed.

    Raises
    ------
    DatasetError
        The file cannot be read, or has problems; all are listed, each with its row.
    """
    content, records = _records(path)
    if not records:
        raise DatasetError("the manifest is empty", where=path, fix="Its first row names columns")
    first, header = records[0]
    names = [n.lower() if n.lower() in COLUMNS else n for n in _trimmed(header, 0)]
    refuse(
        [f"row {first}: {p}" for p in header_problems(names)],
        path,
        fix=f"Columns with a meaning are {', '.join(COLUMNS)}; others are carried along",
    )
    problems: list[str] = []
    rows: list[tuple[int, dict[str, str]]] = []
    for number, cells in records[1:]:
        filled = _trimmed(cells, len(names))
        if len(filled) != len(names):
            problems.append(f"row {number}: {len(filled)} cells instead of {len(names)}")
        else:
            rows.append((number, dict(zip(names, filled, strict=True))))
    if not records[1:]:
        problems.append("no row below the header")
    extra = tuple(n for n in names if n not in COLUMNS)
    comma = _delimiter(_first_line(content)) != ","
    entries = []
    for number, row in rows:
        entry, wrong = _entry(number, row, extra, decimal_comma=comma)
        wrong += [*_file_problems(row, path.parent)]
        problems += [f"row {number}: {p}" for p in wrong]
        entries.append(entry)
    problems += _contradictions(entries)
    refuse(sorted(problems, key=_row_of), path)
    digest = hashlib.sha256(content).hexdigest()
    return Manifest(path, digest, tuple(entries), extra, "subject" in names)


def _records(path: Path) -> tuple[bytes, list[tuple[int, list[str]]]]:
    """The file's bytes, and row number and cells of every row that is not blank."""
    try:
        content = path.read_bytes()
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise DatasetError(
            "the manifest cannot be read", where=path, seen=error.strerror
        ) from error
    except UnicodeDecodeError as error:
        raise DatasetError(
            "the manifest is not UTF-8",
            where=path,
            seen=f"byte {error.start}",
            fix='Save it as "CSV UTF-8"',
        ) from error
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=_delimiter(_first_line(content)))
    found = []
    number = 0
    try:
        for number, cells in enumerate(reader, start=1):
            stripped = [cell.strip() for cell in cells]
            if any(stripped):
                found.append((number, stripped))
    except csv.Error as error:
        raise DatasetError(
            "the manifest is not CSV", where=path, seen=f"after row {number}: {error}"
        ) from error
    return content, found


def _first_line(content: bytes) -> str:
    text = content[: 1 << 16].decode("utf-8-sig", errors="replace")
    return next((line for line in text.splitlines() if line.strip()), "")


def _delimiter(line: str) -> str:
    def fit(delimiter: str) -> tuple[int, int]:
        cells = [cell.strip().strip('"').lower() for cell in line.split(delimiter)]
        return sum(cell in COLUMNS for cell in cells), len(cells)

    return max(_DELIMITERS, key=fit)


def _trimmed(cells: list[str], width: int) -> list[str]:
    """Without the empty cells at the end that stand beyond a width; spreadsheets save such columns."""
    last = max((i for i, cell in enumerate(cells) if cell), default=-1)
    return cells[: max(width, last + 1)]


def _entry(
    number: int, row: Mapping[str, str], extra: Sequence[str], *, decimal_comma: bool
) -> tuple[Entry, list[str]]:
    """What a row says, and what is wrong with it beside its files."""
    wrong: list[str] = []
    cell = {name: row.get(name, "") for name in COLUMNS}
    pair = [cell["axon_mask"], cell["myelin_mask"]]
    masks = tuple(_plain(m) for m in ([cell["mask"]] if cell["mask"] else pair) if m)
    if any(pair) and cell["mask"]:
        wrong.append(
            "mask and axon_mask or myelin_mask: give one mask with three levels, or a pair"
        )
    elif any(pair) and not all(pair):
        wrong.append(f"no {'myelin' if pair[0] else 'axon'}_mask beside the other mask")
    if not masks and not cell["image"]:
        wrong.append("no image")
    wrong += [f"no {name}" for name in ("subject", "group") if name in row and not row[name]]
    if masks:
        wrong += [
            f"{n} is for images that are segmented, and this row has masks"
            for n in ("zoom", "channel")
            if cell[n]
        ]
    pixel_size = _number("pixel_size_um", cell["pixel_size_um"], wrong, comma=decimal_comma)
    zoom: Zoom | None = "auto"
    if cell["zoom"].lower() != "auto":
        zoom = _number("zoom", cell["zoom"], wrong, comma=decimal_comma)
    if cell["page"] and not cell["page"].isdecimal():
        wrong.append(f"page is no whole number from 0 (seen: {cell['page']})")
    page = int(cell["page"]) if cell["page"].isdecimal() else None
    channel = int(cell["channel"]) if cell["channel"].isdecimal() else cell["channel"] or None
    image = _plain(cell["image"])
    default = _without_ending(image or (masks[0] if masks else ""))
    default += "" if page is None else f"_page{page}"
    return Entry(
        row=number,
        id=cell["id"] or default,
        image=image,
        masks=masks,
        nerve_mask=_plain(cell["nerve_mask"]),
        subject=cell["subject"],
        group=row.get("group", ALL if cell["subject"] else ""),
        pixel_size_um=pixel_size,
        zoom=zoom,
        page=page,
        channel=channel,
        extra={name: row[name] for name in extra},
    ), wrong


def _plain(text: str) -> str:
    """A path without idle parts, the same on every system."""
    return Path(text).as_posix() if text else ""


def _without_ending(path: str) -> str:
    name = Path(path)
    stem = name.with_suffix("") if name.suffix else name
    return (stem.with_suffix("") if stem.suffix.lower() == ".ome" else stem).as_posix()


def _number(name: str, text: str, wrong: list[str], *, comma: bool) -> float | None:
    """A pixel size or a zoom; None where there is none, or a wrong one, which is told."""
    if not text:
        return None
    try:
        value = float(text.replace(",", ".") if comma else text)
        if name == "zoom":
            checked_zoom(value)
        else:
            checked(value, value, "option")
    except ValueError:
        wrong.append(f"{name} is no number (seen: {text})")
    except (PixelSizeError, SettingsError) as error:
        wrong.append(f"{name}: {error.what} (seen: {text})")
    else:
        return value
    return None


def _file_problems(row: Mapping[str, str], folder: Path) -> Iterable[str]:
    for column in _FILES:
        text = row.get(column, "")
        if text and (problem := _file_problem(folder / text, is_image=column == "image")):
            hint = "; write / between folders" if "\\" in text else ""
            yield f"{column} {text}: {problem}{hint}"
        named = mask_file(Path(text)) if text and column == "mask" else None
        if named is not None and named.kind != "axonmyelin":
            yield f"mask {text}: named like a mask of {named.kind} alone; use axon_mask and myelin_mask"


def _file_problem(path: Path, *, is_image: bool) -> str:
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        return "no such file"
    except (OSError, ValueError) as error:
        return f"cannot be opened ({getattr(error, 'strerror', None) or error})"
    if stat.S_ISDIR(mode):
        return "" if is_image and kind_of(path) == "zarr" else "this is a folder"
    return "" if stat.S_ISREG(mode) else "this is not a regular file"


def _contradictions(entries: Iterable[Entry]) -> Iterable[str]:
    """Doubled ids, and subjects in two groups."""
    ids: dict[str, Entry] = {}
    groups: dict[str, Entry] = {}
    for entry in entries:
        first = ids.setdefault(entry.id, entry)
        if entry.id and first is not entry:
            yield (
                f"row {entry.row}: id {entry.id} is that of row {first.row}, too: "
                "give each row an id of its own"
            )
        known = groups.setdefault(entry.subject, entry)
        if entry.subject and known.group != entry.group and known.group and entry.group:
            yield (
                f"row {entry.row}: subject {entry.subject} is in group {entry.group} here and in "
                f"group {known.group} in row {known.row}"
            )


def _row_of(problem: str) -> int:
    found = re.match(r"row (\d+)", problem)
    return int(found[1]) if found else 0
