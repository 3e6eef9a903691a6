"""Showing results, progress and errors on a terminal."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import click


class LazyGroup(click.Group):
    """A group whose rarer commands are imported only when they are called."""

    def __init__(self, *args: Any, lazy: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy = dict(lazy or {})

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All names, in the order of their use."""
        return [*super().list_commands(ctx)[::-1], *self._lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command if need be."""
        if cmd_name in self._lazy:
            module, name = self._lazy[cmd_name].split(":")
            command: click.Command = getattr(importlib.import_module(module), name)
            return command
        return super().get_command(ctx, cmd_name)


def failing(command: Callable[..., int]) -> Callable[..., None]:
    """Let a command's returned number be the exit code."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        code = command(*args, **kwargs)
        if code:
            raise click.exceptions.Exit(code)

    return wrapped


class ProgressBar:
    """Pixels or bytes done: a bar on a terminal, nothing elsewhere. Called as a progress function."""

    def __init__(self, label: str, *, unit: str = "px") -> None:
        self._label, self._unit = label, unit
        self._bar: Any = None

    def __enter__(self) -> ProgressBar:
        return self

    def __call__(self, done: int, total: int) -> None:
        """Show that ``done`` of ``total`` are done."""
        if not sys.stderr.isatty():
            return
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(
                total=total,
                desc=self._label,
                unit=self._unit,
                unit_scale=True,
                leave=False,
                file=sys.stderr,
            )
        self._bar.update(done - self._bar.n)

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()


def show_outcomes(outcomes: Iterable[Any]) -> int:
    """Print what became of each input as it is known, and a closing line where there were several.

    Results go to standard output, errors to standard error.

    Returns
    -------
    code
        0 if no input failed, otherwise 1.
    """
    counts = {"done": 0, "skipped": 0, "failed": 0}
    for outcome in outcomes:
        counts[outcome.status] += 1
        if outcome.status == "failed":
            click.echo(f"error: {outcome.message}", err=True)
        elif outcome.status == "skipped":
            click.echo(
                f"{outcome.path}: skipped, {outcome.message or 'its results are complete and current'}"
            )
        else:
            _show_done(outcome)
    total = sum(counts.values())
    if total > 1 or counts["failed"]:
        said = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
        click.echo(f"{total} input(s): {said}", err=bool(counts["failed"]))
    return 1 if counts["failed"] else 0


def _show_done(outcome: Any) -> None:
    click.echo(f"{outcome.path}: {_figures(outcome.summary)}")
    click.echo(f"  pixel size: {outcome.pixel_size}")
    if outcome.summary["small_axons_left_out"]:
        small = outcome.summary["small_axons_left_out"]
        click.echo(f"  left out: {small} axon(s) smaller than --min-axon-area")
    for note in outcome.notes:
        click.echo(f"  note: {note}")
    click.echo(
        f"  results: {outcome.outputs[-1].parent}/ ({len(outcome.outputs)} files, {outcome.seconds:.1f} s)"
    )


def _figures(summary: Mapping[str, Any]) -> str:
    """Say the figures of an image in one line."""
    unit = summary["length_unit"]
    said = [f"{summary['fibre_count']} fibres"]
    for key, name, shown in (
        (f"axon_diameter_{unit}_mean", "axon diameter", f" {unit}"),
        ("g_ratio_mean", "g-ratio", ""),
    ):
        if summary[key] is not None:
            said.append(f"mean {name} {summary[key]:.3g}{shown}")
    return ", ".join(said)
