"""The tables and the curves of docs/results/five-folds.md, from the folders of the trainings.

    ranvier aggregate DATA --name FULL_AGG -o runs/agg
    ranvier train runs/agg --fold each -o runs/five ...
    ranvier distil runs/five -o runs/student --cross-validate ...
    python docs/make_five_folds.py runs/five runs/student

Prints Markdown; writes docs/results/five-folds-curves.png and .svg. Every image is scored whole, in one view, by
networks that did not see its subject.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from ranvier.apps.cli_distil import _teachers
from ranvier.experiments.curves import curves_files
from ranvier.experiments.running import Trained
from ranvier.experiments.settings import ModelPlan
from ranvier.training.checkpoint import load_checkpoint
from ranvier.training.cross_validation import load_dealt
from ranvier.training.ensemble import Fold, image_scores
from ranvier.training.export import load_network
from ranvier.training.recipe import recipe_from

HERE = Path(__file__).parent / "results"
CLASSES = ("axon", "myelin")


def line(*cells: object) -> None:
    """Print a row of a table."""
    print("|", " | ".join(map(str, cells)), "|")


def header(*cells: str) -> None:
    """Print the head of a table."""
    line(*cells)
    line(*["---"] * len(cells))


def by_image(folds: list[Fold]) -> dict[tuple[int, str, str], dict[str, float]]:
    """Scores of each held-out image by its own fold's network."""
    found = {}
    for fold in folds:
        network, trained = load_network(fold.checkpoint)
        recipe = recipe_from(trained.about["recipe"], where=fold.checkpoint)
        scores = image_scores(network, fold.split.validation, recipe)
        for image, (source, values) in zip(fold.split.validation, scores, strict=True):
            found[fold.number, source, image.name] = values
    return found


def students_of(folds: list[Fold], folder: Path) -> list[Fold]:
    """The students that there are."""
    made = [
        Fold(f.number, folder / f"fold-{f.number}" / "best.safetensors", f.split) for f in folds
    ]
    return [f for f in made if f.checkpoint.is_file()]


def mean(found: dict, source: str, cls: str, among: set) -> str:
    """Mean Dice of a source's images."""
    values = [v[f"dice_{cls}"] for k, v in found.items() if k[1] == source and k[1:] in among]
    return f"{np.nanmean(values):.3f}" if values else "-"


def main() -> None:
    """Print the tables and draw the curves."""
    runs, students = Path(sys.argv[1]), Path(sys.argv[2])
    folds, _ = _teachers(runs)
    networks = by_image(list(folds))
    taught = by_image(students_of(list(folds), students))
    sources = sorted({k[1] for k in networks})

    print("### By fold\n")
    header("fold", "source", "images held out", "axon", "myelin", "steps", "best at", "minutes")
    for fold in folds:
        about = load_checkpoint(fold.checkpoint).about
        last = load_checkpoint(fold.checkpoint.with_name("last.safetensors")).about
        for source in sources:
            mine = {k: v for k, v in networks.items() if k[0] == fold.number and k[1] == source}
            if mine:
                dice = [
                    f"{np.nanmean([v[f'dice_{c}'] for v in mine.values()]):.3f}" for c in CLASSES
                ]
                cells = (last["step"], about["step"], round(last["seconds"] / 60, 1))
                line(fold.number, source, len(mine), *dice, *cells)

    print("\n### Every image by the network that held it out, and by that network's student\n")
    header("source", "images", "networks: axon / myelin", "the same images as students", "students")
    for source in sources:
        every = {k[1:] for k in networks if k[1] == source}
        both = {k[1:] for k in taught if k[1] == source}
        cells = [
            " / ".join(mean(found, source, c, among) for c in CLASSES)
            for found, among in ((networks, every), (networks, both), (taught, both))
        ]
        line(source, len(every), cells[0], f"{len(both)}: {cells[1]}", cells[2])

    print("\n### By image\n")
    header("image", "source", "fold", "axon", "myelin", "student: axon", "myelin")
    for key, values in sorted(networks.items(), key=lambda item: item[0][1:]):
        theirs = taught.get(key, {})
        cells = [f"{values[f'dice_{c}']:.3f}" for c in CLASSES]
        cells += [f"{theirs[f'dice_{c}']:.3f}" if theirs else "-" for c in CLASSES]
        line(key[2], key[1], key[0], *cells)

    dealt = load_dealt(runs)
    plan = ModelPlan("FULL_AGG", sources=tuple(sources))
    _, checkpoint = load_network(folds[0].checkpoint)
    recipe = recipe_from(checkpoint.about["recipe"], where=runs)
    shown = [Trained(plan, recipe, tuple(folds), runs)]
    told = students_of(list(folds), students)
    if told:
        shown.append(
            Trained(ModelPlan("students", sources=tuple(sources)), recipe, tuple(told), students)
        )
    for ending, content in curves_files(shown).items():
        (HERE / f"five-folds-curves{ending}").write_bytes(content)
    print(f"\n{dealt.folds} folds dealt; {len(networks)} images")


if __name__ == "__main__":
    main()
