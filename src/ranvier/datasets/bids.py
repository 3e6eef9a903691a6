"""Read annotated micrographs laid out as BIDS microscopy (BEP031)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast

from ranvier.datasets._bids_tables import (
    Tables,
    pixel_size_of,
    read_participants,
    read_sample_table,
    sidecar,
)
from ranvier.datasets.annotated import Annotated, Role, load_json, text_of
from ranvier.datasets.listing import ENDINGS, Listing, choose, names_twice, stem_of
from ranvier.errors import RanvierError

MODALITIES = (
    "SEM",
    "TEM",
    "BF",
    "CARS",
    "uCT",
    "CONF",
    "DF",
    "PC",
    "FLUO",
    "PLI",
    "NLO",
    "OCT",
    "SPIM",
    "XPCT",
)
_LABEL = re.compile(r"(?P<stem>.+)_seg-(?P<kind>axonmyelin|axon|myelin)(?P<manual>-manual)?")
_ABOUT = "dataset_description.json"

Kind = Literal["axon", "myelin", "axonmyelin"]
Place = tuple[Path, str]
"""Folder of an image within the dataset, and its stem."""


def is_bids(folder: Path) -> bool:
    """Whether a folder claims to be a BIDS dataset."""
    return (folder / _ABOUT).is_file()


def read_bids(folder: Path) -> tuple[Annotated, ...]:
    """List the annotated micrographs of a BIDS microscopy dataset, as :func:`list_bids` finds them.

    Raises
    ------
    DatasetError
        The dataset holds no annotated image, or some of its files make no sense; all problems are listed.
    """
    return list_bids(folder).accepted()


def list_bids(folder: Path) -> Listing:
    """Look through a BIDS microscopy dataset.

    Images stand in ``sub-*/micr/`` or ``sub-*/ses-*/micr/``, masks under ``derivatives/labels/`` with the same path
    and the suffix ``_seg-axonmyelin-manual``, or as the pair ``_seg-axon-manual`` and ``_seg-myelin-manual``, which is
    preferred. A mask without ``-manual`` counts where there is none with it. Pixel sizes and ``BodyPart`` (the organ)
    come from the JSON sidecars, with inheritance; ``species`` and ``pathology`` from participants.tsv and samples.tsv,
    as does the role, from an optional column ``split`` with ``train`` or ``test``; the licence from
    dataset_description.json.

    Tables, sidecars and pixel sizes may be missing. Images without a mask are left out. One mask of a pair alone,
    a mask without an image, and files that share a name and differ (:func:`ranvier.datasets.listing.choose`) are
    problems.
    """
    problems: list[str] = []
    notes: list[str] = []
    about = _about(folder, problems)
    tables = _tables(folder, notes, problems)
    labels = _labels(folder)
    found: list[Annotated] = []
    unmarked = []
    for place, files in _images(folder).items():
        if place not in labels:
            unmarked.append(files[0].name)
            continue
        try:
            found.append(_annotated(folder, place, files, labels.pop(place)))
        except _ProblemError as error:
            problems.append(str(error))
        except RanvierError as error:
            problems.append(text_of(error))
    for parent, stem in labels:
        problems.append(f"derivatives/labels/{parent}/{stem}_seg-*: there is no such image")
    if unmarked:
        notes.append(f"{len(unmarked)} image(s) without masks left out: {', '.join(unmarked[:5])}")
    images = [_described(image, about, tables, problems) for image in found]
    _missing_rows(images, tables, notes)
    problems += names_twice(images)
    if not images and not problems:
        problems.append(
            "no annotated image in this BIDS dataset. Images are looked for in sub-*/micr/ and masks in "
            "derivatives/labels/sub-*/micr/"
        )
    return Listing(folder, tuple(images), tuple(notes), tuple(dict.fromkeys(problems)))


class _ProblemError(Exception):
    """Why an image cannot be used."""


def _about(folder: Path, problems: list[str]) -> dict[str, Any]:
    try:
        about = load_json(folder / _ABOUT)
    except RanvierError as error:
        problems.append(text_of(error))
        about = {}
    return {"Name": folder.name, **about}


def _tables(folder: Path, notes: list[str], problems: list[str]) -> Tables:
    read: dict[str, Any] = {}
    for name, reader in (("participants", read_participants), ("samples", read_sample_table)):
        path = folder / f"{name}.tsv"
        if not path.is_file():
            notes.append(f"there is no {path.name}")
            continue
        try:
            read[name] = reader(path)
        except RanvierError as error:
            problems.append(text_of(error))
    return Tables(**read)


def _images(folder: Path) -> dict[Place, list[Path]]:
    """Files of each image; more than one where endings differ."""
    found: dict[Place, list[Path]] = {}
    for path in sorted(folder.glob("sub-*/**/micr/*")):
        stem = stem_of(path)
        if path.name.lower().endswith(ENDINGS) and stem.rsplit("_", 1)[-1] in MODALITIES:
            found.setdefault((path.parent.relative_to(folder), stem), []).append(path)
    return found


def _labels(folder: Path) -> dict[Place, dict[tuple[str, bool], list[Path]]]:
    """Mask files of each image, by kind and by whether they are named as manual."""
    home = folder / "derivatives" / "labels"
    found: dict[Place, dict[tuple[str, bool], list[Path]]] = {}
    for path in sorted(home.glob("sub-*/**/micr/*")):
        match = _LABEL.fullmatch(stem_of(path))
        if match and path.name.lower().endswith(ENDINGS):
            kinds = found.setdefault((path.parent.relative_to(home), match["stem"]), {})
            kinds.setdefault((match["kind"], bool(match["manual"])), []).append(path)
    return found


def _annotated(
    folder: Path, place: Place, files: list[Path], labels: dict[tuple[str, bool], list[Path]]
) -> Annotated:
    parent, stem = place
    subject = parent.parts[0].removeprefix("sub-")
    entities = dict(part.partition("-")[::2] for part in stem.split("_")[:-1])
    if entities.get("sub") != subject:
        raise _ProblemError(f"{files[0]}: the name does not say sub-{subject}, as its folder does")
    masks, notes = _masks(place, labels)
    image, why = choose(files, like=masks[0])
    if image is None:
        raise _ProblemError(f"{parent}/: {why}")
    known, where = sidecar(folder, image, stem)
    size, more = pixel_size_of(known, where)
    parts = [known[k] for k in ("BodyPart", "BodyPartDetails") if isinstance(known.get(k), str)]
    return Annotated(
        source="",
        subject=subject,
        name=stem,
        image=image,
        masks=masks,
        pixel_size=size,
        sample=entities.get("sample"),
        modality=stem.rsplit("_", 1)[-1],
        organ=", ".join(parts) or None,
        notes=tuple(n for n in (why, *notes, *more) if n),
    )


def _masks(
    place: Place, labels: dict[tuple[str, bool], list[Path]]
) -> tuple[tuple[Path, ...], list[str]]:
    """The pair of masks, or the one with three levels; and notes."""
    notes = []

    def one(kind: Kind) -> Path | None:
        files = labels.get((kind, True)) or labels.get((kind, False))
        if files is None:
            return None
        if (kind, False) in labels and (kind, True) in labels:
            notes.append(f"_seg-{kind} left aside for _seg-{kind}-manual")
        path, why = choose(files)
        if path is None:
            raise _ProblemError(f"derivatives/labels/{place[0]}/: {why}")
        notes.extend([why] if why else [])
        return path

    axon, myelin = one("axon"), one("myelin")
    if axon and myelin:
        return (axon, myelin), notes
    both = one("axonmyelin")
    if both:
        return (both,), notes
    alone = "an axon mask but no myelin mask" if axon else "a myelin mask but no axon mask"
    raise _ProblemError(f"derivatives/labels/{place[0]}/{place[1]}_seg-*: {alone}")


def _described(
    image: Annotated, about: Mapping[str, Any], tables: Tables, problems: list[str]
) -> Annotated:
    """The image with what the whole dataset says about it."""

    def said(column: str) -> str | None:
        return tables.value(column, image.subject, image.sample)

    role = said("split")
    if role not in (None, "train", "test"):
        problems.append(f"{image.name}: the column split says {role!r}, not train or test")
        role = None
    licence = about.get("License") or about.get("Licence")
    return replace(
        image,
        source=str(about["Name"]),
        species=said("species"),
        pathology=said("pathology"),
        licence=None if licence is None else str(licence),
        role=cast(Role | None, role),
    )


def _missing_rows(images: list[Annotated], tables: Tables, notes: list[str]) -> None:
    """Say which subjects and samples the tables do not know."""
    if tables.participants:
        unknown = sorted({i.subject for i in images} - set(tables.participants))
        notes.extend(f"participants.tsv does not list sub-{s}" for s in unknown)
    if tables.samples:
        known = set(tables.samples)
        missing = [i for i in images if i.sample and (i.subject, i.sample) not in known]
        notes.extend(
            f"samples.tsv does not list sample-{i.sample} of sub-{i.subject}" for i in missing
        )
