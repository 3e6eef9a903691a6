"""``ranvier summarise``."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from ranvier.apps.showing import failing

_SHOWN = (
    "axon_diameter_um_mean",
    "axon_diameter_px_mean",
    "myelin_thickness_um_mean",
    "myelin_thickness_px_mean",
    "g_ratio_mean",
    "aggregate_g_ratio",
    "avf",
    "mvf",
    "density_per_mm2_unbiased",
    "density_per_mm2_tissue",
)


@click.command()
@click.argument("folders", nargs=-1, required=True, metavar="DIR...")
@click.option(
    "--samples",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="CSV or TSV that says whose tissue each image shows: columns image, subject and, if there "
    "are groups, group.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Folder for images.csv, subjects.csv, groups.csv, fibres.csv and run.json.",
)
@click.option(
    "--make-samples",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write a table of samples to fill in, one line per image found, and stop.",
)
@click.option(
    "--include-border",
    is_flag=True,
    help="Let means count fibres that the image's border cuts, too.",
)
@click.option(
    "--overwrite",
    is_flag=True,
    help="Replace the tables of an earlier run; never other files, nor tables changed since.",
)
@failing
def summarise(
    folders: tuple[str, ...],
    samples: Path | None,
    output: Path | None,
    make_samples: Path | None,
    include_border: bool,
    overwrite: bool,
) -> int:
    """Put the results of many images together by subject and group.

    DIR is a folder with results of ranvier segment or measure. Groups are compared by their
    subjects: each subject is one observation, however many images and fibres it has.
    """
    paths = [Path(folder) for folder in folders]
    if make_samples is not None:
        if samples is not None:
            raise click.UsageError("--samples and --make-samples exclude each other")
        return _make_samples(paths, make_samples)
    if samples is None:
        raise click.UsageError(
            "--samples is needed: which images belong to one subject cannot be guessed. "
            "Write a table to fill in with --make-samples FILE"
        )
    if output is None:
        raise click.UsageError("-o is needed: a folder for the tables")
    return _summarise(paths, samples, output, include_border=include_border, overwrite=overwrite)


def _make_samples(folders: list[Path], path: Path) -> int:
    from ranvier.collected import collect
    from ranvier.errors import OutputExistsError
    from ranvier.samples import refuse, template
    from ranvier.writing import make_folder, write_atomically

    found, problems = collect(folders)
    refuse(problems, ", ".join(map(str, folders)))
    if path.exists():
        raise OutputExistsError("a file is there already", where=path, fix="Give another name")
    make_folder(path.parent)
    write_atomically(path, template([result.name for result in found], path))
    click.echo(
        f"{path}: {len(found)} image(s). Fill in subject and group, then give it as --samples"
    )
    return 0


def _summarise(
    folders: list[Path], samples: Path, output: Path, *, include_border: bool, overwrite: bool
) -> int:
    from dataclasses import asdict

    from ranvier._group_files import COMMAND, check_free, write_groups
    from ranvier.groups import summarise_groups
    from ranvier.provenance import Clock, file_sha256, own_version, versions
    from ranvier.summary import SummarySettings

    check_free(output, overwrite=overwrite)
    clock = Clock()
    settings = SummarySettings(include_border=include_border)
    grouped = summarise_groups(folders, samples, settings=settings)
    clock.lap("summarising")
    about = {
        "ranvier": own_version(),
        "command": COMMAND,
        "settings": {"summary": asdict(settings)},
        "samples": {"path": str(samples), "sha256": file_sha256(samples)},
        "versions": versions(),
        "started": clock.started,
        "seconds": clock.laps,
    }
    written = write_groups(grouped, output, about=about, overwrite=overwrite)
    for warning in grouped.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"{len(grouped.images['image'])} image(s), {len(grouped.subjects['subject'])} subject(s), "
        f"{len(grouped.fibres['image'])} fibre(s)"
    )
    _show_groups(grouped.groups)
    click.echo(f"results: {output}/ ({len(written)} files)")
    return 0


def _show_groups(groups: Mapping[str, Any]) -> None:
    """Print mean and confidence interval of the main measures, group by group."""
    rows = [("measure", "group", "subjects", "mean", "95 % CI of the mean")]
    table = list(zip(*(groups[name].tolist() for name in groups), strict=True))
    for shown in _SHOWN:
        for group, measure, n, mean, _, _, low, high in table:
            if measure == shown and n:
                interval = f"{low:.4g} to {high:.4g}" if n > 1 else "- (one subject)"
                rows.append((measure, group, str(n), f"{mean:.4g}", interval))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo(line.rstrip())
