"""One image of any size end to end, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ranvier._doubtful_axons import LeftOut
from ranvier._mask_files import nerve_beside
from ranvier._raster import Limits
from ranvier.errors import OutputError, RanvierError, SettingsError
from ranvier.exporting import EXPORT_ENDINGS, MASK_LEVELS
from ranvier.inference import Model, axon_limits, segmenting_notes
from ranvier.jobs import Options, Outcome
from ranvier.micrograph import Array
from ranvier.pipeline import _identity, _kept, _settings, segment_file
from ranvier.provenance import Clock, own_version, versions
from ranvier.results import OVERLAY, TABLE_ENDINGS, Place, check_room, is_current, stem_of
from ranvier.streaming.classes import Seen, check_model, classify_streamed
from ranvier.streaming.disk_table import DiskTable
from ranvier.streaming.doubtful_axons import drop_doubtful_axons
from ranvier.streaming.measuring import measure_streamed
from ranvier.streaming.opening import kind_of, open_source
from ranvier.streaming.planes import Plane
from ranvier.streaming.publishing import publish_files, remove_left_over, work_folder
from ranvier.streaming.pyramids import write_pyramid
from ranvier.streaming.separating import Separated, separate_streamed
from ranvier.streaming.settings import StreamSettings
from ranvier.streaming.sources import Pick, WindowSource, content_sha256, part_of
from ranvier.streaming.sparse import figures, overlay, overlay_factor
from ranvier.streaming.suiting import check_zoom
from ranvier.streaming.tables_out import (
    check_room_in_memory,
    write_csv,
    write_geojson,
    write_parquet,
    write_rois,
    write_xlsx,
)
from ranvier.writing import write_atomically

__all__ = ["MASK", "segment_any", "segment_streamed"]

MASK = "_seg-axonmyelin.tif"
Progress = Callable[[int, int], None]


def segment_any(
    path: Path,
    model: Model,
    options: Options,
    *,
    stream: StreamSettings = StreamSettings(),  # noqa: B008  # frozen
    progress: Progress | None = None,
) -> Outcome:
    """Segment and measure one image, in memory or streamed, whichever suits it.

    Raises
    ------
    RanvierError
        The file, the settings or the place for results cannot be used.
    """
    if _is_streamed(path, model, options, stream):
        return segment_streamed(path, model, options, stream=stream, progress=progress)
    return segment_file(path, model, options, progress=progress)


def _is_streamed(path: Path, model: Model, options: Options, stream: StreamSettings) -> bool:
    if stream.when != "auto":
        return stream.when == "always"
    kind = kind_of(path)
    if stream.level or stream.region is not None or kind not in ("tiff", "image"):
        return True
    if kind == "image" or not model.sees_windows:
        return False
    try:
        source = open_source(path, _pick(options, stream))
    except RanvierError:
        return False  # the same error comes, in its own words, when the file is read
    rows, columns = source.shape
    source.close()
    return rows * columns > stream.above_px


def _pick(options: Options, stream: StreamSettings) -> Pick:
    return Pick(options.page, options.channel, stream.level, options.pixel_size)


def segment_streamed(
    path: Path,
    model: Model,
    options: Options,
    *,
    stream: StreamSettings = StreamSettings(),  # noqa: B008  # frozen
    progress: Progress | None = None,
) -> Outcome:
    """Segment and measure one image window by window, and write its results.

    Raises
    ------
    RanvierError
        The file, the settings or the place for results cannot be used; or what was asked for cannot be streamed.
    """
    check_model(model, options.inference)
    _check_options(options)
    endings = (MASK, *TABLE_ENDINGS, OVERLAY, *(EXPORT_ENDINGS[kind] for kind in options.exports))
    place = Place(options.folder_for(path), stem_of(path), tuple(dict.fromkeys(endings)))
    about: dict[str, Any] = {
        "command": "segment",
        **model.description,
        "settings": {
            "inference": asdict(options.inference),
            **_settings(options),
            "streaming": {
                "level": stream.level,
                "region": stream.region,
                "blank": asdict(stream.blank),
            },
        },
    }
    remove_left_over(place)
    digest = content_sha256(path)
    if options.existing == "skip" and is_current(place, _identity(about, [digest], options)):
        return Outcome(path, "skipped")
    check_room(place, options.existing)
    clock = Clock()
    with ExitStack() as until:
        source = open_source(path, _pick(options, stream), limits=options.limits)
        until.callback(source.close)
        source = part_of(source, stream.region)
        if options.limits.max_pixels != Limits().max_pixels:
            options.limits.check_pixels(*source.shape, str(path))
        check_zoom(source.shape, options.inference)
        folder = until.enter_context(work_folder(place))
        job = _Job(path, source, digest, about, clock, options, stream)
        return _streamed(job, model, folder, place=place, progress=progress)


def _check_options(options: Options) -> None:
    """Refuse what would need the whole image in memory."""
    if options.fascicles is not None:
        raise SettingsError(
            "fascicles are not measured in images that are streamed",
            where="--fascicles",
            fix="Leave it out, or use --stream never",
        )
    if options.numbers:
        raise SettingsError(
            "ids are not written into the overlay of images that are streamed", where="--numbers"
        )
    if "colours" in options.exports:
        raise SettingsError(
            "the picture in colours is not made of images that are streamed",
            where="--export colours",
            fix="Open the label image, which is a pyramid, in QuPath, napari or Fiji",
        )


@dataclass(frozen=True)
class _Job:
    """What is known of an image before the work."""

    path: Path
    source: WindowSource
    sha256: str
    about: dict[str, Any]
    clock: Clock
    options: Options
    stream: StreamSettings


def _streamed(
    job: _Job, model: Model, folder: Path, *, place: Place, progress: Progress | None
) -> Outcome:
    options, source, clock = job.options, job.source, job.clock
    with ExitStack() as until:
        classes, confidence = (
            until.enter_context(Plane(folder / f"{name}.plane", source.shape, np.uint8))
            for name in ("classes", "confidence")
        )
        seen = classify_streamed(
            source,
            model,
            classes=classes,
            confidence=confidence,
            settings=options.inference,
            blank=job.stream.blank,
            progress=progress,
        )
        limits = axon_limits(model, options.inference)
        doubtful = drop_doubtful_axons(classes, confidence, source, limits)
        clock.lap("segmenting")
        found = separate_streamed(
            classes,
            folder=folder,
            until=until,
            settings=options.instances,
            pixel_size=source.pixel_size,
            rounds=job.stream.rounds,
        )
        clock.lap("separating")
        table = until.enter_context(DiskTable(folder / "table", found.count, source.pixel_size))
        too_large = measure_streamed(
            found,
            table,
            settings=options.measuring,
            confidence=confidence,
            window=job.stream.crop_px,
        )
        summary = {**figures(found, table, source, options.summary), "zoom": seen.zoom["chosen"]}
        clock.lap("measuring")
        files, left_out = _files(job, classes, found, table, folder=folder, summary=summary)
        clock.lap("exporting")
        notes = _notes(job, seen, doubtful=doubtful, too_large=too_large, left_out=left_out)
        kept = Place(place.folder, place.stem, tuple(files))
        run = _record(job, seen, summary, notes=notes, too_large=too_large, left_out=left_out)
        run |= doubtful.record
        outputs = publish_files(files, run, place=kept, existing=options.existing)
    size = source.pixel_size
    return Outcome(
        job.path,
        "done",
        outputs=tuple(outputs),
        summary=summary,
        notes=(*notes, *_kept(kept)),
        pixel_size="unknown, so results are in pixels" if size is None else str(size),
        seconds=clock.total(),
    )


def _mask(classes: Array) -> Array:
    return np.array(MASK_LEVELS, dtype=np.uint8)[classes]


def _files(
    job: _Job,
    classes: Plane,
    found: Separated,
    table: DiskTable,
    *,
    folder: Path,
    summary: Mapping[str, Any],
) -> tuple[dict[str, Path], dict[str, str]]:
    """Write all files into the folder of work; which there are, and why some are not."""
    size, source = job.source.pixel_size, job.source
    pyramid = partial(write_pyramid, folder=folder, pixel_size=size)
    labels, csv = TABLE_ENDINGS
    files = {ending: folder / f"out{ending}" for ending in (MASK, labels, csv, OVERLAY)}
    pyramid(classes, files[MASK], dtype=np.uint8, change=_mask)
    pyramid(found.fibres, files[labels], dtype=np.uint32)
    write_csv(table, files[csv])
    write_atomically(files[OVERLAY], overlay(source, classes, found.fibres, pixel_size=size))
    writers: dict[str, Callable[[Path], None]] = {
        "parquet": lambda path: write_parquet(table, path),
        "geojson": lambda path: write_geojson(found, table, path, folder=folder),
        "rois": lambda path: write_rois(found, table, path, folder=folder),
        "xlsx": lambda path: write_xlsx(table, path, summary),
    }
    left_out: dict[str, str] = {}
    for kind in dict.fromkeys(job.options.exports):
        path = folder / f"out{EXPORT_ENDINGS[kind]}"
        try:
            if kind in ("xlsx", "rois"):
                check_room_in_memory(kind, found.count)
            writers[kind](path)
        except OutputError as error:
            if kind not in ("xlsx", "rois"):
                raise
            left_out[kind] = str(error)
        else:
            files[EXPORT_ENDINGS[kind]] = path
    return files, left_out


def _notes(
    job: _Job, seen: Seen, *, doubtful: LeftOut, too_large: int, left_out: Mapping[str, str]
) -> tuple[str, ...]:
    """What the user is told."""
    rows, columns = job.source.shape
    notes = [*job.source.notes, f"streamed: {columns} x {rows} pixels in {seen.windows} windows"]
    if seen.blank_windows:
        notes.append(
            f"{seen.blank_windows} blank windows ({seen.blank_share:.1%} of the image) not shown to the network"
        )
    notes += segmenting_notes(seen.zoom, doubtful)
    factor = overlay_factor(job.source.shape)
    if factor > 1:
        notes.append(f"overlay {factor} times smaller than the image")
    if too_large:
        notes.append(f"{too_large} fibre(s) too large for their outlines to be measured")
    nerve = nerve_beside(job.path.parent, stem_of(job.path))[0]
    if nerve is not None:
        notes.append(f"{nerve.name} not used: fascicles are not measured when streaming")
    notes += [f"{kind} not written: {reason}" for kind, reason in left_out.items()]
    return tuple(notes)


def _record(
    job: _Job,
    seen: Seen,
    summary: Mapping[str, Any],
    *,
    notes: tuple[str, ...],
    too_large: int,
    left_out: Mapping[str, str],
) -> dict[str, Any]:
    """The run.json."""
    size, shape = job.source.pixel_size, job.source.shape
    grey = asdict(seen.grey)
    return {
        "ranvier": own_version(),
        **job.about,
        "inputs": [
            {
                "path": str(job.path),
                "sha256": job.sha256,
                "shape": list(shape),
                "page": job.options.page,
                "channel": job.options.channel,
                "pixel_size_um": None if size is None else size.um,
                "pixel_size_source": None if size is None else size.source,
                "notes": list(notes),
            }
        ],
        "identity": _identity(job.about, [job.sha256], job.options),
        "units": "px" if size is None else "um",
        "summary": summary,
        "zoom": dict(seen.zoom),
        "streaming": {
            "grey": grey,
            "windows": seen.windows,
            "blank_windows": seen.blank_windows,
            "blank_share": seen.blank_share,
            "overlay_factor": overlay_factor(shape),
            "fibres_measured_by_area_alone": too_large,
            "left_out": dict(left_out),
        },
        "versions": versions(),
        "started": job.clock.started,
        "seconds": job.clock.laps,
    }
