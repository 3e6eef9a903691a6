"""What a cohort's run is to do: each image's own settings, the addresses of its results, and the shards.

A *request* is what a row asks for: files by name, settings, model and version. It is known before any file is
opened, so the rows can be dealt to shards. A *key* is what the results are made from: the bytes of the files in
place of their names. It is where results are stored, so that equal work is done once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ranvier._mask_files import mask_file
from ranvier.cohort_manifest import Entry, Manifest
from ranvier.errors import SettingsError
from ranvier.exporting import json_bytes
from ranvier.inference import Model
from ranvier.jobs import MaskSet, Options
from ranvier.provenance import own_version
from ranvier.results import identity, stem_of

__all__ = ["Plan", "Shard", "Unit", "make_plan", "model_facts"]

FORMAT, VERSION = "ranvier-cohort", 1
SHORT = 40
"""Hex digits of a hash in names: 160 bits."""
_OF_ROWS = ("pixel_size", "page", "channel")


@dataclass(frozen=True)
class Shard:
    """One of several equal parts of a cohort's work.

    Attributes
    ----------
    index
        From 1 to ``count``; 0 is another name for ``count``, so that arrays that count from 0 fit, too.
    count
        How many there are.

    Raises
    ------
    SettingsError
        There is no such part.
    """

    index: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if self.count < 1 or not 0 <= self.index <= self.count:
            raise SettingsError(
                "no such shard",
                where="--shard",
                seen=f"{self.index}/{self.count}",
                fix="Give i/n with i from 1 to n (or from 0 to n - 1)",
            )
        object.__setattr__(self, "index", self.index or self.count)

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read ``i/n``.

        Raises
        ------
        SettingsError
            It is not of that form, or there is no such shard.
        """
        index, slash, count = text.partition("/")
        if not slash or not index.strip().isdecimal() or not count.strip().isdecimal():
            raise SettingsError(
                "not a shard", where="--shard", seen=text, fix="Give i/n, for example 3/10"
            )
        return cls(int(index), int(count))

    def __str__(self) -> str:
        return f"{self.index}-of-{self.count}"

    def part(self, units: Sequence[Unit]) -> list[Unit]:
        """The units of this shard, in the manifest's order.

        They are dealt by the hash of what each row says of itself, so neither the order of rows nor the
        command's settings matter, and no two shards differ by more than one unit.
        """
        dealt = sorted(units, key=lambda unit: unit.own)
        mine = {id(u) for u in dealt[self.index - 1 :: self.count]}
        return [unit for unit in units if id(unit) in mine]


@dataclass(frozen=True, eq=False)
class Unit:
    """One request, and the rows that make it.

    Attributes
    ----------
    entries
        Rows of the manifest; several where an image is listed more than once.
    own, request
        Hashes of what the rows say alone, and with the command's settings.
    path
        The image, or the first mask.
    masks
        Masks to be measured; None for an image to be segmented.
    options
        Settings with those of the row.
    facts
        What decides the results beside the bytes of the files.
    """

    entries: tuple[Entry, ...]
    own: str
    request: str
    path: Path
    masks: MaskSet | None
    options: Options
    facts: Mapping[str, Any]

    @property
    def files(self) -> tuple[Path, ...]:
        """The image, or its masks."""
        return (self.path,) if self.masks is None else self.masks.files


@dataclass(frozen=True, eq=False)
class Plan:
    """All that a run is to do.

    Attributes
    ----------
    units
        Requests, in order of their first rows.
    about
        What plan.json says. It holds no time, no host and no absolute path that the manifest does not hold.
    content, sha256
        The bytes of plan.json, and their hash.
    """

    manifest: Manifest
    units: tuple[Unit, ...]
    about: Mapping[str, Any]
    content: bytes
    sha256: str


def model_facts(model: Model) -> dict[str, Any]:
    """Which model it is and what runs it, for plan and keys."""
    facts = model.description
    backend = {key: value for key, value in facts["backend"].items() if key != "threads"}
    return {"model": facts["model"], "backend": backend}


def make_plan(manifest: Manifest, options: Options, model: Mapping[str, Any]) -> Plan:
    """Put together what a run is to do.

    Parameters
    ----------
    manifest
        The rows.
    options
        The command's settings; those of a row go before them.
    model
        From :func:`model_facts`; unused, and perhaps empty, where every row has masks.
    """
    bases = {
        "segment": _base(options, "segment", model),
        "measure": _base(options, "measure", {}),
    }
    by_request: dict[str, Unit] = {}
    rows = []
    for entry in manifest.entries:
        unit = _unit(manifest, entry, options, bases)
        known = by_request.get(unit.request)
        entries = (*known.entries, entry) if known else (entry,)
        by_request[unit.request] = replace(known or unit, entries=entries)
        rows.append({**asdict(entry), "request": unit.request})
    about = {
        "format": FORMAT,
        "version": VERSION,
        "ranvier": own_version(),
        "manifest": {"name": manifest.path.name, "sha256": manifest.sha256},
        **model,
        "settings": _settings(options, "segment"),
        "exports": sorted(options.exports),
        **{name: getattr(options, name) for name in _OF_ROWS},
        "extra_columns": list(manifest.extra_columns),
        "has_subjects": manifest.has_subjects,
        "rows": rows,
    }
    content = json_bytes(about)
    digest = hashlib.sha256(content).hexdigest()
    return Plan(manifest, tuple(by_request.values()), about, content, digest)


def _base(options: Options, command: str, model: Mapping[str, Any]) -> dict[str, str]:
    """What decides the results of all rows of a command, but for what a row may say itself."""
    facts = {
        "ranvier": own_version(),
        "command": command,
        **model,
        "settings": _settings(options, command),
        "exports": sorted(options.exports),
    }
    if command == "segment":
        del facts["settings"]["inference"]["zoom"]
    return {"command": command, "base": identity(facts)}


def _unit(
    manifest: Manifest, entry: Entry, options: Options, bases: Mapping[str, Mapping[str, str]]
) -> Unit:
    names = entry.masks or (entry.image,)
    files = tuple(manifest.at(name) for name in names)
    masks = _mask_set(files) if entry.masks else None
    zoom = options.inference.zoom if entry.zoom is None else entry.zoom
    chosen = replace(
        options,
        pixel_size=options.pixel_size if entry.pixel_size_um is None else entry.pixel_size_um,
        page=options.page if entry.page is None else entry.page,
        channel=options.channel if entry.channel is None else entry.channel,
        inference=replace(options.inference, zoom=zoom),
        fascicles=manifest.at(entry.nerve_mask) if entry.nerve_mask else options.fascicles,
    )
    facts: dict[str, Any] = {"pixel_size": chosen.pixel_size, "page": chosen.page}
    if masks is None:
        facts |= {**bases["segment"], "zoom": zoom, "channel": chosen.channel}
    else:
        facts |= bases["measure"]
    own = identity(
        {
            "files": [*names, entry.nerve_mask],
            "row": [entry.pixel_size_um, entry.zoom, entry.page, entry.channel],
        }
    )
    request = identity({"own": own, "facts": facts})[:SHORT]
    return Unit((entry,), own, request, files[0], masks, chosen, facts)


def _mask_set(files: tuple[Path, ...]) -> MaskSet:
    named = mask_file(files[0])
    stem = stem_of(files[0]) if named is None else named.stem
    both = len(files) == 1 and named is not None and named.kind == "axonmyelin"
    return MaskSet(stem, files, names_both=both)


def _settings(options: Options, command: str) -> dict[str, Any]:
    """Settings of the stages that decide the results of a command."""
    stages = ("instances", "measuring", "summary")
    kept = {name: asdict(getattr(options, name)) for name in stages}
    if command == "segment":
        kept["inference"] = asdict(options.inference)
    return {**kept, "numbers": options.numbers, "fascicle_labels": options.fascicle_labels}
