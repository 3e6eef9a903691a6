"""The training loop: patches in, averaged weights out, resumable at every validation."""

from __future__ import annotations

import copy
import csv
import io
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ranvier.datasets.folds import Split
from ranvier.errors import SettingsError
from ranvier.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from ranvier.training.loss import segmentation_loss
from ranvier.training.network import CompactUNet
from ranvier.training.recipe import Recipe, recipe_from
from ranvier.training.sampling import PatchSampler
from ranvier.training.validation import validate
from ranvier.writing import write_atomically

LAST, BEST = "last.safetensors", "best.safetensors"
_REMEMBERED = ("step", "seconds", "recipe", "images", "scores", "notes", "begun_from")
Report = Callable[[str], None]


@dataclass(frozen=True)
class TrainingResult:
    """What a training came to.

    Attributes
    ----------
    best
        The checkpoint with the best validation score (the last one, without validation images).
    scores
        Validation Dice by source at that checkpoint.
    """

    best: Path
    scores: dict[str, dict[str, float]]
    steps: int
    seconds: float


def train(
    split: Split,
    recipe: Recipe,
    folder: Path,
    *,
    init: Path | None = None,
    time_budget_s: float | None = None,
    resume: bool = False,
    report: Report = print,
) -> TrainingResult:
    """Train one network.

    Parameters
    ----------
    split
        Images to train on and to validate on, whole.
    recipe
        All settings.
    folder
        Checkpoints and log.csv go there.
    init
        A checkpoint whose averaged weights the training begins with.
    time_budget_s
        End after this many seconds even if steps are left; the learning rate follows whichever ends first.
    resume
        Go on from ``last.safetensors`` where there is one.
    report
        Takes a line of text for the user.

    Raises
    ------
    DatasetError, SettingsError
        The checkpoint to go on from or to begin with is damaged, or was made by another recipe or network.
    """
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(split, recipe, folder, time_budget_s)
    if resume and (folder / LAST).is_file():
        checkpoint = load_checkpoint(folder / LAST)
        _check_same_training(checkpoint, split, recipe, folder / LAST)
        run.restore(checkpoint)
        report(f"going on from step {run.step}")
    elif init is not None:
        run.begin_with(load_checkpoint(init), where=init)
    for warning in split.warnings:
        report(f"warning: {warning}")
    run.advance(report)
    best = folder / BEST
    about = load_checkpoint(best).about
    return TrainingResult(best, about["scores"], run.step, run.seconds)


def _names(split: Split) -> dict[str, list[str]]:
    return {
        part: [f"{a.source}/{a.name}" for a in images]
        for part, images in (("train", split.train), ("validation", split.validation))
    }


def _check_same_training(checkpoint: Checkpoint, split: Split, recipe: Recipe, where: Path) -> None:
    """Refuse to go on with other settings or images than those that the training began with."""
    if checkpoint.about["images"] != _names(split):
        raise SettingsError(
            "this training began with other images or another fold",
            where=where,
            fix="Give the same datasets, --fold and --folds, or train into another folder",
        )
    before = recipe_from(checkpoint.about["recipe"], where=where).as_dict()
    now = recipe.as_dict()
    changed = [
        f"{section}.{key}"
        for section, values in now.items()
        for key, value in values.items()
        if before[section][key] != value
    ]
    if changed:
        raise SettingsError(
            "this training began with another recipe",
            where=where,
            seen=f"other values of {', '.join(changed)}",
            fix="Go on with its own recipe, or train into another folder",
        )


class _Run:
    """The moving parts of one training."""

    def __init__(
        self, split: Split, recipe: Recipe, folder: Path, time_budget_s: float | None
    ) -> None:
        schedule = recipe.schedule
        torch.manual_seed(schedule.seed)
        self.rng = np.random.default_rng(schedule.seed)
        self.recipe, self.folder, self.budget = recipe, folder, time_budget_s
        self.sampler = PatchSampler(split.train, recipe, self.rng)
        self.validation, self.names = split.validation, _names(split)
        self.network = CompactUNet(recipe.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.network).eval()
        self.optimiser = torch.optim.AdamW(
            self.network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
        )
        self.step, self.seconds, self.best_score = 0, 0.0, -1.0
        self.history: list[dict[str, Any]] = []
        self.begun_from: dict[str, Any] | None = None

    def advance(self, report: Report) -> None:
        """Train until the steps or the time are used up."""
        schedule = self.recipe.schedule
        started, losses = time.monotonic() - self.seconds, []
        while self.progress() < 1:
            losses.append(self._train_step())
            self.step += 1
            self.seconds = time.monotonic() - started
            if self.step % schedule.validate_every_steps == 0 or self.progress() >= 1:
                self._validate(float(np.mean(losses)), report)
                losses.clear()
                self.seconds = time.monotonic() - started

    def progress(self) -> float:
        """From 0 to 1: steps or time, whichever is further."""
        done = self.step / self.recipe.schedule.steps
        return done if self.budget is None else max(done, self.seconds / self.budget)

    def _train_step(self) -> float:
        schedule = self.recipe.schedule
        warm = min(1.0, (self.step + 1) / max(1, schedule.warmup_steps))
        rate = (
            schedule.learning_rate
            * warm
            * 0.5
            * (1 + math.cos(math.pi * min(1.0, self.progress())))
        )
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        grey, classes = self.sampler.batch()
        self.network.train()
        use_bf16 = schedule.precision == "bf16"
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=use_bf16):
            logits = self.network(grey)
        loss = segmentation_loss(logits.float(), classes)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self._follow(min(schedule.ema_decay, (1 + self.step) / (10 + self.step)))
        return float(loss.detach())

    @torch.no_grad()
    def _follow(self, decay: float) -> None:
        """Move the averaged weights, and the batch statistics with them, towards the network's."""
        mine, theirs = self.average.state_dict(), self.network.state_dict()
        for name, value in mine.items():
            if value.dtype.is_floating_point:
                value.lerp_(theirs[name], 1 - decay)
            else:
                value.copy_(theirs[name])

    def _validate(self, loss: float, report: Report) -> None:
        by_source = validate(self.average, self.validation, self.recipe)
        dice = [s[k] for s in by_source.values() for k in ("dice_axon", "dice_myelin") if k in s]
        score = float(np.mean(dice)) if dice else 0.0
        row = {"step": self.step, "seconds": round(self.seconds), "loss": round(loss, 4)}
        row |= {f"{s}/{k}": round(v, 4) for s, t in by_source.items() for k, v in t.items()}
        self.history.append(row)
        report("  ".join(f"{k} {v}" for k, v in row.items() if "iou" not in k))
        _write_log(self.folder / "log.csv", self.history)
        if score >= self.best_score or not dice:
            self.best_score = score
            self._save(BEST, by_source, with_optimiser=False)
        self._save(LAST, by_source, with_optimiser=True)

    def _save(self, name: str, by_source: dict[str, Any], *, with_optimiser: bool) -> None:
        about = {
            "step": self.step,
            "seconds": self.seconds,
            "best_score": self.best_score,
            "random_state": self.rng.bit_generator.state,
            "recipe": self.recipe.as_dict(),
            "images": self.names,
            "scores": by_source,
            "history": self.history,
            "begun_from": self.begun_from,
        }
        state = optimiser_tensors(self.optimiser) if with_optimiser else {}
        network = self.network.state_dict() if with_optimiser else {}
        save_checkpoint(
            Checkpoint(network, self.average.state_dict(), state, about), self.folder / name
        )

    def begin_with(self, checkpoint: Checkpoint, *, where: Path) -> None:
        """Take over another training's averaged weights, and remember what they were."""
        theirs = recipe_from(checkpoint.about["recipe"], where=where)
        if theirs.network != self.recipe.network:
            raise SettingsError(
                "this checkpoint is of another network",
                where=where,
                seen=theirs.network,
                fix="Use a recipe with the same [network]",
            )
        self.network.load_state_dict(checkpoint.average)
        self.average.load_state_dict(checkpoint.average)
        self.begun_from = {k: v for k, v in checkpoint.about.items() if k in _REMEMBERED}

    def restore(self, checkpoint: Checkpoint) -> None:
        """Go back to where a checkpoint stands."""
        about = checkpoint.about
        self.network.load_state_dict(checkpoint.network)
        self.average.load_state_dict(checkpoint.average)
        restore_optimiser(self.optimiser, checkpoint.optimiser)
        self.rng.bit_generator.state = about["random_state"]
        self.step, self.seconds = about["step"], about["seconds"]
        self.best_score, self.history = about["best_score"], about["history"]
        self.begun_from = about["begun_from"]


def _write_log(path: Path, history: list[dict[str, Any]]) -> None:
    columns = list(dict.fromkeys(key for row in history for key in row))
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, fieldnames=columns)
    writer.writeheader()
    writer.writerows(history)
    write_atomically(path, text.getvalue().encode())
