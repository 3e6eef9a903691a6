"""The page of results, in Markdown: tables and sentences from scores, and nothing else."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ranvier.experiments.data import Material
from ranvier.experiments.findings import CLASSES, Compared, data_hash
from ranvier.experiments.judging import Judged
from ranvier.experiments.running import Trained
from ranvier.experiments.settings import Experiment
from ranvier.provenance import own_version
from ranvier.scoring.score_tables import overview
from ranvier.scoring.scores import Scores

HOW = {
    "test": "Every model is the ensemble of its folds; images are those of the sources' own test sets.",
    "cross-validation": "Every image is scored, of every model, by the network of the fold that held out its subject, "
    "so that no network is scored on a subject that it was trained on. Which checkpoint of a network was kept was "
    "decided on images that it held out: scores on a model's own sources flatter a little, those on others do not.",
}


def markdown(
    experiment: Experiment,
    material: Material,
    trained: Sequence[Trained],
    judged: Judged,
    *,
    found: Compared | None,
    command: str,
    figures: Mapping[str, str],
) -> str:
    """Write the page.

    Parameters
    ----------
    experiment, material, trained, judged
        What was done.
    found
        From :func:`ranvier.experiments.findings.compared`.
    command
        That made it.
    figures
        What each figure shows (``dice``, ``unseen``, ``out_of_distribution``, ``curves``) to its file, relative.

    Returns
    -------
    str
        Markdown with tables (GitHub's).
    """
    lines = [f"# {experiment.title}", ""]
    lines += [experiment.text.strip(), ""] if experiment.text.strip() else []
    lines += [f"Made by `{command}` with Ranvier {own_version()}. {HOW[experiment.protocol]}", ""]
    lines += _missing(material)
    lines += ["## Dice", "", *_picture(figures, "dice", "Dice of every model on every test set")]
    lines += [*_dice(judged.main), "", *_warned(judged.main)]
    lines += _comparison(experiment, found)
    for folds, scores in judged.groups.items():
        said = ", ".join(map(str, folds))
        lines += [f"## On the images of fold{'s' if len(folds) > 1 else ''} {said} alone", ""]
        lines += [
            "Models that were trained for these folds only, beside the others on the same images.",
            "",
        ]
        lines += [*_dice(scores), ""]
    if judged.unseen is not None:
        lines += ["## Ensembles on sources that they were not trained on", ""]
        lines += _picture(figures, "unseen", "Dice of ensembles on sources they never saw")
        lines += [
            "The mean of a model's folds, on all images of each source.",
            "",
            *_dice(judged.unseen),
            "",
        ]
    if judged.out_of_distribution is not None:
        lines += ["## Out of distribution", ""]
        lines += [
            "Datasets that no model was trained on; every model is the ensemble of its folds.",
            "",
        ]
        lines += [*_dice(judged.out_of_distribution), ""]
    if judged.shown:
        sets = ", ".join(f"{n} ({len(p)} images)" for n, p in material.qualitative.items())
        where = f"`{judged.shown[0].parent.name}/`"
        lines += [
            "## To be looked at",
            "",
            f"{sets} have no masks; what each model draws on some is in {where}.",
            "",
        ]
    lines += _by_subject(judged.main)
    lines += ["## Fibres and measurements", "", *_overviews(judged.main)]
    lines += ["## Trainings", "", *_picture(figures, "curves", "Loss and Dice of every fold")]
    lines += [*_trainings(experiment, trained), ""]
    lines += ["## Data", "", *_data(material), "", *_hashes(experiment, material)]
    return "\n".join(lines).rstrip() + "\n"


def _picture(figures: Mapping[str, str], name: str, said: str) -> list[str]:
    return [f"![{said}]({figures[name]})", ""] if name in figures else []


def _missing(material: Material) -> list[str]:
    if not material.missing:
        return []
    named = ", ".join(material.missing)
    return [
        f"**Missing: {named}.** What needs them was left out; this is not the whole experiment.",
        "",
    ]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table in Markdown."""
    return [_row(header), _row(["---"] * len(header)), *map(_row, rows)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _dice(scores: Scores) -> list[str]:
    """Mean over images of Dice, axon / myelin; the best of each row and class in bold."""
    found = {cls: scores.table(f"dice_{cls}") for cls in CLASSES}
    rows = []
    for test_set in scores.test_sets:
        best = {cls: _best(found[cls], test_set, scores.models) for cls in CLASSES}
        cells = []
        for model in scores.models:
            values = [
                _number(found[cls].get((test_set, model), math.nan), best[cls]) for cls in CLASSES
            ]
            cells.append(" / ".join(values))
        images = {len(scores.of(test_set, m)) for m in scores.models} - {0}
        rows.append([test_set, "-".join(map(str, sorted(images))), *cells])
    return [
        *table(["axon / myelin", "images", *scores.models], rows),
        "",
        "Mean over images; a row is a test set, a column a model.",
    ]


def _by_subject(scores: Scores) -> list[str]:
    """Mean over each subject's images of Dice, axon / myelin: subjects, not images, are independent of each other."""
    found: dict[tuple[str, str], dict[str, list[Mapping[str, float]]]] = {}
    for result in scores.results:
        of_models = found.setdefault((result.test_set, result.image.subject), {})
        of_models.setdefault(result.model, []).append(result.figures)
    rows = []
    for (test_set, subject), models in sorted(found.items()):
        cells = [
            " / ".join(_number(_mean(models.get(m, ()), f"dice_{c}"), math.inf) for c in CLASSES)
            for m in scores.models
        ]
        images = max(len(figures) for figures in models.values())
        rows.append([test_set, subject, str(images), *cells])
    header = ["axon / myelin", "subject", "images", *scores.models]
    return ["## Dice by subject", "", *table(header, rows), "", "Mean over a subject's images.", ""]


def _mean(figures: Sequence[Mapping[str, float]], name: str) -> float:
    values = [v for f in figures if not math.isnan(v := f[name])]
    return sum(values) / len(values) if values else math.nan


def _best(found: Mapping[tuple[str, str], float], row: str, models: Sequence[str]) -> float:
    values = [v for m in models if not math.isnan(v := found.get((row, m), math.nan))]
    return max(values) if len(values) > 1 else math.inf


def _number(value: float, best: float) -> str:
    if math.isnan(value):
        return "-"
    return f"**{value:.3f}**" if value >= best - 5e-4 else f"{value:.3f}"


def _warned(scores: Scores) -> list[str]:
    chosen = "which checkpoint"  # said once, in HOW
    said = [w for w in scores.warnings() if not w.startswith(chosen)]
    said += [
        f"{f.model or 'image'}: {f.test_set}/{f.image} could not be scored: {f.message}"
        for f in scores.failures
    ]
    return [*(f"- {line}" for line in said), *([""] if said else [])]


def _comparison(experiment: Experiment, found: Compared | None) -> Iterator[str]:
    if found is None:
        return
    yield from ("## Dedicated models against the generalist", "")
    pairs = ", ".join(f"{model} on {row}" for row, model in found.dedicated.items())
    yield from (f"{pairs}, each against {experiment.generalist} on the same images.", "")
    if found.means is not None:
        yield from found.means.markdown("Pairs of mean Dice, one for each test set and class")
        yield ""
    for cls, comparison in found.images.items():
        yield from (*comparison.markdown(f"Images, {cls}"), "")


def _overviews(scores: Scores) -> Iterator[str]:
    for test_set in scores.test_sets:
        header, *rows = overview(scores, test_set)
        yield from (f"### {test_set}", "", *table(header, rows), "")


def _trainings(experiment: Experiment, trained: Sequence[Trained]) -> list[str]:
    rows = []
    for one in trained:
        changed = (*experiment.changes, *one.plan.changes)
        for fact in one.facts:
            rows.append(
                [
                    one.plan.name,
                    ", ".join(one.plan.sources),
                    one.plan.recipe or experiment.recipe,
                    "; ".join(changed) or "-",
                    one.plan.time_budget or experiment.time_budget or "none",
                    *(str(fact[k]) for k in ("fold", "training_images", "steps", "best_step")),
                    f"{fact['seconds'] / 60:.1f}",
                    str(one.recipe.schedule.seed),
                ]
            )
    header = ["model", "sources", "recipe", "changed", "budget", "fold", "images"]
    return table([*header, "steps", "best at", "minutes", "seed"], rows)


def _data(material: Material) -> list[str]:
    rows = []
    for name, counts in material.aggregate.sources().items():
        images = [e.image for e in material.aggregate.entries if e.image.source == name]
        rows.append(
            [
                name,
                *(str(counts[k]) for k in ("images", "megapixels", "subjects", "test")),
                ", ".join(map(str, counts["validation"])),
                *(_facts(images, kind) for kind in ("modality", "species", "licence")),
            ]
        )
    header = ["source", "images", "megapixels", "subjects", "test", "held out by fold"]
    lines = table([*header, "modality", "species", "licence"], rows)
    outside = {n: len(images) for n, images in material.out_of_distribution.items()}
    if outside:
        said = ", ".join(f"{name} ({count} images)" for name, count in outside.items())
        lines += ["", f"Out of distribution: {said}."]
    lines += ["", *(f"- {warning}" for warning in material.aggregate.warnings)]
    return lines


def _facts(images: Sequence[Any], kind: str) -> str:
    return ", ".join(sorted({getattr(a, kind) for a in images} - {None})) or "not stated"


def _hashes(experiment: Experiment, material: Material) -> list[str]:
    folds = f"{experiment.folds} folds dealt with seed {experiment.seed}"
    return [
        f"Images and masks, {folds}: sha256 of all their hashes `{data_hash(material)}`. Experiment file: sha256 "
        f"`{experiment.sha256}`."
    ]
