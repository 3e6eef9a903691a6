"""The networks of several folds: together as one model, and each as the judge of what it held out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ranvier.bundle import Bundle
from ranvier.datasets.annotated import Annotated
from ranvier.datasets.folds import Split
from ranvier.errors import SettingsError
from ranvier.evaluation import confusion, scores
from ranvier.micrograph import Micrograph
from ranvier.training.export import ExportSettings, Product, listed, load_network, write_bundle
from ranvier.training.recipe import Recipe, recipe_from
from ranvier.training.validation import validate

_LEAST = 1e-6
"""Probabilities below it are taken for it, so that their logarithm is finite in any precision."""
HOW = (
    "Whole images, one view, mean over images; each was scored by the one network that did not see its subject. The "
    "ensemble itself has no such score: every image was seen by all of its networks but one. Which checkpoint of a "
    "network to keep was chosen on the images that it held out."
)
Scores = dict[str, dict[str, float]]


class Ensemble(nn.Module):
    """The mean of several networks' probabilities.

    Parameters
    ----------
    members
        Networks that give logits (n, classes, rows, columns) in evaluation mode.
    """

    def __init__(self, members: Sequence[nn.Module]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)

    def forward(self, grey: Tensor) -> Tensor:
        """Logarithm of the mean of the softmax probabilities, so that their softmax is that mean."""
        total = self.members[0](grey).softmax(dim=1)
        for member in list(self.members)[1:]:
            total = total + member(grey).softmax(dim=1)
        return torch.log((total / len(self.members)).clamp_min(_LEAST))


@dataclass(frozen=True)
class Fold:
    """One finished training.

    Attributes
    ----------
    number
        Which fold.
    checkpoint
        The best of its training.
    split
        What it was trained on and what it held out.
    """

    number: int
    checkpoint: Path
    split: Split


def make_ensemble(checkpoints: Sequence[Path]) -> nn.Module:
    """Average the averaged networks of several trainings; see :class:`Ensemble`.

    Parameters
    ----------
    checkpoints
        Of networks of one shape and one input; at least one.

    Returns
    -------
    nn.Module
        In evaluation mode.

    Raises
    ------
    SettingsError
        No checkpoint, or networks that differ in [network] or [input].
    DatasetError
        A checkpoint cannot be used.
    """
    if not checkpoints:
        raise SettingsError("an ensemble needs at least one network")
    recipe_of(checkpoints)
    return Ensemble([load_network(path)[0] for path in checkpoints]).eval()


def recipe_of(checkpoints: Sequence[Path]) -> Recipe:
    """The recipe of the first checkpoint, whose network and input all others share.

    Raises
    ------
    SettingsError
        They do not.
    """
    recipes = [recipe_from(load_network(p)[1].about["recipe"], where=p) for p in checkpoints]
    first = recipes[0]
    for path, recipe in zip(checkpoints, recipes, strict=True):
        if (recipe.network, recipe.input) != (first.network, first.input):
            raise SettingsError(
                "the networks of an ensemble must have one [network] and one [input]",
                where=path,
                seen=f"{recipe.network}, {recipe.input}",
            )
    return first


def out_of_fold(folds: Sequence[Fold]) -> Scores:
    """Dice and IoU by source: every image scored by the fold that held it out, then averaged over images.

    Raises
    ------
    SettingsError
        Two folds hold out one image.
    DatasetError
        A checkpoint cannot be used.
    """
    held = [(a.source, a.name) for fold in folds for a in fold.split.validation]
    if len(held) != len(set(held)):
        raise SettingsError("two folds hold out the same image: these are not folds of one deal")
    found: dict[str, list[dict[str, float]]] = {}
    for fold in folds:
        network, trained = load_network(fold.checkpoint)
        recipe = recipe_from(trained.about["recipe"], where=fold.checkpoint)
        for source, values in image_scores(network, fold.split.validation, recipe):
            found.setdefault(source, []).append(values)
    return {source: _means(each) for source, each in sorted(found.items())}


def image_scores(
    network: nn.Module, images: tuple[Annotated, ...], recipe: Recipe
) -> list[tuple[str, dict[str, float]]]:
    """Source and scores of each image, as validation computes them."""
    found: list[tuple[str, dict[str, float]]] = []

    def look(
        image: Annotated,
        _: Micrograph,
        predicted: NDArray[np.uint8],
        truth: NDArray[np.uint8],
    ) -> None:
        found.append((image.source, scores(confusion(predicted, truth))))

    validate(network, images, recipe, look=look)
    return found


def _means(each: list[dict[str, float]]) -> dict[str, float]:
    known = {k: [e[k] for e in each if not math.isnan(e[k])] for k in each[0]}
    return {k: float(np.mean(v)) for k, v in known.items() if v}


def export_ensemble(
    folds: Sequence[Fold],
    folder: Path,
    *,
    name: str,
    settings: ExportSettings,
    cross_validated: Scores | None = None,
) -> Bundle:
    """Make one bundle of several folds' networks.

    Its ``training`` lists every fold with what it held out and how it scored there; ``validation`` is
    :func:`out_of_fold`.

    Parameters
    ----------
    folds
        Finished trainings of one deal.
    folder, name
        As for :func:`ranvier.training.export.export_bundle`.
    settings
        Of the export.
    cross_validated
        From :func:`out_of_fold`; None computes it.

    Raises
    ------
    SettingsError
        The networks differ in shape or input, or the folds overlap.
    OutputExistsError, MissingExtraError, BundleError
        As for :func:`ranvier.training.export.export_bundle`.
    """
    checkpoints = [fold.checkpoint for fold in folds]
    recipe, network = recipe_of(checkpoints), make_ensemble(checkpoints)
    members = [_member(fold) for fold in folds]
    dice = out_of_fold(folds) if cross_validated is None else cross_validated
    split = joined(folds)
    summary = {
        "recipe": recipe.as_dict(),
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": sum(m["steps"] for m in members),
        "seconds": sum(m["seconds"] for m in members),
        "trained_on": listed(split.train),
        "validated_on": listed(split.validation),
        "validation": dice,
        "ensemble": members,
    }
    made = Product(network, recipe, split, summary, HOW, single=False)
    return write_bundle(made, folder, name=name, settings=settings)


def _member(fold: Fold) -> dict[str, Any]:
    about = load_network(fold.checkpoint)[1].about
    return {
        "fold": fold.number,
        "steps": about["step"],
        "seconds": round(about["seconds"]),
        "computed": about.get("computed"),
        "seed": about["recipe"]["schedule"]["seed"],
        "held_out": listed(fold.split.validation),
        "scores": about["scores"],
    }


def images_of(folds: Sequence[Fold]) -> tuple[Annotated, ...]:
    """Every image that any fold was trained on or held out, by source and name."""
    every = {a for fold in folds for a in (*fold.split.train, *fold.split.validation)}
    return tuple(sorted(every, key=lambda a: (a.source, a.name)))


def joined(folds: Sequence[Fold]) -> Split:
    """All that any fold was trained on, and all that any held out."""
    trained = dict.fromkeys(a for fold in folds for a in fold.split.train)
    held = dict.fromkeys(a for fold in folds for a in fold.split.validation)
    warnings = dict.fromkeys(w for fold in folds for w in fold.split.warnings)
    order = sorted(trained, key=lambda a: (a.source, a.name))
    return Split(tuple(order), tuple(held), tuple(warnings))
