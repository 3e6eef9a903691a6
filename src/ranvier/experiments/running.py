"""Train what is missing: every model of an experiment, each fold once."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from ranvier.datasets.annotated import load_json
from ranvier.datasets.folds import Split
from ranvier.errors import SettingsError
from ranvier.experiments.data import Material
from ranvier.experiments.settings import Experiment, ModelPlan
from ranvier.training.checkpoint import load_checkpoint
from ranvier.training.cross_validation import fold_folder, train_folds
from ranvier.training.duration import seconds
from ranvier.training.ensemble import Fold, export_ensemble
from ranvier.training.export import ExportSettings, export_bundle
from ranvier.training.loop import LAST, Report
from ranvier.training.recipe import Recipe, read_recipe
from ranvier.writing import make_folder, write_atomically

PLAN, BUNDLE, ENSEMBLE = "plan.json", "bundle", "ensemble"


@dataclass(frozen=True)
class Trained:
    """A model of the experiment with its folds.

    Attributes
    ----------
    plan
        Which model.
    recipe
        It was trained by.
    folds
        Finished trainings.
    folder
        Where they lie.
    """

    plan: ModelPlan
    recipe: Recipe
    folds: tuple[Fold, ...]
    folder: Path

    @cached_property
    def _last(self) -> dict[int, dict[str, Any]]:
        """What each fold's last checkpoint says."""
        return {
            fold.number: load_checkpoint(fold.checkpoint.with_name(LAST)).about
            for fold in self.folds
        }

    @cached_property
    def facts(self) -> list[dict[str, Any]]:
        """Steps, seconds and numbers of images of each fold."""
        return [
            {
                "fold": fold.number,
                "steps": self._last[fold.number]["step"],
                "seconds": round(self._last[fold.number]["seconds"]),
                "best_step": load_checkpoint(fold.checkpoint).about["step"],
                "training_images": len(fold.split.train),
                "held_out_images": len(fold.split.validation),
            }
            for fold in self.folds
        ]

    def histories(self) -> dict[int, list[dict[str, Any]]]:
        """What was logged at each validation, by fold."""
        return {number: list(about["history"]) for number, about in self._last.items()}


def recipe_of(experiment: Experiment, plan: ModelPlan) -> Recipe:
    """The recipe of a model, with the experiment's changes and then its own."""
    return read_recipe(plan.recipe or experiment.recipe, (*experiment.changes, *plan.changes))


def train_missing(
    experiment: Experiment,
    material: Material,
    folder: Path,
    *,
    device: str = "auto",
    report: Report = print,
) -> tuple[Trained, ...]:
    """Train every model of an experiment into ``folder/models/NAME/fold-k``, or go on with what is there.

    Finished folds are left as they are, so that an experiment that was cut off costs nothing twice.

    Raises
    ------
    SettingsError
        A model's folder holds a training of another plan.
    DatasetError
        As for :func:`ranvier.training.loop.train`.
    """
    done = []
    for plan in experiment.trained:
        home = folder / "models" / slug(plan.name)
        recipe = recipe_of(experiment, plan)
        budget = plan.time_budget or experiment.time_budget
        splits = {k: split_of(material, plan, k) for k in experiment.folds_of(plan)}
        _same_plan(home, plan, recipe, budget)
        report(f"{plan.name}: folds {', '.join(map(str, splits))}")
        folds = train_folds(
            splits,
            recipe,
            home,
            time_budget_s=None if budget is None else seconds(budget),
            device=device,
            report=report,
        )
        done.append(Trained(plan, recipe, folds, home))
    return tuple(done)


def split_of(material: Material, plan: ModelPlan, fold: int) -> Split:
    """What a model is trained on and validated on in a fold."""
    return material.aggregate.split(fold).of(plan.sources)


def slug(name: str) -> str:
    """A folder's name for a model's."""
    return re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-").lower()


def _same_plan(home: Path, plan: ModelPlan, recipe: Recipe, budget: str | None) -> None:
    """Remember what a folder's trainings are, or refuse to mix them with others."""
    path = home / PLAN
    plain = {
        "name": plan.name,
        "sources": sorted(plan.sources),
        "time_budget": budget,
        "recipe": recipe.as_dict(),
    }
    about = json.loads(json.dumps(plain))  # lists for tuples, as in the file
    if path.is_file():
        known = load_json(path)
        changed = [key for key in about if known.get(key) != about[key]]
        if changed:
            raise SettingsError(
                "this folder holds a training of another plan",
                where=home,
                seen=f"another {', '.join(changed)}",
                fix="Give the experiment that recipe (set = [...]), remove the folder, or choose another -o",
            )
        return
    write_atomically(make_folder(home) / PLAN, (json.dumps(about, indent=1) + "\n").encode())


def fold_bundle(trained: Trained, fold: Fold) -> Path:
    """A fold's network as a bundle, made if it is not there."""
    place = fold_folder(trained.folder, fold.number) / BUNDLE
    if not (place / "model.json").is_file():
        plain = ExportSettings(int8=False)
        export_bundle(fold.checkpoint, fold.split, place, name=trained.plan.name, settings=plain)
    return place


def ensemble_bundle(trained: Trained) -> Path:
    """The mean of a model's folds as a bundle, made if it is not there; of one fold, that fold's."""
    if len(trained.folds) == 1:
        return fold_bundle(trained, trained.folds[0])
    numbers = "-".join(str(f.number) for f in trained.folds)
    place = trained.folder / f"{ENSEMBLE}-{numbers}"
    if not (place / "model.json").is_file():
        export_ensemble(
            trained.folds,
            place,
            name=trained.plan.name,
            settings=ExportSettings(int8=False),
            cross_validated={},
        )
    return place
