"""Who is scored on what: networks on what their fold held out, ensembles on test sets, and everything else on all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ranvier.assessment import Assessment
from ranvier.backends import Precision
from ranvier.bundle import open_bundle
from ranvier.datasets.annotated import Annotated
from ranvier.errors import DatasetError
from ranvier.experiments.data import Material
from ranvier.experiments.running import Trained, ensemble_bundle, fold_bundle
from ranvier.experiments.settings import Experiment, ModelPlan
from ranvier.experiments.showing import SHOWN, show
from ranvier.inference import InferenceSettings
from ranvier.masks import classes_from_mask
from ranvier.micrograph import Micrograph
from ranvier.pictures import png
from ranvier.provenance import own_version
from ranvier.reading import read
from ranvier.scoring.contenders import Contender, ModelContender
from ranvier.scoring.contenders import Trained as Known
from ranvier.scoring.mask_folder import MasksContender
from ranvier.scoring.running import Report, ScoreSettings, score
from ranvier.scoring.scores import Result, Scores
from ranvier.writing import make_folder, write_atomically

_GREY = np.array([0, 127, 255], np.uint8)
PREDICTIONS = "predictions"


@dataclass(frozen=True)
class JudgeSettings:
    """How models are shown the images.

    Attributes
    ----------
    precision, threads
        As for :func:`ranvier.load_model`.
    inference
        Views, zoom and tile size. The default is zoom 1 and every axon that a network sees, so that a table tells how
        networks cope with images as they are, whatever their resolution; as users run them is zoom ``auto`` and a
        ``min_closure`` of None.
    """

    precision: Precision = "f32"
    threads: int | None = None
    inference: InferenceSettings = field(
        default_factory=lambda: InferenceSettings(zoom=1.0, views=2).with_every_axon()
    )


class Remembering:
    """A contender whose class maps are kept as masks, so that an experiment that was cut off predicts nothing twice.

    Parameters
    ----------
    make
        Makes the contender when it is first needed.
    name
        In the tables.
    bundle
        Whose hash is that of the contender, and in whose model.json stands what it was trained on.
    folder
        Masks go there, by the hashes of model, settings and image.
    settings
        Part of the key.
    """

    def __init__(
        self,
        name: str,
        bundle: Path,
        folder: Path,
        *,
        settings: JudgeSettings,
        make: Callable[[], Contender],
    ) -> None:
        self.name, self._make, self._settings = name, make, settings
        opened = open_bundle(bundle)
        self.sha256, self._about = opened.sha256, opened.about
        views, zoom = settings.inference.views, settings.inference.zoom
        shown = f"auto-{own_version()}" if zoom == "auto" else f"{zoom:g}"
        key = f"{self.sha256[:16]}-{settings.precision}-{views}-{shown}"
        for kind, limit in (
            ("", settings.inference.min_closure),
            ("sure-", settings.inference.min_confidence),
            ("contrast-", settings.inference.min_contrast),
        ):
            if limit != 0:
                key += f"-{kind}{limit}"
        self._folder = folder / key
        self._contender: Contender | None = None

    @property
    def about(self) -> Mapping[str, Any]:
        """Hash and settings."""
        return {"kind": "model", "model": {"name": self.name, "sha256": self.sha256}}

    @property
    def trained(self) -> Known:
        """What model.json lists."""
        return Known.of_bundle(self._about)

    def classes(self, image: Annotated, micrograph: Micrograph) -> NDArray[np.uint8]:
        """Read the mask of an earlier run, or predict it and keep it."""
        path = self._folder / f"{micrograph.sha256[:32]}.png"
        if path.is_file():
            return classes_from_mask(read(path, pixel_size=1.0).pixels)
        if self._contender is None:
            self._contender = self._make()
        classes = self._contender.classes(image, micrograph)
        write_atomically(make_folder(self._folder) / path.name, png(_GREY[classes]))
        return classes


@dataclass(frozen=True)
class Judged:
    """Scores of an experiment.

    Attributes
    ----------
    main
        Of the models that have all folds of the experiment.
    groups
        Of models with fewer folds beside those with at least as many and those that need no training, on the images
        of these folds, by the folds.
    unseen
        Ensembles on sources that they were not trained on, whole; cross-validation only, else None.
    out_of_distribution
        Ensembles on the sets that nothing is trained on; None where there are none.
    shown
        Pictures of the sets that are shown only.
    """

    main: Scores
    groups: Mapping[tuple[int, ...], Scores]
    unseen: Scores | None
    out_of_distribution: Scores | None
    shown: tuple[Path, ...] = ()

    @property
    def failures(self) -> int:
        """How many images or models could not be scored."""
        parts = (self.main, *self.groups.values(), self.unseen, self.out_of_distribution)
        return sum(len(scores.failures) for scores in parts if scores is not None)


def judge(
    experiment: Experiment,
    material: Material,
    trained: Sequence[Trained],
    folder: Path,
    *,
    settings: JudgeSettings | None = None,
    report: Report = print,
) -> Judged:
    """Score everything on everything.

    Parameters
    ----------
    experiment, material, trained
        From the rooms beside.
    folder
        Of the experiment; masks are kept in it.
    settings
        How models are shown the images.
    report
        Takes a line of text.

    Raises
    ------
    InputError
        Masks of another tool are missing.
    BundleError
        A model cannot be used.
    """
    bench = _Bench(experiment, material, trained, folder, settings or JudgeSettings(), report)
    ood = [a for images in material.out_of_distribution.values() for a in images]
    outside = bench.ensembles(ood) if ood else None
    shown = bench.shown()
    if experiment.protocol == "test":
        main = bench.ensembles(bench.in_rows(material.aggregate.test))
        return Judged(main, {}, None, outside, shown)
    by_fold = bench.by_fold()
    chosen = {model.name: frozenset(experiment.folds_of(model)) for model in experiment.trained}
    whole = frozenset(by_fold)
    fewer = sorted({tuple(sorted(folds)) for folds in chosen.values() if folds < whole})

    def with_all(folds: Iterable[int]) -> Scores:
        """The models that were trained for these folds, and those that need no training."""
        wanted = frozenset(folds)
        names = [m.name for m in experiment.models if chosen.get(m.name, wanted) >= wanted]
        return _joined([by_fold[k] for k in sorted(wanted)], names)

    groups = {folds: with_all(folds) for folds in fewer}
    return Judged(with_all(by_fold), groups, bench.unseen(), outside, shown)


@dataclass(frozen=True, eq=False)
class _Bench:
    """Everything that judging needs."""

    experiment: Experiment
    material: Material
    trained: Sequence[Trained]
    folder: Path
    settings: JudgeSettings
    report: Report

    def in_rows(self, images: Iterable[Annotated]) -> list[Annotated]:
        """Images under the names of the experiment's rows."""
        return [_in_row(a, self.experiment.row_of(a.source)) for a in images]

    def by_fold(self) -> dict[int, Scores]:
        """Each fold's networks, and what was not trained here, on what the fold held out."""
        folds = sorted({f.number for t in self.trained for f in t.folds})
        found = {}
        for number in folds:
            images = self.in_rows(self.material.aggregate.split(number).validation)
            contenders = [
                self._remembering(t.plan.name, fold_bundle(t, fold))
                for t in self.trained
                for fold in t.folds
                if fold.number == number
            ]
            self.report(f"fold {number}: {len(contenders)} networks on {len(images)} images")
            found[number] = self._scored([*contenders, *self._given(images)], images)
        return found

    def ensembles(self, images: list[Annotated]) -> Scores:
        """All models on some images."""
        contenders = [self._remembering(t.plan.name, ensemble_bundle(t)) for t in self.trained]
        self.report(f"{len(contenders)} models on {len(images)} images")
        return self._scored([*contenders, *self._given(images)], images)

    def shown(self) -> tuple[Path, ...]:
        """Pictures by all models but masks, which there are none of."""
        if not self.material.qualitative:
            return ()
        models = [self._remembering(t.plan.name, ensemble_bundle(t)) for t in self.trained]
        given = [m for m in self.experiment.models if m.bundle is not None]
        models += [self._of_plan(m, ()) for m in given]
        return show(self.material, models, self.folder / SHOWN, report=self.report)

    def unseen(self) -> Scores | None:
        """Ensembles of folds on whole sources that they were not trained on."""
        parts = []
        for trained in self.trained:
            rows = {self.experiment.row_of(s) for s in trained.plan.sources}
            images = [
                a
                for a in self.in_rows(e.image for e in self.material.aggregate.entries)
                if a.source not in rows
            ]
            if images:
                self.report(
                    f"{trained.plan.name}, {len(trained.folds)} folds: {len(images)} unseen images"
                )
                one = self._remembering(trained.plan.name, ensemble_bundle(trained))
                parts.append(self._scored([one], images))
        return _side_by_side(parts) if parts else None

    def _scored(self, contenders: Sequence[Contender], images: list[Annotated]) -> Scores:
        if not images:
            raise DatasetError("no images to score on", where=self.experiment.where)
        # Pictures of micrographs are for whoever holds the data; they are made by ranvier evaluate.
        return score(contenders, images, settings=ScoreSettings(kept_bytes=0), report=self.report)

    def _remembering(self, name: str, bundle: Path) -> Contender:
        s = self.settings

        def make() -> Contender:
            return ModelContender.load(
                bundle, name=name, precision=s.precision, threads=s.threads, settings=s.inference
            )

        return Remembering(name, bundle, self.folder / PREDICTIONS, settings=s, make=make)

    def _given(self, images: Sequence[Annotated]) -> list[Contender]:
        """Models and masks that exist already."""
        return [self._of_plan(m, images) for m in self.experiment.models if not m.is_trained]

    def _of_plan(self, plan: ModelPlan, images: Sequence[Annotated]) -> Contender:
        if plan.masks is not None:
            return MasksContender(Path(plan.masks), images, name=plan.name)
        s = self.settings
        # In its own precision, which need not be the trained models'.
        return ModelContender.load(
            str(plan.bundle), name=plan.name, threads=s.threads, settings=s.inference
        )


def _in_row(image: Annotated, row: str) -> Annotated:
    if row == image.source:
        return image
    return replace(image, source=row, name=f"{image.source}_{image.name}")


def _joined(parts: Sequence[Scores], names: Sequence[str]) -> Scores:
    """Scores of several folds as one: some contenders, each by the network of the fold."""
    results: list[Result] = []
    by_subject: dict[tuple[str, str], dict[str, Assessment]] = {}
    for part in parts:
        results += [r for r in part.results if r.model in names]
        for pair, subjects in part.by_subject.items():
            if pair[1] in names:
                by_subject.setdefault(pair, {}).update(subjects)
    order = {name: i for i, name in enumerate(names)}
    contenders = [c for c in parts[0].contenders if c.name in names]
    return Scores(
        tuple(sorted(contenders, key=lambda c: order[c.name])),
        tuple(image for part in parts for image in part.images),
        tuple(results),
        by_subject,
        tuple(f for part in parts for f in part.failures if not f.model or f.model in names),
    )


def _side_by_side(parts: Sequence[Scores]) -> Scores:
    """Scores of several contenders on images of their own."""
    images = dict.fromkeys(image for part in parts for image in part.images)
    return Scores(
        tuple(c for part in parts for c in part.contenders),
        tuple(images),
        tuple(r for part in parts for r in part.results),
        {pair: subjects for part in parts for pair, subjects in part.by_subject.items()},
        tuple(f for part in parts for f in part.failures),
    )
