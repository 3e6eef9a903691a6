"""One micrograph end to end, and the record that makes every file traceable."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ranvier.errors import MaskError, PixelSizeError
from ranvier.exporting import mask_files, overlay_png, table_files
from ranvier.inference import InferenceSettings, Model, Progress, segment
from ranvier.instances import InstanceSettings, separate
from ranvier.masks import classes_from_mask, classes_from_masks
from ranvier.micrograph import Fibres, Micrograph, Segmentation
from ranvier.morphometrics import measure
from ranvier.provenance import Clock, file_sha256, own_version, versions
from ranvier.reading import Limits, read
from ranvier.results import (
    MASK_ENDINGS,
    OVERLAY,
    TABLE_ENDINGS,
    Existing,
    Place,
    check_room,
    identity,
    is_current,
    publish,
    stem_of,
)
from ranvier.summary import summarise

Status = Literal["done", "skipped", "failed"]
DEFAULT_FOLDER = "ranvier"


@dataclass(frozen=True)
class Options:
    """Everything that a user can choose for one image, beside the model.

    Attributes
    ----------
    output
        Folder for the results; None is a folder ``ranvier`` beside each input.
    pixel_size
        Micrometres per pixel; overrides what the file says.
    page, channel
        Which image of a file that holds several.
    limits
        What is refused before decoding.
    inference, instances
        Settings of those stages.
    existing
        What to do where results are there already.
    """

    output: Path | None = None
    pixel_size: float | None = None
    page: int | None = None
    channel: int | str | None = None
    limits: Limits = field(default_factory=Limits)
    inference: InferenceSettings = field(default_factory=InferenceSettings)
    instances: InstanceSettings = field(default_factory=InstanceSettings)
    existing: Existing = "refuse"

    def folder_for(self, path: Path) -> Path:
        """Where the results of one input go."""
        return self.output if self.output is not None else path.parent / DEFAULT_FOLDER


@dataclass(frozen=True)
class Outcome:
    """What became of one input.

    Attributes
    ----------
    message
        The error, for a failed input.
    summary
        Image-level figures; see :func:`ranvier.summary.summarise`.
    pixel_size
        As it is shown to the user.
    """

    path: Path
    status: Status
    message: str = ""
    outputs: tuple[Path, ...] = ()
    summary: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    pixel_size: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class MaskSet:
    """The mask files of one image: one with three levels, or an axon mask and a myelin mask.

    Attributes
    ----------
    names_both
        Whether the name of a single file says that it holds both classes.
    """

    stem: str
    files: tuple[Path, ...]
    names_both: bool = False


def segment_file(
    path: Path, model: Model, options: Options, *, progress: Progress | None = None
) -> Outcome:
    """Segment and measure one image file and write its results.

    Raises
    ------
    RanvierError
        The file, the settings or the place for results cannot be used.
    """
    endings = (*MASK_ENDINGS, *TABLE_ENDINGS, OVERLAY)
    place = Place(options.folder_for(path), stem_of(path), endings)
    about: dict[str, Any] = {
        "command": "segment",
        **model.description,
        "settings": {
            "inference": asdict(options.inference),
            "instances": asdict(options.instances),
        },
    }
    if options.existing == "skip" and is_current(
        place, _identity(about, [file_sha256(path)], options)
    ):
        return Outcome(path, "skipped")
    check_room(place, options.existing)
    clock = Clock()
    micrograph = _read(path, options, channel=options.channel)
    clock.lap("reading")
    segmentation = segment(micrograph, model, settings=options.inference, progress=progress)
    clock.lap("segmenting")
    fibres = measure_segmentation(segmentation, settings=options.instances)
    clock.lap("measuring")
    files = mask_files(segmentation.classes) | table_files(fibres)
    files[OVERLAY] = overlay_png(micrograph.pixels, segmentation.classes, fibres.instances.fibres)
    clock.lap("exporting")
    return _published(_Work(place, path, [micrograph], about, clock), files, fibres, options)


def measure_masks(masks: MaskSet, options: Options) -> Outcome:
    """Measure the fibres of masks that exist, from any tool, and write the tables.

    Raises
    ------
    RanvierError
        A mask, the settings or the place for results cannot be used.
    """
    path = masks.files[0]
    place = Place(options.folder_for(path), masks.stem, (*TABLE_ENDINGS, OVERLAY))
    about = {"command": "measure", "settings": {"instances": asdict(options.instances)}}
    if options.existing == "skip":
        hashes = [file_sha256(p) for p in masks.files]
        if is_current(place, _identity(about, hashes, options)):
            return Outcome(path, "skipped")
    check_room(place, options.existing)
    clock = Clock()
    planes = [_read(p, options) for p in masks.files]
    segmentation = _segmentation_of(planes, masks)
    clock.lap("reading")
    fibres = measure_segmentation(segmentation, settings=options.instances)
    clock.lap("measuring")
    files = table_files(fibres)
    files[OVERLAY] = overlay_png(
        segmentation.classes, segmentation.classes, fibres.instances.fibres
    )
    clock.lap("exporting")
    return _published(_Work(place, path, planes, about, clock), files, fibres, options)


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
    segmentation: Segmentation, *, settings: InstanceSettings | None = None
) -> Fibres:
    """Measure every fibre of a segmentation.

    Parameters
    ----------
    segmentation
        From :func:`ranvier.segment`, or made from masks of any tool with :mod:`ranvier.masks`.
    settings
        How classes become fibres.

    Returns
    -------
    fibres
        One row per fibre, in micrometres where the pixel size is known and in pixels otherwise.
    """
    size = segmentation.pixel_size
    settings = settings or InstanceSettings()
    return measure(
        separate(segmentation.classes, settings=settings, pixel_size=size), pixel_size=size
    )


@dataclass(frozen=True)
class _Work:
    """What is known of one set of results before they are written."""

    place: Place
    path: Path
    read: list[Micrograph]
    about: dict[str, Any]
    clock: Clock


def _published(
    work: _Work, files: Mapping[str, bytes], fibres: Fibres, options: Options
) -> Outcome:
    size = fibres.pixel_size
    summary = summarise(fibres, shape=work.read[0].shape)
    run = {
        "ranvier": own_version(),
        **work.about,
        "inputs": [_input(micrograph, options) for micrograph in work.read],
        "identity": _identity(work.about, [m.sha256 for m in work.read], options),
        "units": "px" if size is None else "um",
        "summary": summary,
        "versions": versions(),
        "started": work.clock.started,
        "seconds": work.clock.laps,
    }
    outputs = publish(files, run, place=work.place, existing=options.existing)
    return Outcome(
        work.path,
        "done",
        outputs=tuple(outputs),
        summary=summary,
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
