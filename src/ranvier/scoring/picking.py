"""Which images are worth a look: the best, the median and the worst of each contender and test set."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ranvier.datasets.annotated import Loaded
from ranvier.errors import RanvierError
from ranvier.scoring.contenders import Contender, checked_classes
from ranvier.scoring.error_pictures import error_png
from ranvier.scoring.maps import ClassMaps
from ranvier.scoring.running import Report
from ranvier.scoring.scores import Pair, Result, Scores
from ranvier.scoring.truth import TrueMasks

__all__ = ["Pick", "error_pictures", "picks"]

Pick = tuple[str, Result]
"""``best``, ``median``, ``worst`` or ``only``, and the image."""


def picks(scores: Scores, test_set: str, model: str) -> list[Pick]:
    """The best, the median and the worst image of a contender, by the mean of the Dice of axon and myelin.

    The median is the lower of two. Of two images, they are the best and the worst; of one, it is the only one.
    Images without a Dice do not count, unless there are no others. Equals go by their names.
    """
    results = scores.of(test_set, model)
    ranked = [r for r in results if not math.isnan(_dice(r))] or list(results)
    ranked.sort(key=lambda r: (-_dice(r) if not math.isnan(_dice(r)) else 0.0, r.image.name))
    if len(ranked) == 1:
        return [("only", ranked[0])]
    if len(ranked) == 2:
        return [("best", ranked[0]), ("worst", ranked[1])]
    return [("best", ranked[0]), ("median", ranked[len(ranked) // 2]), ("worst", ranked[-1])]


def _dice(result: Result) -> float:
    values = [result.figures[f"dice_{kind}"] for kind in ("axon", "myelin")]
    known = [v for v in values if not math.isnan(v)]
    return float(np.mean(known)) if known else math.nan


def error_pictures(scores: Scores, *, report: Report) -> Iterator[tuple[Pair, str, bytes]]:
    """Draw the errors of the picked images, each image loaded once.

    Parameters
    ----------
    scores
        Class maps that were not kept are predicted anew.
    report
        Told of each picture that cannot be made.

    Yields
    ------
    pair, rank, content
        Test set and contender; ``best``, ``median``, ``worst`` or ``only``; PNG.
    """
    contenders = {c.name: c for c in scores.contenders}
    wanted: dict[Pair, list[_Wanted]] = {}
    for test_set, model in scores.pairs:
        number = len(scores.of(test_set, model))
        for rank, result in picks(scores, test_set, model):
            one = _Wanted(contenders[model], rank, result, number)
            wanted.setdefault((test_set, result.image.name), []).append(one)
    for image in scores.images:
        loaded: Loaded | None = None
        for one in wanted.get((image.source, image.name), []):
            try:
                loaded = image.load_noted() if loaded is None else loaded
                content = one.picture(loaded, scores.maps)
            except (RanvierError, MemoryError) as error:
                report(f"no picture of {image.source}/{image.name}, {one.contender.name}: {error}")
                continue
            yield (image.source, one.contender.name), one.rank, content


@dataclass(frozen=True, eq=False)
class _Wanted:
    """A picture to be made."""

    contender: Contender
    rank: str
    result: Result
    number: int

    def picture(self, loaded: Loaded, maps: ClassMaps) -> bytes:
        image, shape = self.result.image, loaded.micrograph.shape
        classes = maps.get((self.contender.name, image.source, image.name))
        if classes is None:
            classes = checked_classes(self.contender.classes(image, loaded.micrograph), shape)
        drawn = isinstance(image, TrueMasks)
        return error_png(
            loaded.micrograph, classes, loaded.classes, lines=self._lines(), drawn=drawn
        )

    def _lines(self) -> list[str]:
        image, figures = self.result.image, self.result.figures
        of = "the only image" if self.rank == "only" else f"{self.rank} of {self.number} images"
        dice = ((kind, figures[f"dice_{kind}"]) for kind in ("axon", "myelin"))
        said = ", ".join(f"{k} {'-' if math.isnan(v) else f'{v:.3f}'}" for k, v in dice)
        seen = "; TRAINED on this image: no score" if self.result.seen == "yes" else ""
        return [
            f"{self.contender.name} on {image.source}: {of}, {image.name}",
            f"Dice: {said}{seen}",
        ]
