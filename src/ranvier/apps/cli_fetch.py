"""``ranvier data fetch``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ranvier.apps.showing import ProgressBar, failing

if TYPE_CHECKING:
    from ranvier.datasets.fetch import Fetched, Plan, Web


@click.command()
@click.argument("name", required=False)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="The dataset's folder; a fetch that was broken off goes on in it.",
)
@click.option("--version", metavar="V", help="Another version than the one that --list names.")
@click.option("--overwrite", is_flag=True, help="Replace files that differ from the archive's.")
@click.option("--dry-run", is_flag=True, help="List files and sizes, and stop.")
@click.option(
    "--unverified",
    is_flag=True,
    help="Take files, too, for which the archive states no hash.",
)
@click.option("--list", "as_list", is_flag=True, help="List all known datasets, and stop.")
@failing
def fetch(
    name: str | None,
    output: Path | None,
    version: str | None,
    overwrite: bool,
    dry_run: bool,
    unverified: bool,
    as_list: bool,
) -> int:
    """Fetch a public dataset of axon and myelin from the DANDI archive.

    NAME is one of those that --list shows. Every file is verified by its hash before it gets its name.
    """
    from ranvier.datasets.registry import find, table

    if as_list:
        click.echo(table())
        return 0
    if name is None:
        raise click.UsageError("NAME is needed; --list shows the known datasets")
    dataset = find(name)
    if output is None and dataset.public and not dry_run:
        raise click.UsageError("-o is needed: a folder for the dataset")
    from ranvier.datasets.fetch import fetch as bring
    from ranvier.datasets.fetch import plan

    web = _web()
    planned = plan(dataset, version, web=web, unverified=unverified)
    if dry_run or output is None:
        return _show_plan(planned)
    with ProgressBar(dataset.name, unit="B") as bar:
        fetched = bring(planned, output, web=web, overwrite=overwrite, progress=bar)
    return _show_fetched(fetched)


def _web() -> Web:
    """Return the connection to the archive."""
    from ranvier.datasets.fetch import Web

    return Web()


def _show_plan(planned: Plan) -> int:
    for asset in planned.assets:
        click.echo(f"{asset.bytes:>14,}  {asset.path}")
    for path, why in planned.refused:
        click.echo(f"error: {path!r}: {why}", err=True)
    click.echo(
        f"{planned.dataset.name}: {len(planned.assets)} file(s), {_megabytes(planned.bytes)}, from {planned.url}"
    )
    _show_terms(planned)
    return 1 if planned.refused else 0


def _show_fetched(fetched: Fetched) -> int:
    planned, failures = fetched.plan, fetched.failures
    counts = {"fetched": 0, "kept": 0, "failed": 0}
    for file in fetched.files:
        counts[file.status] += 1
    for file in failures:
        click.echo(f"error: {file.path!r}: {file.message}", err=True)
    said = ", ".join(f"{n} {status}" for status, n in counts.items() if n)
    click.echo(
        f"{planned.dataset.name} {planned.version}: {said}, {_megabytes(planned.bytes)}",
        err=bool(failures),
    )
    _show_terms(planned)
    click.echo(f"record: {fetched.record}")
    return 1 if failures else 0


def _show_terms(planned: Plan) -> None:
    click.echo(f"licence: {planned.licence or 'not stated'}")
    if planned.citation:
        click.echo(f"cite: {planned.citation}")


def _megabytes(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
