"""What an experiment found, as values: dedicated models against the generalist, hashes, the record for machines."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ranvier.bundle import open_bundle
from ranvier.comparison import Comparison, ComparisonSettings, Pair, compare, dedicated_pairs
from ranvier.experiments.data import Material
from ranvier.experiments.judging import Judged
from ranvier.experiments.running import Trained, ensemble_bundle
from ranvier.experiments.settings import Experiment
from ranvier.provenance import own_version
from ranvier.scoring.scores import Scores

CLASSES = ("axon", "myelin")


@dataclass(frozen=True)
class Compared:
    """Dedicated models against the generalist.

    Attributes
    ----------
    dedicated
        Test set to its dedicated model.
    means
        Of pairs of mean Dice, one for each test set and class, as in the paper; None without such.
    images
        Of pairs of images, for each class.
    """

    dedicated: Mapping[str, str]
    means: Comparison | None
    images: Mapping[str, Comparison]


def compared(experiment: Experiment, scores: Scores) -> Compared | None:
    """Compare each test set's dedicated model with the generalist; None where there is nothing to compare."""
    generalist = experiment.generalist
    if generalist is None or generalist not in scores.models:
        return None
    dedicated = {}
    for model in experiment.trained:
        rows = {experiment.row_of(s) for s in model.sources}
        row = next(iter(rows))
        free = model.name != generalist and len(rows) == 1 and row not in dedicated
        if free and (row, model.name) in scores.pairs:
            dedicated[row] = model.name
    if not dedicated:
        return None
    names = ("dedicated", "generalist")
    means: list[Pair] = []
    images = {}
    for cls in CLASSES:
        metric = f"dice_{cls}"
        table = scores.table(metric)
        means += dedicated_pairs(table, dedicated=dedicated, generalist=generalist, metric=metric)
        settings = ComparisonSettings(margin=experiment.margin, names=names)
        images[cls] = compare(
            _image_pairs(scores, metric, dedicated, generalist), settings=settings
        )
    paper = ComparisonSettings(margin=experiment.margin, unit="pair", names=names)
    return Compared(dedicated, compare(means, settings=paper), images)


def _image_pairs(
    scores: Scores, metric: str, dedicated: Mapping[str, str], generalist: str
) -> list[Pair]:
    subjects = {(r.test_set, r.image.name): r.image.subject for r in scores.results}
    pairs = []
    for (row, name), values in scores.per_image(metric).items():
        one, other = values.get(dedicated.get(row, "")), values.get(generalist)
        if one is not None and other is not None:
            pairs.append(Pair(row, subjects[row, name], name, metric, one, other))
    return pairs


def data_hash(material: Material) -> str:
    """One hash of which images and masks there are, and of the folds that they are in."""
    lines = sorted(
        f"{e.image.source}/{e.image.name} {e.image.role} {e.fold} {' '.join(e.image.sha256)}"
        for e in material.aggregate.entries
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def record(
    experiment: Experiment,
    material: Material,
    trained: Sequence[Trained],
    judged: Judged,
    *,
    found: Compared | None,
) -> dict[str, Any]:
    """The same as plain values, for JSON; ``found`` is from :func:`compared`."""
    parts = {
        "main": judged.main,
        "unseen": judged.unseen,
        "out_of_distribution": judged.out_of_distribution,
    }
    parts |= {f"folds {','.join(map(str, k))}": v for k, v in judged.groups.items()}
    return {
        "experiment": experiment.name,
        "experiment_sha256": experiment.sha256,
        "protocol": experiment.protocol,
        "ranvier": own_version(),
        "data_sha256": data_hash(material),
        "missing": sorted(material.missing),
        "dice": {
            part: {
                cls: {
                    f"{row} | {model}": _plain(v)
                    for (row, model), v in scores.table(f"dice_{cls}").items()
                }
                for cls in CLASSES
            }
            for part, scores in parts.items()
            if scores is not None
        },
        "comparison": None
        if found is None
        else {
            "dedicated": dict(found.dedicated),
            "means": None if found.means is None else found.means.figures(),
            "images": {cls: c.figures() for cls, c in found.images.items()},
        },
        "trainings": {
            one.plan.name: {
                "recipe": one.recipe.as_dict(),
                "folds": one.facts,
                "model_sha256": open_bundle(ensemble_bundle(one)).sha256,
            }
            for one in trained
        },
    }


def _plain(value: float) -> float | None:
    return None if math.isnan(value) else round(value, 6)
