"""``ranvier run`` and ``ranvier collect``."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import click

from ranvier.apps.options import (
    check_views,
    chosen_channel,
    chosen_options,
    common,
    inference_settings,
    segmenting,
    views_given,
)
from ranvier.apps.showing import failing

_NOT_FOR_COHORTS = {"output": None, "fascicles": None, "overwrite": False, "skip_existing": False}
"""Options of single images that have no meaning here, and the values that stand for none."""


class _CohortCommand(click.Command):
    """A command without the options of single images."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [p for p in self.params if p.name not in _NOT_FOR_COHORTS]


@click.command(cls=_CohortCommand)
@click.argument("manifest", type=click.Path(path_type=Path), metavar="MANIFEST")
@click.option(
    "-o",
    "--cohort",
    "folder",
    type=click.Path(path_type=Path),
    required=True,
    metavar="DIR",
    help="Folder of the cohort. Run again with the same folder to go on.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    metavar="N",
    help="Images at once, each in a process of its own with its share of the threads.",
)
@click.option(
    "--shard",
    default="1/1",
    show_default=True,
    metavar="I/N",
    help="Do the I-th of N equal parts, I from 1 to N or from 0 to N - 1.",
)
@click.option(
    "--retry-failed/--no-retry-failed",
    default=True,
    show_default=True,
    help="Try images again that failed before, though neither they nor the settings changed.",
)
@click.option(
    "--dry-run", is_flag=True, help="Check the manifest and the model, say what there is, and stop."
)
@click.option(
    "--threads",
    type=click.IntRange(1),
    metavar="N",
    help="CPU threads of all processes together. [default: all]",
)
@segmenting
@common
@failing
def run(manifest: Path, folder: Path, **chosen: Any) -> int:
    """Segment and measure the micrographs that a manifest lists.

    MANIFEST is a table with a column image (or mask, or axon_mask and myelin_mask) and, if you like, id, subject,
    group, nerve_mask, pixel_size_um, zoom, page, channel and columns of your own. Whatever stops it, the same
    command goes on where it ended.
    """
    from ranvier.cohort_run import plan_of, run_cohort

    settings = _settings(chosen)
    if chosen["dry_run"]:
        return _show_plan(plan_of(manifest, settings), settings)
    with _Shown(settings.jobs) as shown:
        tally = run_cohort(manifest, folder, settings, tell=shown)
    for note in tally.notes:
        click.echo(f"note: {note}", err=True)
    counts = {
        "done": tally.done,
        "skipped (done already)": tally.skipped,
        "failed": tally.failed,
        "left": tally.left,
    }
    click.echo(f"{tally.total} image(s): " + _listed(counts))
    if tally.failures is not None:
        click.echo(f"failures: {tally.failures}", err=True)
    if tally.stopped:
        click.echo("stopped; the same command goes on from here", err=True)
        return 130
    others = "" if settings.shard.count == 1 else ", when all shards are done"
    click.echo(f"tables: ranvier collect {folder}{others}")
    return 1 if tally.failed or tally.left else 0


@click.command()
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--overlays", is_flag=True, help="Copy every image's overlay, named by the image.")
@click.option("--status", is_flag=True, help="Say how far the cohort is, and write nothing.")
@failing
def collect(folder: Path, overlays: bool, status: bool) -> int:
    """Put the results of a cohort together: images, fibres, subjects, groups, failures.

    DIR is the folder of ranvier run. The exit code is 0 if every image of the manifest is among them.
    """
    from ranvier.cohort_collect import look
    from ranvier.cohort_tables import collect_cohort

    if status:
        cohort = look(folder)
        _show_status(cohort)
        return 0 if cohort.whole else 1
    collection = collect_cohort(folder, overlays=overlays)
    for warning in collection.warnings:
        click.echo(f"warning: {warning}", err=True)
    _show_status(collection.cohort)
    subjects = "" if collection.subjects is None else f"{collection.subjects} subject(s), "
    click.echo(f"{subjects}{collection.fibres} fibre(s)")
    click.echo(f"tables: {collection.outputs[-1].parent}/ ({len(collection.outputs)} files)")
    if not any(path.name == "fibres.parquet" for path in collection.outputs) and collection.fibres:
        click.echo("no fibres.parquet: install it with pip install 'ranvier[parquet]'", err=True)
    return 0 if collection.cohort.whole else 1


def _settings(chosen: dict[str, Any]) -> Any:
    from ranvier.bundle import open_bundle
    from ranvier.cohort_plan import Shard
    from ranvier.cohort_terms import RunSettings
    from ranvier.errors import SettingsError
    from ranvier.jobs import Options

    if views_given():
        check_views(open_bundle(chosen["model"]))
    try:
        shard = Shard.parse(chosen["shard"])
    except SettingsError as error:
        raise click.BadParameter(str(error), param_hint="--shard") from None
    options = Options(
        **chosen_options({**chosen, **_NOT_FOR_COHORTS}),
        channel=chosen_channel(chosen),
        inference=inference_settings(chosen),
    )
    return RunSettings(
        options,
        model=chosen["model"],
        precision=chosen["precision"],
        threads=chosen["threads"],
        jobs=chosen["jobs"],
        shard=shard,
        retry_failed=chosen["retry_failed"],
    )


def _listed(counts: dict[str, int]) -> str:
    return ", ".join(f"{number} {what}" for what, number in counts.items())


def _show_plan(plan: Any, settings: Any) -> int:
    entries, extra = plan.manifest.entries, plan.manifest.extra_columns
    masks = sum(bool(entry.masks) for entry in entries)
    click.echo(f"{len(entries)} image(s): {len(entries) - masks} to segment, {masks} with masks")
    if len(plan.units) < len(entries):
        click.echo(f"listed more than once: {len(entries) - len(plan.units)}")
    click.echo(f"columns carried into the tables: {', '.join(extra) or 'none'}")
    click.echo(f"shard {settings.shard}: {len(settings.shard.part(plan.units))} image(s)")
    return 0


def _show_status(cohort: Any) -> None:
    counts = {status: len(cohort.of(status)) for status in ("done", "failed", "left")}
    click.echo(f"{len(cohort.results)} image(s): {_listed(counts)}")


class _Shown:
    """What a run tells, on a terminal a bar and what failed, elsewhere a line per image."""

    def __init__(self, jobs: int) -> None:
        self._bar: Any = None
        self._jobs = jobs

    def __enter__(self) -> _Shown:
        return self

    def __call__(self, event: Any) -> None:
        """Show an event."""
        if sys.stderr.isatty():
            self._move(event)
        elif event.what in ("done", "failed"):
            self._line(event)

    def _move(self, event: Any) -> None:
        from tqdm import tqdm

        label = "looking" if event.what == "hashed" else "images"
        if self._bar is None or self._bar.desc != label:
            self.__exit__()
            self._bar = tqdm(
                total=event.total, desc=label, unit="image", leave=False, file=sys.stderr
            )
            self._bar.desc = label
        self._bar.update(event.done - self._bar.n)
        if event.what == "failed":
            with tqdm.external_write_mode(file=sys.stderr):
                self._line(event)

    @staticmethod
    def _line(event: Any) -> None:
        if event.what == "failed":
            click.echo(f"error: {event.image}: {event.message}", err=True)
            return
        notes: Iterable[str] = event.notes
        click.echo("; ".join([f"{event.image}: {event.message}", *notes]))

    def __exit__(self, *exc: object) -> None:
        if self._bar is not None:
            self._bar.close()
