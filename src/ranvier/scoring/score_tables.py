"""Scores as tables: one row per figure, a summary per contender and test set, and a page to read."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, fields
from typing import Any

from ranvier.exporting import json_bytes
from ranvier.scoring.metrics import METRICS
from ranvier.scoring.scores import Failure, Result, Scores, Statistics

__all__ = [
    "COLUMNS",
    "SUMMARY_COLUMNS",
    "overview",
    "scores_csv",
    "summary_csv",
    "summary_json",
    "summary_md",
]

COLUMNS = (
    "model",
    "model_sha256",
    "test_set",
    "subject",
    "image",
    "role",
    "class",
    "metric",
    "unit",
    "value",
    "seen_in_training",
    "pixel_size_um",
    "pixel_size_source",
    "image_sha256",
)
"""Columns of scores.csv."""
SUMMARY_COLUMNS = (
    "model",
    "model_sha256",
    "test_set",
    "class",
    "metric",
    "unit",
    *(f.name for f in fields(Statistics)),
    "images_scored",
    "subjects_scored",
    "images_seen_in_training",
    "seen_in_training",
)
"""Columns of summary.csv."""
MARK = "†"
"""Beside figures of images that were trained on."""
MEANINGS = {
    "mean_over_images": "mean of the images' figures",
    "mean_over_subjects": "mean of the subjects' figures, each of all of its images pooled",
    "pooled": "of all images pooled: pixels, objects, distances and fibres of all are counted together",
    "seen_in_training": "whether any of the images was trained on: then the figures are no scores",
}


def scores_csv(scores: Scores) -> bytes:
    """One row per contender, image and figure; an empty value where the figure is NaN."""
    hashes = {c.name: c.sha256 for c in scores.contenders}

    def rows() -> Iterator[list[Any]]:
        for result in scores.results:
            yield from _rows(result, hashes[result.model])

    return _csv(COLUMNS, rows())


def _rows(result: Result, sha256: str) -> Iterator[list[Any]]:
    image, size = result.image, result.pixel_size
    for metric in METRICS.values():
        if metric.figure not in result.figures:
            continue
        yield [
            result.model,
            sha256,
            result.test_set,
            image.subject,
            image.name,
            image.role or "",
            metric.structure,
            metric.name,
            metric.unit,
            _written(result.figures[metric.figure]),
            result.seen,
            "" if size is None else repr(size.um),
            "" if size is None else size.source,
            result.sha256[0],
        ]


def summary_csv(scores: Scores) -> bytes:
    """One row per contender, test set and figure."""
    hashes = {c.name: c.sha256 for c in scores.contenders}

    def rows() -> Iterator[list[Any]]:
        for test_set, model in scores.pairs:
            counts = _counts(scores, test_set, model)
            for figure, statistics in scores.statistics[test_set, model].items():
                metric = METRICS[figure]
                yield [
                    model,
                    hashes[model],
                    test_set,
                    metric.structure,
                    metric.name,
                    metric.unit,
                    *(_written(v) for v in asdict(statistics).values()),
                    *counts.values(),
                ]

    return _csv(SUMMARY_COLUMNS, rows())


def _counts(scores: Scores, test_set: str, model: str) -> dict[str, Any]:
    results = scores.of(test_set, model)
    return {
        "images_scored": len(results),
        "subjects_scored": len({r.image.subject for r in results}),
        "images_seen_in_training": sum(r.seen == "yes" for r in results),
        "seen_in_training": scores.seen(test_set, model),
    }


def summary_json(scores: Scores) -> bytes:
    """The same as nested objects: test set, model, figure; null where the figure is NaN."""
    sets: dict[str, Any] = {name: {} for name in scores.test_sets}
    for test_set, model in scores.pairs:
        figures = {
            name: {key: _known(value) for key, value in asdict(statistics).items()}
            for name, statistics in scores.statistics[test_set, model].items()
        }
        sets[test_set][model] = {**_counts(scores, test_set, model), "figures": figures}
    return json_bytes(
        {
            "models": {c.name: {"sha256": c.sha256} for c in scores.contenders},
            "meanings": MEANINGS,
            "test_sets": sets,
            "warnings": scores.warnings(),
            "failures": [asdict(f) for f in scores.failures],
        }
    )


_SHOWN = (
    ("dice_axon", "Dice axon"),
    ("dice_myelin", "Dice myelin"),
    ("axon_f1_50", "F1 axon"),
    ("fibre_panoptic_quality_50", "PQ fibre"),
    ("axon_hd95", "HD95 axon"),
)


def overview(scores: Scores, test_set: str) -> list[list[str]]:
    """Main figures of one test set, a row per contender below a header.

    Dice, F1 and panoptic quality (both at IoU 0.5) and HD95 are means over images; the count is that of all images;
    bias and limits of agreement are those of all matched fibres.
    """
    counted = ("axons in truth", "count bias", "axon diameter bias", "g-ratio bias")
    rows = [["model", "images", *(title for _, title in _SHOWN), *counted]]
    for model in scores.models:
        if (test_set, model) not in scores.statistics:
            rows.append([model, "0"] + ["-"] * (len(rows[0]) - 2))
            continue
        known = scores.statistics[test_set, model]
        marked = f"{model} {MARK}" if (test_set, model) in scores.trained_on else model
        cells = [marked, str(len(scores.of(test_set, model)))]
        cells += [_shown(known, figure) for figure, _ in _SHOWN]
        cells += [
            _whole(known["count_true"].pooled),
            _signed(known["count_bias_share"].pooled, "%"),
        ]
        cells += [_agreement(known, "axon_diameter"), _agreement(known, "g_ratio")]
        rows.append(cells)
    return rows


def _shown(known: Mapping[str, Statistics], figure: str) -> str:
    if figure in known:
        return _plain(known[figure].mean_over_images)
    for unit in ("um", "px"):
        found = known.get(f"{figure}_{unit}")
        if found is not None and not math.isnan(found.mean_over_images):
            return f"{found.mean_over_images:.3g} {unit}"
    return "-"


def _agreement(known: Mapping[str, Statistics], measure: str) -> str:
    """Bias, and the limits of agreement in brackets."""
    for column, unit in ((measure, ""), (f"{measure}_um", " um"), (f"{measure}_px", " px")):
        if f"{column}_bias" in known and not math.isnan(known[f"{column}_bias"].pooled):
            bias, low, high = (
                known[f"{column}_{k}"].pooled for k in ("bias", "lower_limit", "upper_limit")
            )
            limits = "" if math.isnan(low) else f" ({low:+.3f} to {high:+.3f})"
            return f"{bias:+.3f}{limits}{unit}"
    return "-"


def _plain(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _whole(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.0f}"


def _signed(value: float, unit: str) -> str:
    return "-" if math.isnan(value) else f"{100 * value:+.1f} {unit}"


def summary_md(scores: Scores) -> bytes:
    """A page to read: a table per test set, warnings and failures."""
    lines = [
        "# Scores",
        "",
        f"{len(scores.models)} model(s) or sets of masks on {len(scores.test_sets)} test set(s). Dice, F1 and panoptic "
        "quality (both at IoU 0.5) and HD95 are means over images. The count is of all images together, predicted "
        "less true. Biases (predicted less true, with the 95 % limits of agreement) are over the fibres that were "
        "found. summary.csv has every figure, also as means over subjects and pooled; scores.csv those of each image.",
    ]
    if scores.trained_on:
        lines += ["", f"{MARK} was trained on images of this test set: **no score**."]
    for test_set in scores.test_sets:
        results = [r for r in scores.results if r.test_set == test_set]
        images = {r.image.name for r in results}
        subjects = {r.image.subject for r in results}
        lines += [
            "",
            f"## {_escaped(test_set)}",
            f"{len(images)} image(s) of {len(subjects)} subject(s)",
            "",
        ]
        header, *rows = overview(scores, test_set)
        lines += [_line(header), _line(["---"] * len(header)), *map(_line, rows)]
    for title, said in (
        ("Warnings", scores.warnings()),
        ("Failures", [_failure(f) for f in scores.failures]),
    ):
        if said:
            lines += ["", f"## {title}", *(f"- {_escaped(text)}" for text in said)]
    return ("\n".join(lines) + "\n").encode()


def _failure(failure: Failure) -> str:
    by = f", {failure.model}" if failure.model else ""
    return f"{failure.test_set}/{failure.image}{by}: {failure.message}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(_escaped(cell) for cell in cells)} |"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")


def _csv(header: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue().encode()


def _written(value: float) -> str:
    """As it reads back exactly; nothing where it is NaN."""
    if math.isnan(value):
        return ""
    return repr(value) if isinstance(value, int) else repr(float(value))


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value
