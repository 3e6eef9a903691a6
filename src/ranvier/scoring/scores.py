"""What scoring found: figures of every image, and pooled by subject and by test set."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, reduce
from operator import add
from typing import Literal, get_args

import numpy as np

from ranvier.assessment import Assessment
from ranvier.calibration import PixelSize
from ranvier.datasets.annotated import Annotated
from ranvier.errors import SettingsError
from ranvier.scoring.contenders import Contender, Seen
from ranvier.scoring.maps import ClassMaps
from ranvier.scoring.metrics import METRICS, metric_of

__all__ = ["Failure", "Pair", "Result", "Scores", "Statistic", "Statistics"]

Statistic = Literal["mean_over_images", "mean_over_subjects", "pooled"]
Pair = tuple[str, str]
"""A test set and a contender; or a test set and an image, or a subject."""
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Result:
    """One contender on one image.

    Attributes
    ----------
    model
        The contender's name.
    image
        The entry in its dataset; its ``source`` is the test set.
    sha256
        Hashes of the image and its masks.
    seen
        Whether the contender was trained on it.
    pixel_size
        Of the image, where it is known.
    figures
        Of :meth:`ranvier.assessment.Assessment.figures`.
    """

    model: str
    image: Annotated
    sha256: tuple[str, ...]
    seen: Seen
    pixel_size: PixelSize | None
    figures: Mapping[str, float]

    @property
    def test_set(self) -> str:
        """The image's source."""
        return self.image.source


@dataclass(frozen=True)
class Failure:
    """What could not be scored.

    Attributes
    ----------
    model
        Empty where the image itself could not be used.
    message
        What was wrong.
    """

    model: str
    test_set: str
    image: str
    message: str


@dataclass(frozen=True)
class Statistics:
    """One figure of one contender on one test set.

    Values that are NaN, where there was nothing to get right or wrong, are left out of means and counts.

    Attributes
    ----------
    mean_over_images, sd_over_images, images
        Mean and standard deviation (n - 1) of the images' figures, and of how many.
    mean_over_subjects, sd_over_subjects, subjects
        The same of the subjects' figures, each of all of its images pooled.
    pooled
        Of all images pooled: pixels, objects, distances and fibres of all are counted together.
    """

    mean_over_images: float
    sd_over_images: float
    images: int
    mean_over_subjects: float
    sd_over_subjects: float
    subjects: int
    pooled: float


@dataclass(frozen=True, eq=False)
class Scores:
    """Everything that scoring found.

    Attributes
    ----------
    contenders
        Who was scored.
    images
        What was to be scored.
    results
        In the order of images, and of contenders within each.
    by_subject
        Test set and contender, to the pooled assessment of each subject.
    failures
        What could not be scored.
    maps
        Class maps that were kept, for pictures.
    """

    contenders: tuple[Contender, ...]
    images: tuple[Annotated, ...]
    results: tuple[Result, ...]
    by_subject: Mapping[Pair, Mapping[str, Assessment]]
    failures: tuple[Failure, ...] = ()
    maps: ClassMaps = field(default_factory=ClassMaps)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the contenders."""
        return tuple(c.name for c in self.contenders)

    @property
    def test_sets(self) -> tuple[str, ...]:
        """Names of the test sets with a result, in the order of the images."""
        return tuple(dict.fromkeys(r.test_set for r in self.results))

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """Test set and contender of all that has a result, by test set."""
        return tuple((s, m) for s in self.test_sets for m in self.models if (s, m) in self._grouped)

    @cached_property
    def _grouped(self) -> Mapping[Pair, list[Result]]:
        found: dict[Pair, list[Result]] = {}
        for result in self.results:
            found.setdefault((result.test_set, result.model), []).append(result)
        return found

    def of(self, test_set: str, model: str) -> tuple[Result, ...]:
        """Results of one contender on one test set; there may be none."""
        return tuple(self._grouped.get((test_set, model), ()))

    @cached_property
    def pooled(self) -> Mapping[Pair, Assessment]:
        """All images of a test set together, by test set and contender."""
        return {pair: reduce(add, subjects.values()) for pair, subjects in self.by_subject.items()}

    @cached_property
    def statistics(self) -> Mapping[Pair, Mapping[str, Statistics]]:
        """By test set and contender, and then by the name of the figure."""
        return {pair: dict(self._statistics(pair)) for pair in self.pairs}

    def _statistics(self, pair: Pair) -> Iterator[tuple[str, Statistics]]:
        each = [r.figures for r in self._grouped[pair]]
        subjects = [a.figures() for a in self.by_subject[pair].values()]
        pooled = self.pooled[pair].figures()
        known = {*pooled, *(name for figures in each for name in figures)}
        for name in METRICS:
            if name in known:
                of_images, of_subjects = _spread(each, name), _spread(subjects, name)
                yield name, Statistics(*of_images, *of_subjects, pooled.get(name, NAN))

    def table(
        self, metric: str, statistic: Statistic = "mean_over_images"
    ) -> dict[tuple[str, str], float]:
        """One figure of every contender on every test set.

        Parameters
        ----------
        metric
            Name of a figure, e.g. ``dice_axon``; see :data:`ranvier.scoring.metrics.METRICS`.
        statistic
            Which of :class:`Statistics`.

        Returns
        -------
        dict
            Test set and contender to value; NaN where there is none.

        Raises
        ------
        SettingsError
            No such metric or statistic.
        """
        metric_of(metric)
        if statistic not in get_args(Statistic):
            raise SettingsError(
                "no such statistic",
                seen=statistic,
                fix=f"Choose from {', '.join(get_args(Statistic))}",
            )
        found = {}
        for pair in self.pairs:
            known = self.statistics[pair].get(metric)
            found[pair] = NAN if known is None else float(getattr(known, statistic))
        return found

    def per_image(self, metric: str) -> dict[Pair, dict[str, float]]:
        """One figure of every image: test set and image, to the value of each contender.

        Raises
        ------
        SettingsError
            No such metric.
        """
        metric_of(metric)
        found: dict[Pair, dict[str, float]] = {}
        for r in self.results:
            values = found.setdefault((r.test_set, r.image.name), {})
            values[r.model] = float(r.figures.get(metric, NAN))
        return found

    def per_subject(self, metric: str) -> dict[Pair, dict[str, float]]:
        """One figure of every subject, its images pooled: test set and subject, to the value of each contender.

        Raises
        ------
        SettingsError
            No such metric.
        """
        metric_of(metric)
        found: dict[Pair, dict[str, float]] = {}
        for test_set, model in self.pairs:
            for subject, assessment in self.by_subject[test_set, model].items():
                value = float(assessment.figures().get(metric, NAN))
                found.setdefault((test_set, subject), {})[model] = value
        return found

    def seen(self, test_set: str, model: str) -> Seen:
        """``yes`` if any image of the test set was trained on, else ``unknown`` if that is not known of any."""
        said = {r.seen for r in self.of(test_set, model)}
        return "yes" if "yes" in said else "unknown" if "unknown" in said else "no"

    @cached_property
    def trained_on(self) -> frozenset[Pair]:
        """Test sets and contenders of which at least one image was trained on: no scores."""
        return frozenset(pair for pair in self.pairs if self.seen(*pair) == "yes")

    def warnings(self) -> list[str]:
        """What makes scores misleading, in plain words."""
        return [*self._of_training(), *self._of_numbers()]

    def _of_training(self) -> Iterator[str]:
        known = {c.name: c.trained for c in self.contenders}
        for test_set, model in self.pairs:
            results = self.of(test_set, model)
            counts = Counter(r.seen for r in results)
            if counts["yes"]:
                yield (
                    f"{model} was TRAINED on {counts['yes']} of {len(results)} image(s) of {test_set}: "
                    "its figures there are no scores"
                )
            trained = known[model]
            if counts["unknown"] and trained.images:
                yield (
                    f"{model} may have been trained on {counts['unknown']} of {len(results)} image(s) of "
                    f"{test_set}: it knows images of these names, or does not say all"
                )
            chosen = sum(trained.chose(r.image) and r.seen != "yes" for r in results)
            if chosen:
                yield (
                    f"which checkpoint of {model} was kept was decided on {chosen} of {len(results)} "
                    f"image(s) of {test_set}: its figures there flatter"
                )

    def _of_numbers(self) -> Iterator[str]:
        for test_set in self.test_sets:
            numbers = {m: len(self.of(test_set, m)) for m in self.models}
            if len(set(numbers.values())) > 1:
                said = ", ".join(f"{m} {n}" for m, n in numbers.items())
                yield f"{test_set}: not all were scored on the same images ({said}), so figures do not compare"


def _spread(each: Iterable[Mapping[str, float]], name: str) -> tuple[float, float, int]:
    """Mean, standard deviation and number of the values that are known."""
    values = [float(v) for f in each if not math.isnan(v := f.get(name, NAN))]
    mean = float(np.mean(values)) if values else NAN
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else NAN
    return mean, sd, len(values)
