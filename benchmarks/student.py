"""How far a student is from the ensemble that taught it, as users run both.

    python benchmarks/student.py RUN BUNDLE -o OUT [--precision int8] [--drawn 3]

RUN is from `ranvier train --fold each`; BUNDLE the student's model. The mean of the folds' networks becomes a bundle,
OUT/ensemble (f32). Both segment every annotated image of RUN, with everything at its default but the precision, and
drawings of every look that neither has seen. OUT must be new. Printed: Dice of both against the truth, means over
images by source, and the largest difference of an image. Both have seen the annotated images: these figures compare
the two, and say nothing of how good they are. No subject of RUN is new to more than one network of the ensemble, so
what the ensemble makes of new subjects cannot be measured on it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import numpy as np

from ranvier import load_model, segment
from ranvier.apps.cli_distil import teachers
from ranvier.datasets.phantom import Look, PhantomSettings, draw
from ranvier.evaluation import confusion, scores
from ranvier.micrograph import Micrograph
from ranvier.training.ensemble import export_ensemble, images_of
from ranvier.training.export import ExportSettings

CLASSES = ("axon", "myelin")


def main() -> None:
    """Segment everything with both, and print the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path)
    parser.add_argument("bundle")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--precision", default="int8", help="of the student")
    parser.add_argument("--drawn", type=int, default=3, help="drawings of each look")
    args = parser.parse_args()
    folds, _ = teachers(args.run)
    place = args.output / "ensemble"
    settings = ExportSettings(int8=False)
    export_ensemble(folds, place, name="ensemble", settings=settings, cross_validated={})
    models = [load_model(place), load_model(args.bundle, precision=args.precision)]

    def every() -> Iterator[tuple[str, Micrograph, np.ndarray]]:
        for image in images_of(folds):
            loaded = image.load_noted()
            yield image.source, loaded.micrograph, loaded.classes
        for look in get_args(Look):
            for seed in range(args.drawn):
                phantom = draw(PhantomSettings.typical(look, shape=(512, 512), seed=900 + seed))
                yield f"drawn, {look}", phantom.image, phantom.classes

    found: dict[str, list[list[list[float]]]] = {}
    for source, micrograph, truth in every():
        both = []
        for model in models:
            told = scores(confusion(segment(micrograph, model).classes, truth))
            both.append([told[f"dice_{c}"] for c in CLASSES])
        found.setdefault(source, []).append(both)
    print("| source | images | ensemble | student | student - ensemble | largest difference |")
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
