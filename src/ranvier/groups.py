"""From the results of many images to tables of images, subjects and groups.

The subject is what was sampled, not the fibre: fibres of one animal are alike, so that they are no
independent observations. A measure of a subject is therefore one number, and a group is described
by its subjects' numbers alone, however many fibres each of them has.

- Of a subject, a measure of fibres is its mean over all the fibres of all its images, those that an
  image's border cuts left out unless asked for; area fractions and densities are those of its
  images' areas put together.
- Of a group, mean, standard deviation (n - 1 in the denominator), standard error sd / sqrt(n) and
  the 95 % confidence interval, mean +- t(0.975; n - 1) sd / sqrt(n) [1]_, over its n subjects. With
  one subject, there is a mean only.

References
----------
.. [1] Student (1908). The probable error of a mean. Biometrika 6, 1-25.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier._matching import clashes, differences, matched, one_unit, shared_columns
from ranvier.collected import Collected, collect_all
from ranvier.figures import (
    aggregate_g_ratio,
    counted,
    counts,
    densities,
    fibre_means,
    fractions,
    mean_columns,
)
from ranvier.micrograph import Array
from ranvier.samples import Sample, read_samples, refuse
from ranvier.summary import SummarySettings

__all__ = ["GROUP_COLUMNS", "Grouped", "summarise_groups"]

GROUP_COLUMNS = ("group", "measure", "n_subjects", "mean", "sd", "sem", "ci95_low", "ci95_high")
_OF_IMAGE = ("avf", "mvf", "fvf", "density_per_mm2", "density_per_mm2_unbiased")
_OF_TISSUE = ("avf_tissue", "mvf_tissue", "fvf_tissue", "density_per_mm2_tissue")
_OWN = ("image", "subject", "group", "n_images", "n_fibres", "n_fibres_in_means", "measure")
_DEFAULT = SummarySettings()

Table = dict[str, Array]


@dataclass(frozen=True, eq=False)
class Grouped:
    """Tidy tables, each a mapping of column names to 1-D arrays of one length.

    Attributes
    ----------
    images
        One row per image, in order of the samples.
    subjects
        One row per subject.
    groups
        One row per group and measure, with the columns of ``GROUP_COLUMNS``.
    fibres
        One row per fibre, with image, subject and group in front.
    warnings
        In what the images' results differ that should be alike.
    sources
        What was read for each image: name, subject, and the hashes of its files.
    """

    images: Mapping[str, Array]
    subjects: Mapping[str, Array]
    groups: Mapping[str, Array]
    fibres: Mapping[str, Array]
    warnings: tuple[str, ...] = ()
    sources: tuple[Mapping[str, Any], ...] = field(default=())


@dataclass(frozen=True, eq=False)
class _Image:
    """One image's results, whose they are, and its figures."""

    sample: Sample
    result: Collected
    table: Table
    used: NDArray[np.bool_]
    figures: Mapping[str, Any]


def summarise_groups(
    folders: Iterable[Path], samples: Path, *, settings: SummarySettings = _DEFAULT
) -> Grouped:
    """Put the results of images together by subject and group; the module's docstring says how.

    Parameters
    ----------
    folders
        Folders of results: ``X_morphometrics.csv`` and ``X_run.json`` of each image.
    samples
        Table of samples; see :func:`ranvier.samples.read_samples`.
    settings
        Whether means of fibres count those that the border cuts, too.

    Raises
    ------
    DatasetError
        Something is wrong with the samples, an image has no results, results have no row, or
        results cannot be used; all problems are listed.
    InputError
        Some images are in pixels and some in micrometres.
    """
    known = read_samples(Path(samples))
    collection = collect_all(folders)
    pairs, more = matched(known, collection)
    refuse((*known.problems, *more, *collection.problems), known.path)
    results = collection.found
    unit = one_unit(results)
    shared, warnings = shared_columns(results)
    images = [_image(s, r, shared, settings) for s, r in pairs]
    taken = {*shared, *_OWN, *(key for i in images for key in i.figures)}
    refuse(clashes(known, taken), known.path, fix="Rename these columns")
    subjects = _subjects(images, unit)
    return Grouped(
        images=_images_table(images, known.extra_columns),
        subjects=_subjects_table(subjects, known.extra_columns),
        groups=_groups_table(subjects),
        fibres=_fibres_table(images, known.extra_columns, shared),
        warnings=(*warnings, *differences(results)),
        sources=tuple(_source(i) for i in images),
    )


def _image(
    sample: Sample, result: Collected, shared: Sequence[str], settings: SummarySettings
) -> _Image:
    table = {name: result.table[name] for name in shared}
    used = counted(table, include_border=settings.include_border)
    unit, size = result.unit, result.pixel_size_um
    rows, cols = result.shape
    area = rows * cols * (1.0 if size is None else size**2)
    shares = fractions(table, unit, area)
    figures = {
        "length_unit": unit,
        "pixel_size_um": size,
        **counts(table, result.shape),
        f"image_area_{unit}2": area,
        **shares,
        "aggregate_g_ratio": aggregate_g_ratio(shares["avf"], shares["mvf"]),
        **densities(table, result.shape, None if size is None else area),
        **_tissue(result),
        **fibre_means(table, unit, used),
    }
    return _Image(sample, result, table, used, figures)


def _tissue(result: Collected) -> dict[str, Any]:
    """What the run recorded about the tissue; None where it says nothing."""
    summary = result.run.get("summary")
    known = summary if isinstance(summary, dict) else {}
    keys = (f"tissue_area_{result.unit}2", "tissue_source", *_OF_TISSUE)
    return {key: known.get(key) for key in keys}


@dataclass(frozen=True, eq=False)
class _Subject:
    name: str
    group: str
    extra: Mapping[str, str]
    facts: Mapping[str, Any]
    measures: Mapping[str, float | None]


def _subjects(images: Sequence[_Image], unit: str) -> list[_Subject]:
    by_name: dict[str, list[_Image]] = {}
    for image in images:
        by_name.setdefault(image.sample.subject, []).append(image)
    return [_subject(name, own, unit) for name, own in by_name.items()]


def _subject(name: str, images: Sequence[_Image], unit: str) -> _Subject:
    areas = [i.figures[f"image_area_{unit}2"] for i in images]
    tissue = [i.figures[f"tissue_area_{unit}2"] for i in images]
    measures = {k: _pooled([i.figures[k] for i in images], areas) for k in _OF_IMAGE}
    measures["aggregate_g_ratio"] = aggregate_g_ratio(measures["avf"], measures["mvf"])
    measures |= {k: _pooled([i.figures[k] for i in images], tissue) for k in _OF_TISSUE}
    for column in mean_columns(images[0].table, unit):
        values = np.concatenate([i.table[column][i.used].astype(np.float64) for i in images])
        values = values[np.isfinite(values)]
        measures[f"{column}_mean"] = float(values.mean()) if values.size else None
    facts = {
        "n_images": len(images),
        "n_fibres": sum(i.figures["fibre_count"] for i in images),
        "n_fibres_in_means": sum(int(np.count_nonzero(i.used)) for i in images),
        f"image_area_{unit}2": sum(areas),
        f"tissue_area_{unit}2": None if None in tissue else sum(tissue),
    }
    first = images[0].sample
    same = {k: v for k, v in first.extra.items() if {i.sample.extra[k] for i in images} == {v}}
    return _Subject(name, first.group, same, facts, measures)


def _pooled(values: Sequence[float | None], areas: Sequence[float | None]) -> float | None:
    """What holds for the areas put together; None where a value or area is not known."""
    pairs = list(zip(values, areas, strict=True))
    known = [(v, a) for v, a in pairs if a is not None and (v is not None or a == 0)]
    total = sum(a for _, a in known)
    if len(known) < len(pairs) or not total > 0:
        return None
    return sum((v or 0.0) * a for v, a in known) / total


def _images_table(images: Sequence[_Image], extra: Sequence[str]) -> Table:
    rows = [{**_identity(i.sample, extra), **i.figures} for i in images]
    return _from_rows(rows)


def _subjects_table(subjects: Sequence[_Subject], extra: Sequence[str]) -> Table:
    kept = [name for name in extra if all(name in s.extra for s in subjects)]
    return _from_rows(
        [
            {
                "subject": s.name,
                "group": s.group,
                **{name: s.extra[name] for name in kept},
                **s.facts,
                **s.measures,
            }
            for s in subjects
        ]
    )


def _fibres_table(images: Sequence[_Image], extra: Sequence[str], shared: Sequence[str]) -> Table:
    lengths = [int(i.figures["fibre_count"]) for i in images]
    identities = [_identity(i.sample, extra) for i in images]
    names = list(identities[0]) if identities else []
    table: Table = {
        name: np.repeat(np.array([d[name] for d in identities], dtype=object), lengths)
        for name in names
    }
    filled = [i.table for i, n in zip(images, lengths, strict=True) if n]
    for name in shared:
        parts = [t[name] for t in filled]
        table[name] = np.concatenate(parts) if parts else np.zeros(0)
    return table


def _identity(sample: Sample, extra: Sequence[str]) -> dict[str, Any]:
    return {
        "image": sample.image,
        "subject": sample.subject,
        "group": sample.group,
        **{name: sample.extra[name] for name in extra},
    }


def _groups_table(subjects: Sequence[_Subject]) -> Table:
    rows = []
    for group in dict.fromkeys(s.group for s in subjects):
        members = [s for s in subjects if s.group == group]
        for measure in members[0].measures:
            values = [v for s in members if (v := s.measures[measure]) is not None]
            rows.append(dict(zip(GROUP_COLUMNS, (group, measure, *_student(values)), strict=True)))
    return _from_rows(rows) if rows else {name: np.zeros(0) for name in GROUP_COLUMNS}


def _student(values: Sequence[float]) -> tuple[Any, ...]:
    """Number, mean, standard deviation, standard error and 95 % interval; None where undefined."""
    from scipy.special import stdtrit

    n = len(values)
    mean = float(np.mean(values)) if n else None
    if mean is None or n < 2:
        return (n, mean, None, None, None, None)
    sd = float(np.std(values, ddof=1))
    sem = sd / math.sqrt(n)
    half = float(stdtrit(n - 1, 0.975)) * sem
    return (n, mean, sd, sem, mean - half, mean + half)


def _from_rows(rows: Sequence[Mapping[str, Any]]) -> Table:
    """Columns of whole numbers, numbers (NaN where there is none) or text."""
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: _column([row.get(name) for row in rows]) for name in names}


def _column(values: list[Any]) -> Array:
    present = [v for v in values if v is not None]
    if any(isinstance(v, str) for v in present):
        return np.array(["" if v is None else v for v in values], dtype=object)
    if len(present) == len(values) and all(isinstance(v, int) for v in present):
        return np.array(values, dtype=np.int64)
    return np.array([math.nan if v is None else v for v in values], dtype=np.float64)


def _source(image: _Image) -> dict[str, Any]:
    return {
        "image": image.sample.image,
        "subject": image.sample.subject,
        "folder": str(image.result.folder),
        "sha256": dict(image.result.hashes),
    }
