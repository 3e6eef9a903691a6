"""One micrograph end to end, and the record that makes every file traceable."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

from ranvier.errors import MaskError
from ranvier.exporting import instances_tiff, mask_files, overlay_png, table_csv
from ranvier.inference import InferenceSettings, Model, Progress, segment
from ranvier.instances import InstanceSettings, separate
from ranvier.masks import classes_from_mask, classes_from_masks
from ranvier.micrograph import Fibres, Micrograph, Segmentation
from ranvier.morphometrics import measure
from ranvier.reading import Limits, read
from ranvier.results import (
    MASK_ENDINGS,
    OVERLAY,
    TABLE_ENDINGS,
    Existing,
    check_room,
    is_done,
    publish,
    stem_of,
)
from ranvier.summary import summarise

Status = Literal["done", "skipped", "failed"]
DEFAULT_FOLDER = "ranvier"
_LIBRARIES = ("numpy", "openvino", "pillow", "scikit-image", "scipy", "tifffile")


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
    """The mask files of one image: one with three levels, or an axon mask and a myelin mask."""

    stem: str
    files: tuple[Path, ...]


def segment_file(
    path: Path, model: Model, options: Options, *, progress: Progress | None = None
) -> Outcome:
    """Segment and measure one image file and write its results.

    Raises
    ------
    RanvierError
        The file, the settings or the place for results cannot be used.
    """
    folder, stem = options.folder_for(path), stem_of(path)
    endings = (*MASK_ENDINGS, *TABLE_ENDINGS, OVERLAY)
    if options.existing == "skip" and is_done(folder, stem, endings):
        return Outcome(path, "skipped")
    check_room(folder, stem, endings, options.existing)
    clock = _Clock()
    micrograph = read(
        path,
        pixel_size=options.pixel_size,
        page=options.page,
        channel=options.channel,
        limits=options.limits,
    )
    clock.lap("reading")
    segmentation = segment(micrograph, model, settings=options.inference, progress=progress)
    clock.lap("segmenting")
    fibres = _measured(segmentation, options)
    clock.lap("measuring")
    files = mask_files(segmentation.classes) | _tables(fibres)
    files[OVERLAY] = overlay_png(micrograph.pixels, segmentation.classes, fibres.instances.fibres)
    clock.lap("exporting")
    summary = summarise(fibres, shape=micrograph.shape)
    about = {
        "command": "segment",
        "inputs": [_input(micrograph, options)],
        **{k: segmentation.provenance[k] for k in ("model", "backend")},
        "settings": {
            "inference": asdict(options.inference),
            "instances": asdict(options.instances),
        },
    }
    run = _record(about, [micrograph], summary, clock)
    outputs = publish(files, run, folder=folder, stem=stem)
    return _outcome(path, outputs, summary, [micrograph], clock)


def measure_masks(masks: MaskSet, options: Options) -> Outcome:
    """Measure the fibres of masks that exist, from any tool, and write the tables.

    Raises
    ------
    RanvierError
        A mask, the settings or the place for results cannot be used.
    """
    path = masks.files[0]
    folder = options.folder_for(path)
    endings = (*TABLE_ENDINGS, OVERLAY)
    if options.existing == "skip" and is_done(folder, masks.stem, endings):
        return Outcome(path, "skipped")
    check_room(folder, masks.stem, endings, options.existing)
    clock = _Clock()
    planes = [
        read(p, pixel_size=options.pixel_size, page=options.page, limits=options.limits)
        for p in masks.files
    ]
    segmentation = _segmentation_of(planes)
    clock.lap("reading")
    fibres = _measured(segmentation, options)
    clock.lap("measuring")
    files = _tables(fibres)
    files[OVERLAY] = overlay_png(
        segmentation.classes, segmentation.classes, fibres.instances.fibres
    )
    clock.lap("exporting")
    summary = summarise(fibres, shape=segmentation.shape)
    about = {
        "command": "measure",
        "inputs": [_input(plane, options) for plane in planes],
        "settings": {"instances": asdict(options.instances)},
    }
    run = _record(about, planes, summary, clock)
    outputs = publish(files, run, folder=folder, stem=masks.stem)
    return _outcome(path, outputs, summary, planes, clock)


def _segmentation_of(planes: list[Micrograph]) -> Segmentation:
    if len({p.shape for p in planes}) > 1:
        raise MaskError(
            "axon mask and myelin mask differ in shape",
            where=planes[0].path,
            seen=" and ".join(str(p.shape) for p in planes),
        )
    if len(planes) == 1:
        classes = classes_from_mask(planes[0].pixels, where=planes[0].path)
    else:
        classes = classes_from_masks(planes[0].pixels, planes[1].pixels, where=planes[0].path)
    return Segmentation(classes, planes[0].pixel_size)


def _measured(segmentation: Segmentation, options: Options) -> Fibres:
    size = segmentation.pixel_size
    instances = separate(segmentation.classes, settings=options.instances, pixel_size=size)
    return measure(instances, pixel_size=size)


def _tables(fibres: Fibres) -> dict[str, bytes]:
    return {
        "_instances.tif": instances_tiff(fibres.instances.fibres, fibres.pixel_size),
        "_morphometrics.csv": table_csv(fibres.table),
    }


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


def _record(
    about: dict[str, Any], read_from: list[Micrograph], summary: Mapping[str, Any], clock: _Clock
) -> dict[str, Any]:
    return {
        "ranvier": own_version(),
        **about,
        "units": "px" if read_from[0].pixel_size is None else "um",
        "summary": dict(summary),
        "versions": versions(),
        "started": clock.started,
        "seconds": clock.laps,
    }


def _outcome(
    path: Path,
    outputs: list[Path],
    summary: Mapping[str, Any],
    read_from: list[Micrograph],
    clock: _Clock,
) -> Outcome:
    size = read_from[0].pixel_size
    return Outcome(
        path,
        "done",
        outputs=tuple(outputs),
        summary=summary,
        notes=tuple(dict.fromkeys(note for m in read_from for note in m.notes)),
        pixel_size="unknown, so results are in pixels" if size is None else str(size),
        seconds=clock.total(),
    )


def own_version() -> str:
    """Ranvier's version."""
    try:
        return version("ranvier")
    except PackageNotFoundError:
        return "uninstalled"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.laps: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        now = time.perf_counter()
        self.laps[stage] = round(now - self._last, 3)
        self._last = now

    def total(self) -> float:
        return time.perf_counter() - self._start
