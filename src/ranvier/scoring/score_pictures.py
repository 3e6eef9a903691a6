"""The pictures that go with scores, and the names of their files."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

from ranvier.errors import MissingExtraError
from ranvier.scoring.agreement_plots import agreement_png
from ranvier.scoring.heat_maps import HeatMapSettings, heat_map_files
from ranvier.scoring.picking import error_pictures
from ranvier.scoring.running import Report
from ranvier.scoring.score_tables import MARK
from ranvier.scoring.scores import Scores

__all__ = ["HEAT_MAPS", "pictures_of"]

HEAT_MAPS: Mapping[str, tuple[str, Mapping[str, str]]] = {
    "heatmap_dice": ("Dice", {"axon": "dice_axon", "myelin": "dice_myelin"}),
    "heatmap_f1": ("F1 at IoU 0.5", {"axons": "axon_f1_50", "fibres": "fibre_f1_50"}),
}
"""Name of each heat map: what its numbers are, and title and figure of each panel."""
NO_SCORE = f"{MARK} trained on images of this test set: no score"
_LONGEST_NAME = 60


def pictures_of(scores: Scores, left_out: list[str], report: Report) -> Iterator[tuple[str, bytes]]:
    """Heat maps, agreement plots and pictures of errors: name of each file and its content.

    Parameters
    ----------
    scores
        What to draw.
    left_out
        What cannot be drawn for want of matplotlib is added to it.
    report
        Told of each picture that cannot be made.
    """
    try:
        yield from _heat_maps(scores)
        yield from _agreements(scores)
    except MissingExtraError as error:
        left_out.append(f"heat maps and agreement plots are left out: {error}")
    names = _names(scores)
    for (test_set, model), rank, content in error_pictures(scores, report=report):
        yield f"errors/{names[test_set, model]}__{rank}.png", content


def _heat_maps(scores: Scores) -> Iterator[tuple[str, bytes]]:
    for name, (label, panels) in HEAT_MAPS.items():
        tables = {title: scores.table(figure) for title, figure in panels.items()}
        settings = HeatMapSettings(
            rows=scores.test_sets,
            columns=scores.models,
            marked=scores.trained_on,
            note=f"{label}, mean over images. " + (NO_SCORE if scores.trained_on else ""),
            label=label.partition(" at ")[0],
        )
        for ending, content in heat_map_files(tables, settings=settings).items():
            yield f"{name}{ending}", content


def _agreements(scores: Scores) -> Iterator[tuple[str, bytes]]:
    names = _names(scores)
    for test_set, model in scores.pairs:
        number = len(scores.of(test_set, model))
        title = f"{model} on {test_set}: fibres found in {number} image{'' if number == 1 else 's'}"
        note = (
            "trained on images of this test set: no score"
            if (test_set, model) in scores.trained_on
            else ""
        )
        content = agreement_png(scores.pooled[test_set, model].agreements, title=title, note=note)
        yield f"agreement/{names[test_set, model]}.png", content


def _names(scores: Scores) -> dict[tuple[str, str], str]:
    """First part of the names of the pictures of each test set and contender, all different."""
    sets, models = _plain_names(scores.test_sets), _plain_names(scores.models)
    return {(s, m): f"{sets[s]}__{models[m]}" for s, m in scores.pairs}


def _plain_names(names: Iterable[str]) -> dict[str, str]:
    """Names that every file system takes, different also where case does not count."""
    found: dict[str, str] = {}
    used: set[str] = set()
    for name in names:
        plain = re.sub(r"[^A-Za-z0-9.-]+|__+", "_", name).strip("._")[:_LONGEST_NAME] or "unnamed"
        one, again = plain, 1
        while one.lower() in used:
            again += 1
            one = f"{plain}-{again}"
        used.add(one.lower())
        found[name] = one
    return found
