"""A model taken further on a few images of one's own, and whether that made it better.

The same training as any other, begun with the model's weights. Whole subjects are held out where there are at least
two; of a single subject, a strip at the end of every image is, which training never sees. A strip tells less: it is the
same tissue, stained and imaged alike, and a fibre on the cut is in both parts.

The checkpoint with the best score on what is held out is the one that is kept, so that the score after is a little
flattering; the score before is not chosen among several.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from ranvier.bundle import Bundle, open_bundle
from ranvier.datasets.annotated import Annotated
from ranvier.datasets.folds import Split
from ranvier.errors import DatasetError
from ranvier.training.checkpoint import load_checkpoint, save_checkpoint
from ranvier.training.ensemble import Scores
from ranvier.training.export import ExportSettings, load_network, product, write_bundle
from ranvier.training.holding_out import Plan
from ranvier.training.loop import Report, TrainingResult, train
from ranvier.training.reading_back import read_back, recipe_of_bundle
from ranvier.training.recipe import Recipe, recipe_from
from ranvier.training.sampling import PatchSampler
from ranvier.training.validation import validate

BEGUN = "begun_with.safetensors"
_BATCHES = 8


@dataclass(frozen=True)
class Finetuned:
    """How a fine-tuning went.

    Attributes
    ----------
    result, plan
        The training, and its images.
    before, after
        Dice and IoU by source on what is held out.
    replay_before, replay_after
        The same on the replayed datasets' validation images; empty without.
    """

    result: TrainingResult
    plan: Plan
    before: Scores
    after: Scores
    replay_before: Scores
    replay_after: Scores

    @property
    def gain(self) -> float:
        """Mean Dice, over sources and classes, after less before."""
        return _mean(self.after) - _mean(self.before)

    @property
    def better(self) -> bool:
        """Whether it is not worse than before."""
        return self.gain >= 0


def finetune(
    model: Path | str,
    plan: Plan,
    recipe: Recipe,
    folder: Path,
    *,
    time_budget_s: float | None = None,
    device: str = "auto",
    resume: bool = False,
    report: Report = print,
) -> Finetuned:
    """Train a model further, and score it before and after.

    Parameters
    ----------
    model
        A bundle, by name or folder, or a training's checkpoint.
    plan
        From :func:`plan`.
    recipe
        Of the training; its network and input, and the width of axons that images are brought to, are those of the
        model, whatever it says.
    folder
        For checkpoints and log.
    time_budget_s, device, resume, report
        As for :func:`ranvier.training.loop.train`.

    Raises
    ------
    BundleError, DatasetError, SettingsError
        The model cannot be trained further; or nothing that is held out has axon or myelin, so that nothing could be
        compared.
    """
    begun, recipe = _beginning(model, plan, recipe, folder)
    before = score(begun, plan.own.validation)
    if not any(before.values()):
        raise DatasetError(
            "nothing that is held out has axon or myelin, so before and after cannot be compared",
            where=", ".join(a.name for a in plan.own.validation),
        )
    replay_before = score(begun, plan.replay.validation)
    result = train(
        plan.split,
        recipe,
        folder,
        init=begun,
        time_budget_s=time_budget_s,
        resume=resume,
        device=device,
        report=report,
    )
    return Finetuned(
        result,
        plan,
        before,
        score(result.best, plan.own.validation),
        replay_before,
        score(result.best, plan.replay.validation),
    )


def score(checkpoint: Path, images: tuple[Annotated, ...]) -> Scores:
    """Validate a checkpoint's averaged network."""
    network, trained = load_network(checkpoint)
    return validate(network, images, recipe_from(trained.about["recipe"], where=checkpoint))


def _beginning(model: Path | str, plan: Plan, recipe: Recipe, folder: Path) -> tuple[Path, Recipe]:
    """A checkpoint to begin with, and the recipe for its network."""
    path = Path(model)
    if path.is_file():
        theirs = recipe_from(load_checkpoint(path).about["recipe"], where=path)
        return path, _fitted(recipe, theirs)
    recipe = _fitted(recipe, recipe_of_bundle(open_bundle(model)))
    return beginning(model, plan.split, recipe, folder), recipe


def beginning(model: Path | str, split: Split, recipe: Recipe, folder: Path) -> Path:
    """A checkpoint to begin a training with.

    Parameters
    ----------
    model
        A checkpoint, which is taken as it is, or a bundle, by name or folder, which is read back.
    split, recipe
        Of the training: patches of it tell what the network's normalisations see.
    folder
        Where a checkpoint that is read back is written, as ``begun_with.safetensors``; one that is there is kept.

    Raises
    ------
    BundleError
        The bundle is missing or cannot be read back.
    """
    if Path(model).is_file():
        return Path(model)
    begun = folder / BEGUN
    if not begun.is_file():
        save_checkpoint(read_back(open_bundle(model), _batches(split, recipe)), begun)
    return begun


def _fitted(recipe: Recipe, theirs: Recipe) -> Recipe:
    """The recipe with the network, the input and the width of axons of the model."""
    look = recipe.augmentation
    if look.scheme == "randomised":
        look = replace(look, axon_px=theirs.augmentation.axon_px)
    return replace(recipe, network=theirs.network, input=theirs.input, augmentation=look)


def _batches(split: Split, recipe: Recipe) -> Iterator[Tensor]:
    sampler = PatchSampler(split.train, recipe, np.random.default_rng(recipe.schedule.seed))
    return islice(iter(lambda: sampler.batch()[0], None), _BATCHES)


def export_finetuned(
    tuned: Finetuned, folder: Path, *, name: str, settings: ExportSettings
) -> Bundle:
    """Make a bundle that says how the model did before and after.

    Raises
    ------
    OutputExistsError, MissingExtraError, BundleError
        As for :func:`ranvier.training.export.export_bundle`.
    """
    made = product(tuned.result.best, tuned.plan.split)
    where = "strips of the images" if tuned.plan.by_strip else "whole images of held-out subjects"
    how = (
        f"On {where}, one view. Mean Dice before fine-tuning {_mean(tuned.before):.3f}, after "
        f"{_mean(tuned.after):.3f}. Which checkpoint to keep was chosen on these same pixels."
    )
    told: dict[str, Any] = {
        "held_out": "strips" if tuned.plan.by_strip else "subjects",
        "before": tuned.before,
        "after": tuned.after,
    }
    if tuned.plan.replay.train:
        told["replayed"] = {"before": tuned.replay_before, "after": tuned.replay_after}
    made = replace(made, summary={**made.summary, "finetuned": told}, how_scored=how)
    return write_bundle(made, folder, name=name, settings=settings)


def _mean(by_source: Mapping[str, Mapping[str, float]]) -> float:
    dice = [v for s in by_source.values() for k, v in s.items() if k.startswith("dice_")]
    return float(np.mean(dice)) if dice else 0.0
