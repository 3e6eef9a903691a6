"""One micrograph end to end, and the record that makes every file traceable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._early_files import EarlyFiles
from ranvier._mask_files import nerve_beside
from ranvier.exporting import (
    EXPORT_ENDINGS,
    export_files,
    overlay_png,
    table_csv,
)
from ranvier.fascicles import Fascicles, FascicleSettings, measure_fascicles
from ranvier.inference import Model, Progress, segment
from ranvier.jobs import MaskSet, Options, Outcome
from ranvier.micrograph import Fibres, Micrograph, Segmentation
from ranvier.provenance import Clock, file_sha256, own_version, versions
from ranvier.reading import read
from ranvier.results import (
    FASCICLES,
    MASK_ENDINGS,
    OUTPUT_ENDINGS,
    OVERLAY,
    TABLE_ENDINGS,
    Place,
    check_room,
    identity,
    is_current,
    publish,
    stem_of,
)
from ranvier.segmentations import measure_segmentation, segmentation_of_masks
from ranvier.summary import InTissue, summarise
from ranvier.tissue import find_tissue


def segment_file(
    path: Path, model: Model, options: Options, *, progress: Progress | None = None
) -> Outcome:
    """Segment and measure one image file and write its results.

    Raises
    ------
    RanvierError
        The file, the settings or the place for results cannot be used.
    """
    nerve = _nerve_mask(path.parent, stem_of(path), options)
    place = _place(path, stem_of(path), options, MASK_ENDINGS, nerve)
    about: dict[str, Any] = {
        "command": "segment",
        **model.description,
        "settings": {"inference": asdict(options.inference), **_settings(options)},
    }
    if _is_done(place, about, [path, *nerve.paths], options):
        return Outcome(path, "skipped")
    clock = Clock()
    micrograph = _read(path, options, channel=options.channel, keep_colour=model.wants_colour)
    clock.lap("reading")
    segmentation = segment(micrograph, model, settings=options.inference, progress=progress)
    micrograph = replace(micrograph, notes=(*micrograph.notes, *segmentation.provenance["notes"]))
    clock.lap("segmenting")
    work = _Work(place, path, [micrograph], about, clock, options)
    with EarlyFiles(
        micrograph.pixels, segmentation.classes, pixel_size=segmentation.pixel_size
    ) as early:
        early.masks()
        found = _measured(work, segmentation, nerve, early=early, pixels=micrograph.pixels)
        seen = {
            name: segmentation.provenance[name] for name in ("zoom", "bare_axons", "unsure_axons")
        }
        summary = {**found.summary, "zoom": seen["zoom"]["chosen"]}
        found = replace(found, summary=summary, seen=seen)
        clock.lap("measuring")
        files = _files(
            found, options, early=early, shown=micrograph.pixels, classes=segmentation.classes
        )
    clock.lap("exporting")
    return _published(work, files, found)


def measure_masks(masks: MaskSet, options: Options) -> Outcome:
    """Measure the fibres of masks that exist, from any tool, and write the tables.

    Raises
    ------
    RanvierError
        A mask, the settings or the place for results cannot be used.
    """
    path = masks.files[0]
    nerve = _nerve_mask(path.parent, masks.stem, options)
    place = _place(path, masks.stem, options, (), nerve)
    about = {"command": "measure", "settings": _settings(options)}
    if _is_done(place, about, [*masks.files, *nerve.paths], options):
        return Outcome(path, "skipped")
    clock = Clock()
    planes = [_read(p, options) for p in masks.files]
    planes[0] = replace(planes[0], notes=(*masks.notes, *planes[0].notes))
    segmentation = segmentation_of_masks(planes, names_both=masks.names_both)
    clock.lap("reading")
    work = _Work(place, path, planes, about, clock, options)
    classes = segmentation.classes
    with EarlyFiles(classes, classes, pixel_size=segmentation.pixel_size) as early:
        found = _measured(work, segmentation, nerve, early=early)
        clock.lap("measuring")
        files = _files(found, options, early=early, shown=classes, classes=classes)
    clock.lap("exporting")
    return _published(work, files, found)


@dataclass(frozen=True)
class _Work:
    """What is known of one set of results before they are written; ``read`` grows as files are read."""

    place: Place
    path: Path
    read: list[Micrograph]
    about: dict[str, Any]
    clock: Clock
    options: Options


@dataclass(frozen=True)
class _Nerve:
    """The mask of the nerve, if there is one, and what is to be said of it."""

    path: Path | None
    notes: tuple[str, ...] = ()

    @property
    def paths(self) -> list[Path]:
        return [] if self.path is None else [self.path]


@dataclass(frozen=True)
class _Found:
    """What was measured in one image."""

    fibres: Fibres
    summary: Mapping[str, Any]
    fascicles: Fascicles | None = None
    seen: Mapping[str, Any] = field(default_factory=dict)


def _nerve_mask(folder: Path, stem: str, options: Options) -> _Nerve:
    """The mask of the nerve that was named, or lies beside an image or its masks."""
    if options.fascicles is not None:
        return _Nerve(options.fascicles)
    return _Nerve(*nerve_beside(folder, stem))


def _place(path: Path, stem: str, options: Options, more: tuple[str, ...], nerve: _Nerve) -> Place:
    endings = (*more, *TABLE_ENDINGS, OVERLAY, *(EXPORT_ENDINGS[kind] for kind in options.exports))
    if nerve.path is not None:
        endings += (FASCICLES,)
    return Place(options.folder_for(path), stem, tuple(dict.fromkeys(endings)))


def _settings(options: Options) -> dict[str, Any]:
    """Settings of the stages after segmenting, as they are recorded."""
    return {
        "instances": asdict(options.instances),
        "measuring": asdict(options.measuring),
        "summary": asdict(options.summary),
        "numbers": options.numbers,
        "fascicle_labels": options.fascicle_labels,
    }


def _is_done(place: Place, about: Mapping[str, Any], inputs: list[Path], options: Options) -> bool:
    """Whether current results are there and are to be kept; if not, whether new ones may be written."""
    if options.existing == "skip" and is_current(
        place, _identity(about, [file_sha256(p) for p in inputs], options)
    ):
        return True
    check_room(place, options.existing)
    return False


def _measured(
    work: _Work,
    segmentation: Segmentation,
    nerve: _Nerve,
    *,
    early: EarlyFiles,
    pixels: NDArray[Any] | None = None,
) -> _Found:
    """Measure the fibres, and the image or its nerve as a whole."""
    options = work.options
    fibres = measure_segmentation(
        segmentation,
        settings=options.instances,
        measuring=options.measuring,
        found=lambda instances: early.fibres(instances, overlay=not options.numbers),
    )
    if nerve.path is None:
        tissue = find_tissue(fibres.instances, pixels=pixels)
        fascicles, inside = None, None
    else:
        mask = read(nerve.path, limits=options.limits)
        notes = (*mask.notes, f"nerve from {nerve.path.name}", *nerve.notes)
        work.read.append(replace(mask, notes=notes))
        settings = FascicleSettings(
            labels=options.fascicle_labels, include_border=options.summary.include_border
        )
        fascicles = measure_fascicles(mask.pixels, fibres, settings=settings, where=nerve.path)
        tissue = find_tissue(fibres.instances, mask=fascicles.labels > 0)
        _, axon_px, fibre_px = fascicles.pixels
        inside = InTissue(tissue.holds(fibres), axon_px, fibre_px)
    summary = summarise(
        fibres,
        shape=segmentation.shape,
        settings=options.summary,
        tissue_px=tissue.pixels,
        tissue_source=tissue.source,
        in_tissue=inside,
    )
    return _Found(fibres, summary, fascicles)


def _files(
    found: _Found,
    options: Options,
    *,
    early: EarlyFiles,
    shown: NDArray[Any],
    classes: NDArray[np.uint8],
) -> dict[str, bytes]:
    """All files, in the order in which they are listed."""
    fibres = found.fibres
    files = {TABLE_ENDINGS[1]: table_csv(fibres.table)}
    files |= export_files(fibres, options.exports, summary=found.summary)
    if found.fascicles is not None:
        files[FASCICLES] = table_csv(found.fascicles.table)
    if options.numbers:
        files[OVERLAY] = overlay_png(
            shown,
            classes,
            fibres.instances.fibres,
            numbers=fibres,
            pixel_size=fibres.pixel_size,
        )
    files |= early.take()
    return {ending: files[ending] for ending in sorted(files, key=OUTPUT_ENDINGS.index)}


def _read(
    path: Path,
    options: Options,
    *,
    channel: int | str | None = None,
    keep_colour: bool = False,
) -> Micrograph:
    return read(
        path,
        pixel_size=options.pixel_size,
        page=options.page,
        channel=channel,
        limits=options.limits,
        keep_colour=keep_colour,
    )


def _published(work: _Work, files: Mapping[str, bytes], found: _Found) -> Outcome:
    size, options = found.fibres.pixel_size, work.options
    run = {
        "ranvier": own_version(),
        **work.about,
        "inputs": [_input(micrograph, options) for micrograph in work.read],
        "identity": _identity(work.about, [m.sha256 for m in work.read], options),
        "units": "px" if size is None else "um",
        "summary": found.summary,
        **found.seen,
        **({} if found.fascicles is None else {"fascicles": dict(found.fascicles.totals)}),
        "versions": versions(),
        "started": work.clock.started,
        "seconds": work.clock.laps,
    }
    outputs = publish(files, run, place=work.place, existing=options.existing)
    return Outcome(
        work.path,
        "done",
        outputs=tuple(outputs),
        summary=found.summary,
        notes=(*dict.fromkeys(note for m in work.read for note in m.notes), *_kept(work.place)),
        pixel_size="unknown, so results are in pixels" if size is None else str(size),
        seconds=work.clock.total(),
    )


def _kept(place: Place) -> list[str]:
    """A note on the files of an earlier run that lie among the new ones."""
    kept = json.loads(place.record.read_text(encoding="utf-8")).get("kept", {})
    names = sorted(name for name in kept if (place.folder / name).is_file())
    return [f"not of this run, kept from an earlier one: {', '.join(names)}"] if names else []


def _identity(about: Mapping[str, Any], hashes: list[str], options: Options) -> str:
    """Hash of all that decides what the results are: inputs, model, settings and version."""
    backend = {k: v for k, v in about.get("backend", {}).items() if k != "threads"}
    return identity(
        {
            **about,
            "backend": backend,
            "ranvier": own_version(),
            "inputs": hashes,
            "pixel_size": options.pixel_size,
            "page": options.page,
            "channel": options.channel,
        }
    )


def _input(micrograph: Micrograph, options: Options) -> dict[str, Any]:
    size = micrograph.pixel_size
    return {
        "path": str(micrograph.path),
        "sha256": micrograph.sha256,
        "shape": list(micrograph.shape),
        "page": options.page,
        "channel": options.channel,
        "pixel_size_um": None if size is None else size.um,
        "pixel_size_source": None if size is None else size.source,
        "notes": list(micrograph.notes),
    }
