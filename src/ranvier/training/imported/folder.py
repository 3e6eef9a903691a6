"""An nnU-Net 2 folder as a whole: which folds, which checkpoint, which configuration."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ranvier.errors import BundleFormatError, BundleNotFoundError
from ranvier.training.imported.architecture import Architecture
from ranvier.training.imported.checkpoint import Opened, fitted, open_checkpoint
from ranvier.training.imported.plans import (
    DATASET,
    PLANS,
    Plan,
    configurations,
    read_object,
    read_plan,
)

Which = Literal["final", "best"]
CHECKPOINTS: tuple[Which, ...] = ("final", "best")
FOLD = "fold_"


@dataclass(frozen=True)
class ImportSettings:
    """What of an nnU-Net folder is brought over.

    Attributes
    ----------
    folds
        Names (``all``, ``0``, ``1``...); empty takes every numbered fold, or ``all`` where there is none.
    checkpoint
        ``final`` or ``best``; None takes ``final`` where every fold has it, else ``best``.
    configuration
        None takes what the checkpoint says.
    trust
        Whether code in the checkpoints may run; see :func:`ranvier.training.imported.checkpoint.open_checkpoint`.
    keep_weights
        Whether the bundle keeps the networks' weights beside the graph, which doubles its size. An export to
        bioimage.io needs them.
    """

    folds: tuple[str, ...] = ()
    checkpoint: Which | None = None
    configuration: str | None = None
    trust: bool = False
    keep_weights: bool = True


@dataclass(frozen=True, eq=False)
class Folder:
    """What was read of an nnU-Net folder.

    Attributes
    ----------
    plan
        Of its configuration.
    shape
        The network that the weights are of.
    files, opened
        The checkpoint of each fold, by the fold's name, and what was in it.
    hashes
        SHA-256 of every file that was read, by its name in the folder.
    """

    plan: Plan
    shape: Architecture
    files: Mapping[str, Path]
    opened: Mapping[str, Opened]
    hashes: Mapping[str, str]

    @property
    def mirror_axes(self) -> tuple[int, ...]:
        """Those of the first fold, as nnU-Net takes them."""
        return next(iter(self.opened.values())).mirror_axes

    @property
    def trainer(self) -> str:
        """Name of the first fold's trainer."""
        return next(iter(self.opened.values())).trainer

    @property
    def notes(self) -> tuple[str, ...]:
        """What was decided on the way, in plain words."""
        plan, opened = self.plan, self.opened.values()
        which = next(iter(self.files.values())).stem.removeprefix("checkpoint_")
        said = [f"fold {', '.join(self.files)}; checkpoint {which}; {plan.configuration}"]
        if self.shape.norm != plan.architecture.norm:
            said.append("the trainer put batch normalisation in place of what was planned")
        more = sorted(set(plan.labels) - {"background", "myelin", "axon"})
        if more:
            said.append(
                f"labels that are neither axon nor myelin are background: {', '.join(more)}"
            )
        if plan.about["reader"] not in ("NaturalImage2DIO", ""):
            reader = plan.about["reader"]
            said.append(f"trained on files as {reader} reads them; here pixels are taken as stored")
        if len({each.mirror_axes for each in opened}) > 1:
            said.append("the folds mirror along different axes; those of the first are taken")
        if any(each.trusted for each in opened):
            said.append("a checkpoint was opened with full trust")
        return tuple(said)


def read_folder(source: Path, settings: ImportSettings) -> Folder:
    """Read an nnU-Net folder.

    Raises
    ------
    BundleNotFoundError
        The folder lacks plans, folds or checkpoints.
    BundleFormatError
        Something in it cannot be brought over, or a checkpoint needs trust that was not given.
    """
    plans = read_object(source / PLANS)
    read_object(source / DATASET)
    files = checkpoint_files(source, settings)
    opened = {fold: open_checkpoint(path, trust=settings.trust) for fold, path in files.items()}
    plan = read_plan(source, _configuration(settings, opened, plans, source))
    hashes = {n: hashlib.sha256((source / n).read_bytes()).hexdigest() for n in (PLANS, DATASET)}
    for fold, path in files.items():
        hashes[f"{path.parent.name}/{path.name}"] = opened[fold].sha256
    shape = fitted(plan.architecture, next(iter(opened.values())))
    return Folder(plan, shape, files, opened, hashes)


def checkpoint_files(source: Path, settings: ImportSettings) -> dict[str, Path]:
    """Names of the folds to take and the checkpoint of each, in order.

    Raises
    ------
    BundleNotFoundError
        There is no such fold or checkpoint.
    """
    there = {
        path.name.removeprefix(FOLD): path
        for path in sorted(source.glob(f"{FOLD}*"))
        if any((path / f"checkpoint_{which}.pth").is_file() for which in CHECKPOINTS)
    }
    numbered = sorted((fold for fold in there if fold.isdecimal()), key=int)
    folds = settings.folds or tuple(numbered) or tuple(fold for fold in there if fold == "all")
    absent = [fold for fold in folds if fold not in there]
    if absent or not folds:
        raise BundleNotFoundError(
            "no such fold with a checkpoint" if absent else "no fold with a checkpoint",
            where=source,
            seen=", ".join(absent) or "none",
            fix=f"There is: {', '.join(there)}"
            if there
            else f"{FOLD}0/checkpoint_final.pth and the like are looked for",
        )
    choices = (settings.checkpoint,) if settings.checkpoint else CHECKPOINTS
    for which in choices:
        files = {fold: there[fold] / f"checkpoint_{which}.pth" for fold in dict.fromkeys(folds)}
        if all(path.is_file() for path in files.values()):
            return files
    raise BundleNotFoundError(
        "not every fold has this checkpoint",
        where=source,
        seen=f"fold {', '.join(folds)}; checkpoint {' or '.join(choices)}",
        fix="Choose another --checkpoint, or fewer --fold",
    )


def _configuration(
    settings: ImportSettings,
    opened: Mapping[str, Opened],
    plans: Mapping[str, Any],
    source: Path,
) -> str:
    said = {each.configuration for each in opened.values() if each.configuration}
    if len(said) > 1:
        raise BundleFormatError(
            "the folds are of several configurations", where=source, seen=", ".join(sorted(said))
        )
    flat = configurations(plans, source / PLANS)
    name = settings.configuration or (said.pop() if said else flat[0] if len(flat) == 1 else "")
    if name not in flat:
        raise BundleFormatError(
            "not a two-dimensional configuration",
            where=source / PLANS,
            seen=name or "none named",
            fix=f"Two-dimensional ones: {', '.join(flat) or 'none'}",
        )
    return name
