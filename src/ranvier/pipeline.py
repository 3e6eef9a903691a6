"""One micrograph end to end, and the record that makes every file traceable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.errors import MaskError, PixelSizeError
from ranvier.exporting import (
    EXPORT_ENDINGS,
    export_files,
    mask_files,
    overlay_png,
    table_csv,
    table_files,
)
from ranvier.fascicles import Fascicles, FascicleSettings, measure_fascicles
from ranvier.inference import Model, Progress, segment
from ranvier.instances import InstanceSettings, separate
from ranvier.jobs import MaskSet, Options, Outcome
from ranvier.masks import classes_from_mask, classes_from_masks
from ranvier.micrograph import Fibres, Micrograph, Segmentation
from ranvier.morphometrics import MeasureSettings, measure
from ranvier.provenance import Clock, file_sha256, own_version, versions
from ranvier.reading import read
from ranvier.results import (
    FASCICLES,
    MASK_ENDINGS,
    OVERLAY,
    TABLE_ENDINGS,
    Place,
    check_room,
    identity,
    is_current,
    publish,
    stem_of,
)
from ranvier.summary import summarise
from ranvier.tissue import find_tissue

NERVE_NAMES = ("_seg-nerve", "_seg-fascicles")
"""Endings of the names of masks that say where the nerve, or its fascicles, are."""


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
    if _is_done(place, about, [path, *([nerve] if nerve else [])], options):
        return Outcome(path, "skipped")
    clock = Clock()
    micrograph = _read(path, options, channel=options.channel)
    clock.lap("reading")
    segmentation = segment(micrograph, model, settings=options.inference, progress=progress)
    clock.lap("segmenting")
    work = _Work(place, path, [micrograph], about, clock, options)
    found = _measured(work, segmentation, nerve, pixels=micrograph.pixels)
    clock.lap("measuring")
    files = mask_files(segmentation.classes) | _files(
        found, options, shown=micrograph.pixels, classes=segmentation.classes
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
    if _is_done(place, about, [*masks.files, *([nerve] if nerve else [])], options):
        return Outcome(path, "skipped")
    clock = Clock()
    planes = [_read(p, options) for p in masks.files]
    segmentation = _segmentation_of(planes, masks)
    clock.lap("reading")
    work = _Work(place, path, planes, about, clock, options)
    found = _measured(work, segmentation, nerve)
    clock.lap("measuring")
    files = _files(found, options, shown=segmentation.classes, classes=segmentation.classes)
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
class _Found:
    """What was measured in one image."""

    fibres: Fibres
    summary: Mapping[str, Any]
    fascicles: Fascicles | None = None


def _nerve_mask(folder: Path, stem: str, options: Options) -> Path | None:
    """The mask of the nerve that was named, or lies beside an image or its masks."""
    if options.fascicles is not None:
        return options.fascicles
    names = {f"{stem}{name}" for name in NERVE_NAMES}
    present = [p for p in sorted(folder.glob("*")) if stem_of(p).removesuffix("-manual") in names]
    if len(present) > 1:
        raise MaskError(
            "several masks of the nerve beside one image",
            where=folder,
            seen=", ".join(path.name for path in present),
            fix="Say which one with --fascicles",
        )
    return present[0] if present else None


def _place(
    path: Path, stem: str, options: Options, more: tuple[str, ...], nerve: Path | None
) -> Place:
    endings = (*more, *TABLE_ENDINGS, OVERLAY, *(EXPORT_ENDINGS[kind] for kind in options.exports))
    if nerve is not None:
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
    nerve: Path | None,
    *,
    pixels: NDArray[Any] | None = None,
) -> _Found:
    """Measure the fibres, and the image or its nerve as a whole."""
    options = work.options
    fibres = measure_segmentation(
        segmentation, settings=options.instances, measuring=options.measuring
    )
    if nerve is None:
        tissue = find_tissue(fibres.instances, pixels=pixels)
        fascicles, inside = None, None
    else:
        mask = read(nerve, limits=options.limits)
        work.read.append(replace(mask, notes=(*mask.notes, f"nerve from {nerve.name}")))
        settings = FascicleSettings(
            labels=options.fascicle_labels, include_border=options.summary.include_border
        )
        fascicles = measure_fascicles(mask.pixels, fibres, settings=settings)
        tissue = find_tissue(fibres.instances, mask=fascicles.labels > 0)
        inside = tissue.holds(fibres)
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
    found: _Found, options: Options, *, shown: NDArray[Any], classes: NDArray[np.uint8]
) -> dict[str, bytes]:
    fibres = found.fibres
    files = table_files(fibres) | export_files(fibres, options.exports, summary=found.summary)
    if found.fascicles is not None:
        files[FASCICLES] = table_csv(found.fascicles.table)
    files[OVERLAY] = overlay_png(
        shown,
        classes,
        fibres.instances.fibres,
        numbers=fibres if options.numbers else None,
        pixel_size=fibres.pixel_size,
    )
    return files


def _read(path: Path, options: Options, *, channel: int | str | None = None) -> Micrograph:
    return read(
        path,
        pixel_size=options.pixel_size,
        page=options.page,
        channel=channel,
        limits=options.limits,
    )


def _segmentation_of(planes: list[Micrograph], masks: MaskSet) -> Segmentation:
    """Classes of mask files, and their pixel size.

    Raises
    ------
    MaskError
        Shapes or values make no sense, or one mask has a single class that its name does not tell.
    PixelSizeError
        Two masks of one image state different sizes.
    """
    path = planes[0].path
    if len({p.shape for p in planes}) > 1:
        raise MaskError(
            "axon mask and myelin mask differ in shape",
            where=path,
            seen=" and ".join(str(p.shape) for p in planes),
        )
    sizes = [p.pixel_size for p in planes if p.pixel_size is not None]
    if len({size.um for size in sizes}) > 1:
        raise PixelSizeError(
            "axon mask and myelin mask state different pixel sizes",
            where=path,
            seen=" and ".join(str(size) for size in sizes),
            fix="Give the true one with --pixel-size",
        )
    if len(planes) == 2:
        classes = classes_from_masks(planes[0].pixels, planes[1].pixels, where=path)
    else:
        classes = classes_from_mask(planes[0].pixels, where=path)
        if not masks.names_both and len({1, 2} & set(np.unique(classes).tolist())) == 1:
            raise MaskError(
                "a mask of a single class, and nothing tells which",
                where=path,
                fix="Name masks X_seg-axon and X_seg-myelin, or X_seg-axonmyelin for both in one",
            )
    return Segmentation(classes, sizes[0] if sizes else None)


def measure_segmentation(
    segmentation: Segmentation,
    *,
    settings: InstanceSettings | None = None,
    measuring: MeasureSettings | None = None,
) -> Fibres:
    """Measure every fibre of a segmentation.

    Parameters
    ----------
    segmentation
        From :func:`ranvier.segment`, or made from masks of any tool with :mod:`ranvier.masks`.
    settings
        How classes become fibres.
    measuring
        Model of the axon's shape, and limits of the flags.

    Returns
    -------
    fibres
        One row per fibre, in micrometres where the pixel size is known and in pixels otherwise.
    """
    size = segmentation.pixel_size
    found = separate(segmentation.classes, settings=settings or InstanceSettings(), pixel_size=size)
    return measure(
        found,
        pixel_size=size,
        settings=measuring or MeasureSettings(),
        confidence=segmentation.confidence,
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
        notes=tuple(dict.fromkeys(note for m in work.read for note in m.notes)),
        pixel_size="unknown, so results are in pixels" if size is None else str(size),
        seconds=work.clock.total(),
    )


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
