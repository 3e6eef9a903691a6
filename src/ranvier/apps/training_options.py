"""Options and lines that the commands about training share."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from ranvier.apps.options import with_options
from ranvier.errors import MissingExtraError, SettingsError

if TYPE_CHECKING:
    from ranvier.bundle import Bundle
    from ranvier.training.export import ExportSettings

_Command = TypeVar("_Command", bound=Callable[..., Any])


def exporting(command: _Command) -> _Command:
    """Add the options of an export, for :func:`export_settings`."""
    options = (
        click.option(
            "--int8/--no-int8",
            default=None,
            help="Add a quantised graph (needs NNCF). [default: yes, but not to an ensemble]",
        ),
        click.option(
            "--drop-failing",
            is_flag=True,
            help="Leave out a graph that is worse than f32 by more than the limits, instead of failing.",
        ),
        click.option(
            "--max-dice-drop",
            type=click.FloatRange(0),
            default=0.002,
            show_default=True,
            help="Largest drop of a source's Dice against f32.",
        ),
        click.option(
            "--max-g-ratio-bias",
            type=click.FloatRange(0),
            default=0.002,
            show_default=True,
            help="Largest bias of the g-ratio against f32.",
        ),
        click.option(
            "--keep-weights",
            is_flag=True,
            help="Put the network's weights into the model, too, as PyTorch names them.",
        ),
    )
    wrapped: _Command = with_options(command, options)
    return wrapped


def export_settings(chosen: Mapping[str, Any], *, ensemble: bool = False) -> ExportSettings:
    """Settings out of the options of :func:`exporting`.

    Raises
    ------
    SettingsError
        The weights of an ensemble are to be kept.
    """
    from ranvier.training.export import ExportSettings
    from ranvier.training.gates import GateSettings

    if ensemble and chosen["keep_weights"]:
        raise SettingsError(
            "the weights of an ensemble cannot be trained further", where="--keep-weights"
        )
    gates = GateSettings(dice_drop=chosen["max_dice_drop"], g_ratio_bias=chosen["max_g_ratio_bias"])
    return ExportSettings(
        int8=not ensemble if chosen["int8"] is None else chosen["int8"],
        gates=gates,
        drop_failing=chosen["drop_failing"],
        keep_weights=chosen["keep_weights"],
    )


def need_pytorch() -> None:
    """Say at once what training lacks.

    Raises
    ------
    MissingExtraError
        PyTorch or safetensors is not installed.
    """
    for library, module in (("PyTorch", "torch"), ("safetensors", "safetensors")):
        if find_spec(module) is None:
            raise MissingExtraError(f"training needs {library}", fix="pip install 'ranvier[train]'")


def leads() -> bool:
    """Whether this is the process that writes and reports, among those of torchrun."""
    return os.environ.get("RANK", "0") == "0"


def check_place(output: Path, *, resume: bool, marks: Sequence[str]) -> None:
    """Refuse a folder with anything in it but a training to go on with, which one of ``marks`` tells.

    Raises
    ------
    SettingsError
        It is a file, or not empty and not such a training.
    """
    if output.exists() and not output.is_dir():
        raise SettingsError("the place for the training is a file", where=output)
    known = resume and any((output / mark).exists() for mark in marks)
    if output.exists() and any(output.iterdir()) and not known:
        raise SettingsError(
            "this folder is not empty",
            where=output,
            fix="Give --resume to go on with a training in it, or another -o",
        )


def several(fold: str, count: Callable[[], int]) -> tuple[int, ...]:
    """Numbers of several folds, ``2-4`` or ``each``; none for any other form.

    Raises
    ------
    SettingsError
        Fewer than two folds, or folds that there are not.
    """
    span = re.fullmatch(r"(\d+)-(\d+)", fold)
    if span is None and fold != "each":
        return ()
    total = count()
    first, last = (0, total - 1) if span is None else (int(span[1]), int(span[2]))
    if not first < last < total:
        raise SettingsError(
            "not several of the folds",
            where="--fold",
            seen=fold,
            fix=f"There are folds 0 to {total - 1}; write e.g. 0-{total - 1}, or each",
        )
    return tuple(range(first, last + 1))


def show_bundle(bundle: Bundle) -> None:
    """Say where a model lies, and how it passed its gates."""
    gates = bundle.about.get("gates")
    for precision, result in (gates["results"] if gates else {}).items():
        if "skipped" in result:
            click.echo(f"{precision}: not compared with f32, {result['skipped']}")
        elif result["passed"]:
            click.echo(f"{precision}: as good as f32, within the limits")
        else:
            became = "left out" if precision == "int8" else "not to be used with this model"
            click.echo(f"{precision}: {became}, {'; '.join(result['failures'])}")
    click.echo(f"model: {bundle.folder} ({bundle.sha256[:12]})")


def show_out_of_fold(scores: Mapping[str, Mapping[str, float]], folds: Sequence[int]) -> None:
    """Print the Dice by source of images that were held out, each scored by its own fold."""
    click.echo(f"held-out images, each scored by its own fold ({', '.join(map(str, folds))}):")
    for source, values in scores.items():
        click.echo(f"  {source}: {said(values)}")


def said(values: Mapping[str, float]) -> str:
    """Dice of axon and myelin in a few words."""
    dice = {name: values.get(f"dice_{name}") for name in ("axon", "myelin")}
    known = (f"{name} {value:.3f}" for name, value in dice.items() if value is not None)
    return ", ".join(known) or "no score"
