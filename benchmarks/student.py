"""How far a student is from the ensemble or the model that taught it, as users run both.

    python benchmarks/student.py RUN BUNDLE -o OUT [--precision int8] [--drawn 3]
    python benchmarks/student.py MODEL BUNDLE --data DATASET [--precision int8] [--drawn 3]

RUN is from `ranvier train --fold each`; BUNDLE the student's model. The mean of the folds' networks becomes a bundle,
OUT/ensemble (f32); OUT must be new. Or MODEL taught it, which is run in the student's precision. Both segment every
annotated image of RUN or of DATASET, with everything at its default but the precision, and drawings that neither has
seen, of every look and of grey levels at random. Printed: Dice of axon and myelin and axon F1 (IoU 0.5) of both against
the truth, means over images by source, and the largest difference of an image. Both have seen the annotated images:
these figures compare the two, and say nothing of how good they are. No subject of RUN is new to more than one network
of the ensemble, so what the ensemble makes of new subjects cannot be measured on it.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np

from ranvier import load_model, segment
from ranvier.apps.cli_distil import labelled, teachers
from ranvier.assessment import assess, measured
from ranvier.datasets.phantom import Look, PhantomSettings, draw
from ranvier.micrograph import Micrograph
from ranvier.training.ensemble import export_ensemble, images_of
from ranvier.training.export import ExportSettings

FIGURES = ("dice_axon", "dice_myelin", "axon_f1_50")


def main() -> None:
    """Segment everything with both, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run")
    parser.add_argument("bundle")
    parser.add_argument("-o", "--output", type=Path, help="for the ensemble of RUN")
    parser.add_argument("--data", type=Path, help="dataset or aggregate, where a model taught")
    parser.add_argument("--precision", default="int8", help="of the student")
    parser.add_argument("--drawn", type=int, default=3, help="drawings of each look")
    args = parser.parse_args()
    student = load_model(args.bundle, precision=args.precision)
    if (args.data is None) == (args.output is None):
        parser.error("give -o for the ensemble of a RUN, or --data for a MODEL")
    if args.data is not None:
        images = list(labelled([args.data]))
        models = [load_model(args.run, precision=args.precision), student]
    else:
        folds, _ = teachers(Path(args.run))
        images, place = list(images_of(folds)), args.output / "ensemble"
        settings = ExportSettings(int8=False)
        export_ensemble(folds, place, name="ensemble", settings=settings, cross_validated={})
        models = [load_model(place), student]

    def every() -> Iterator[tuple[str, Micrograph, np.ndarray]]:
        for image in images:
            loaded = image.load_noted()
            yield image.source, loaded.micrograph, loaded.classes
        for look, at_random in itertools.product(get_args(Look), (False, True)):
            for seed in range(args.drawn):
                settings = PhantomSettings.typical(look, shape=(512, 512), seed=900 + seed)
                phantom = draw(settings, random_contrast=at_random)
                kind = "any contrast" if at_random else look
                yield f"drawn, {kind}", phantom.image, phantom.classes

    found: dict[str, list[list[list[float]]]] = {}
    for source, micrograph, truth in every():
        both = []
        for model in models:
            made = segment(micrograph, model).classes
            told = assess(made, truth, fibres=measured(truth)).figures()
            both.append([told[name] for name in FIGURES])
        found.setdefault(source, []).append(both)
    print("| source | images | teacher | student | student - teacher | largest difference |")
    print("| --- | --- | --- | --- | --- | --- |")
    for source, rows in found.items():
        values = np.array(rows)
        away = values[:, 1] - values[:, 0]
        cells = [
            " / ".join(f"{v:.3f}" for v in np.nanmean(values[:, 0], axis=0)),
            " / ".join(f"{v:.3f}" for v in np.nanmean(values[:, 1], axis=0)),
            " / ".join(f"{v:+.4f}" for v in np.nanmean(away, axis=0)),
            " / ".join(f"{v:.3f}" for v in np.nanmax(abs(away), axis=0)),
        ]
        print(f"| {source} | {len(rows)} |", " | ".join(cells), "|")


if __name__ == "__main__":
    main()
