"""``ranvier aggregate``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click


@click.command()
@click.argument(
    "datasets", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DATASET..."
)
@click.option("--name", required=True, help="The aggregate's name, e.g. FULL_AGG.")
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for manifest.csv and aggregate.json.",
)
@click.option(
    "--folds", type=click.IntRange(2), default=5, show_default=True, help="How many folds."
)
@click.option("--seed", type=int, default=0, show_default=True, help="Another one deals otherwise.")
@click.option(
    "--test-share",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    metavar="F",
    help="Take whole subjects as test set, about this share of the images, from sources without one.",
)
@click.option(
    "--test-subjects",
    type=click.IntRange(1),
    metavar="N",
    help="The same, a fixed number of subjects per source.",
)
@click.option(
    "--drop-duplicates",
    is_flag=True,
    help="Keep the first of images that are the same, instead of refusing them.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier aggregate.")
def aggregate(
    datasets: tuple[Path, ...],
    name: str,
    output: Path,
    folds: int,
    seed: int,
    test_share: float | None,
    test_subjects: int | None,
    drop_duplicates: bool,
    overwrite: bool,
) -> None:
    """Make one dataset of several, with a test set and folds by subject; no pixels are copied.

    DATASET is a BIDS microscopy dataset, a folder with images/ and masks/, a raw dataset of nnU-Net, or a folder of
    such datasets. The test set is the union of the sources' own test sets.
    """
    from ranvier.datasets.aggregate import aggregate as make
    from ranvier.datasets.collection import read_datasets
    from ranvier.datasets.held_out import HeldOut
    from ranvier.datasets.manifest import write_aggregate
    from ranvier.errors import OutputExistsError

    if test_share is not None and test_subjects is not None:
        raise click.UsageError("--test-share and --test-subjects exclude each other")
    if (output / "aggregate.json").exists() and not overwrite:
        raise OutputExistsError(
            "there is an aggregate already", where=output, fix="Choose another -o, or --overwrite"
        )
    made = make(
        read_datasets(list(datasets)),
        name=name,
        folds=folds,
        seed=seed,
        held_out=HeldOut(test_share, test_subjects),
        drop_duplicates=drop_duplicates,
    )
    files = write_aggregate(made, output, overwrite=overwrite)
    for warning in made.warnings:
        click.echo(f"warning: {warning}", err=True)
    _show(made)
    click.echo(f"{made.name}: {', '.join(str(f) for f in files)}")


def _show(made: Any) -> None:
    """Print a table: a row per source, then all."""
    rows = [
        ("source", "images", "Mpx", "subjects", "test", *(f"fold {f}" for f in range(made.folds)))
    ]
    for source, counts in {**made.sources(), "in all": made.counts()}.items():
        numbers = (counts["images"], f"{counts['megapixels']:.1f}", counts["subjects"])
        rows.append(
            (source, *map(str, numbers), str(counts["test"]), *map(str, counts["validation"]))
        )
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        first, *others = (
            cell.rjust(w) if i else cell.ljust(w)
            for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        )
        click.echo("  ".join((first, *others)))
