"""The training loop: patches in, averaged weights out, resumable at every validation."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ranvier.datasets.annotated import Annotated
from ranvier.datasets.folds import Split
from ranvier.errors import SettingsError
from ranvier.micrograph import Array, Micrograph
from ranvier.training.checkpoint import (
    Checkpoint,
    load_checkpoint,
    optimiser_tensors,
    restore_optimiser,
    save_checkpoint,
)
from ranvier.training.device import Place, take_place
from ranvier.training.loss import training_loss
from ranvier.training.monitor import Monitor, error_png
from ranvier.training.network import make_network
from ranvier.training.optimisation import learning_rate, make_optimiser, mixed
from ranvier.training.recipe import Recipe, recipe_from
from ranvier.training.sampling import PatchSampler
from ranvier.training.validation import validate

LAST, BEST = "last.safetensors", "best.safetensors"
_REMEMBERED = ("step", "seconds", "recipe", "images", "scores", "notes", "begun_from", "computed")
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
    device: str = "auto",
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
    device
        ``auto``, ``cpu``, ``cuda`` or ``mps``. Under torchrun, every process trains on patches of its own, and
        their gradients are averaged.
    report
        Takes a line of text for the user.

    Raises
    ------
    DatasetError, SettingsError
        The checkpoint to go on from or to begin with is damaged, or was made by another recipe or network.
    """
    place = take_place(device, recipe.schedule.precision)
    folder.mkdir(parents=True, exist_ok=True)
    run = _Run(split, recipe, folder, time_budget_s, place)
    if resume and (folder / LAST).is_file():
        checkpoint = load_checkpoint(folder / LAST)
        _check_same_training(checkpoint, split, recipe, folder / LAST)
        run.restore(checkpoint)
        report(f"going on from step {run.step}")
    elif init is not None:
        run.begin_with(load_checkpoint(init), where=init)
    if place.leads:
        for note in (
            *place.notes(recipe.schedule.precision),
            *(f"warning: {w}" for w in split.warnings),
        ):
            report(note)
    run.advance(report if place.leads else _silent)
    place.wait()
    best = folder / BEST
    about = load_checkpoint(best).about
    return TrainingResult(best, about["scores"], run.step, run.seconds)


def _silent(_: str) -> None:
    """Report nothing: another process does."""


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
            fix="Go on with its own recipe (--set SECTION.KEY=VALUE), or train into another folder",
        )


class _Run:
    """The moving parts of one training."""

    def __init__(
        self, split: Split, recipe: Recipe, folder: Path, budget: float | None, place: Place
    ) -> None:
        schedule = recipe.schedule
        torch.manual_seed(schedule.seed)
        # Each process draws its own patches; the first draws those of a training by itself.
        self.rng = np.random.default_rng(
            schedule.seed if place.leads else [schedule.seed, place.rank]
        )
        self.recipe, self.folder, self.budget, self.place = recipe, folder, budget, place
        self.sampler = PatchSampler(split.train, recipe, self.rng)
        self.validation, self.names = split.validation, _names(split)
        network = make_network(recipe.network).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.network: nn.Module = network.to(place.device)
        self.average = copy.deepcopy(self.network).eval()
        self.optimiser = make_optimiser(schedule, self.network.parameters())
        self.scaler = torch.amp.GradScaler(place.device.type, enabled=place.precision == "f16")
        self.worker = self._worker()
        self.step, self.seconds, self.best_score = 0, 0.0, -1.0
        self.history: list[dict[str, Any]] = []
        self.begun_from: dict[str, Any] | None = None

    def _worker(self) -> nn.Module:
        """The network as it is trained: compiled on CUDA, and joined with those of other processes."""
        worker = self.network
        if self.place.world > 1:
            ids = [self.place.device] if self.place.device.type == "cuda" else None
            worker = nn.parallel.DistributedDataParallel(worker, device_ids=ids)
        if self.place.device.type == "cuda":
            worker = torch.compile(worker)  # type: ignore[assignment]
        return worker

    def advance(self, report: Report) -> None:
        """Train until the steps or the time are used up."""
        if not self.place.leads:
            self._steps(report, None)
            return
        monitor = Monitor(self.folder, total=self.recipe.schedule.steps, done=self.step)
        try:
            self._steps(report, monitor)
        finally:
            monitor.close(self.history)

    def _steps(self, report: Report, monitor: Monitor | None) -> None:
        every = self.recipe.schedule.validate_every_steps
        started, losses = time.monotonic() - self.seconds, []
        while self.progress() < 1:
            losses.append(self._train_step())
            self.step += 1
            self.seconds = self._agreed(time.monotonic() - started)
            if monitor is not None:
                monitor.step(losses[-1], self.best_score)
            if self.step % every == 0 or self.progress() >= 1:
                if monitor is not None:
                    self._validate(float(np.mean(losses)), report, monitor)
                losses.clear()
                self.place.wait()
                self.seconds = self._agreed(time.monotonic() - started)

    def _agreed(self, seconds: float) -> float:
        """The first process's clock, so that all end together."""
        if self.place.world == 1:
            return seconds
        shared = torch.tensor([seconds], dtype=torch.float64, device=self.place.device)
        torch.distributed.broadcast(shared, 0)
        return float(shared)

    def progress(self) -> float:
        """From 0 to 1: steps or time, whichever is further."""
        done = self.step / self.recipe.schedule.steps
        return done if self.budget is None else max(done, self.seconds / self.budget)

    def _train_step(self) -> float:
        schedule = self.recipe.schedule
        rate = learning_rate(schedule, self.step, self.progress())
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        grey, classes = (t.to(self.place.device, non_blocking=True) for t in self.sampler.batch())
        self.worker.train()
        with mixed(self.place.precision, self.place.device.type):
            outputs = self.worker(grey)
        loss = training_loss(outputs, classes, self.recipe.loss)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        nn.utils.clip_grad_norm_(self.network.parameters(), schedule.gradient_clip)
        self.scaler.step(self.optimiser)
        self.scaler.update()
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

    def _validate(self, loss: float, report: Report, monitor: Monitor) -> None:
        seen: set[str] = set()

        def look(image: Annotated, micrograph: Micrograph, predicted: Array, truth: Array) -> None:
            """Keep a picture of the first image of each source."""
            if image.source not in seen:
                seen.add(image.source)
                content = error_png(micrograph.pixels, predicted, truth)
                monitor.picture(f"{image.source}_{image.name}", self.step, content)

        by_source = validate(self.average, self.validation, self.recipe, look=look)
        dice = [s[k] for s in by_source.values() for k in ("dice_axon", "dice_myelin") if k in s]
        score = float(np.mean(dice)) if dice else 0.0
        row = {"step": self.step, "seconds": round(self.seconds), "loss": round(loss, 4)}
        row |= {f"{s}/{k}": round(v, 4) for s, t in by_source.items() for k, v in t.items()}
        self.history.append(row)
        report("  ".join(f"{k} {v}" for k, v in row.items() if "iou" not in k))
        monitor.validated(self.history)
        if score >= self.best_score or not dice:
            self.best_score = score
            self._save(BEST, by_source, with_optimiser=False)
        self._save(LAST, by_source, with_optimiser=True)

    def _save(self, name: str, by_source: dict[str, Any], *, with_optimiser: bool) -> None:
        about = {
            "step": self.step,
            "seconds": self.seconds,
            "computed": f"{self.place.precision} on {self.place.device.type}",
            "best_score": self.best_score,
            "random_state": self.rng.bit_generator.state,
            "recipe": self.recipe.as_dict(),
            "images": self.names,
            "scores": by_source,
            "history": self.history,
            "begun_from": self.begun_from,
            "scaler": self.scaler.state_dict(),
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
        if about.get("scaler"):
            self.scaler.load_state_dict(about["scaler"])
