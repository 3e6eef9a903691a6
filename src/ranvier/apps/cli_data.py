"""``ranvier data``."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ranvier.apps.showing import LazyGroup, failing

_LAZY = {"fetch": "ranvier.apps.cli_fetch:fetch"}
_SHEET = "contact_sheet.png"
_MOST_NOTES = 8


@click.group(cls=LazyGroup, lazy=_LAZY)
def data() -> None:
    """Fetch, inspect and export annotated datasets."""


@data.command()
@click.argument(
    "folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="DIR..."
)
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help=f"Draw a contact sheet, {_SHEET}, into this folder.",
)
@click.option("--overwrite", is_flag=True, help="Replace an earlier contact sheet.")
@failing
def inspect(folders: tuple[Path, ...], as_json: bool, output: Path | None, overwrite: bool) -> int:
    """Show what datasets hold, and what is wrong with them.

    DIR is a BIDS microscopy dataset, a folder with images/ and masks/, a raw dataset of nnU-Net, or a folder of such
    datasets. The exit code is 1 if there are problems.
    """
    from ranvier.datasets.collection import list_datasets
    from ranvier.errors import OutputExistsError
    from ranvier.inspecting import inspect as look

    if output is not None and (output / _SHEET).exists() and not overwrite:
        raise OutputExistsError(
            "there is a contact sheet already",
            where=output / _SHEET,
            fix="Choose another -o, or --overwrite",
        )
    listings = list_datasets(list(folders))
    with _counting() as progress:
        found = look(listings, pictures=output is not None, progress=progress)
    summary = found.summary()
    if as_json:
        click.echo(json.dumps(summary, indent=1, ensure_ascii=False))
    else:
        for name, figures in summary["sources"].items():
            _show(name, figures, everything=len(figures["notes"]) <= _MOST_NOTES)
        if len(summary["sources"]) > 1:
            _show("in all", summary["all"])
    if output is not None:
        _draw(found, output, quiet=as_json)
    problems = summary["all"]["problems"]
    if problems:
        click.echo(f"{problems} problem(s)", err=True)
    return 1 if problems else 0


@contextmanager
def _counting() -> Iterator[Callable[[int, int], None] | None]:
    """A bar of images done on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield None
        return
    from tqdm import tqdm

    with tqdm(desc="images", unit="image", leave=False, file=sys.stderr) as bar:

        def show(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show


def _draw(found: Any, output: Path, *, quiet: bool) -> None:
    from ranvier._contact_sheet import sheet_png
    from ranvier.writing import make_folder, write_atomically

    cells = [image.cell for image in found.images if image.cell is not None]
    if not cells:
        return
    sources = ", ".join(sorted({i.known.image.source for i in found.images}))
    title = f"{sources}: {len(cells)} of {len(found.images)} images; "
    title += "on the right the marked part with outlines of axons (blue) and fibres (red)"
    make_folder(output)
    write_atomically(output / _SHEET, sheet_png(cells, title=title))
    click.echo(f"contact sheet: {output / _SHEET}", err=quiet)


def _show(name: str, figures: Mapping[str, Any], *, everything: bool = True) -> None:
    """Print the figures of one source."""
    click.echo(click.style(name, bold=True))
    roles = ", ".join(f"{n} {role}" for role, n in figures["roles"].items() if role != "not said")
    images = f"{figures['images']} images" + (f" ({roles})" if roles else "")
    click.echo(
        f"  {images}, {figures['megapixels']:.1f} megapixels, {figures['subjects']} subjects"
    )
    sizes = [f"{um} ({n})" for um, n in figures["pixel_sizes_um"].items()]
    unknown = figures["without_pixel_size"]
    sizes += [f"unknown ({unknown})"] if unknown else []
    if sizes:
        click.echo(f"  um per pixel (images): {', '.join(sizes)}")
    if figures["images"]:
        shares = (f"{k} {100 * v:.1f} %" for k, v in figures["class_shares"].items())
        click.echo(f"  classes: {', '.join(shares)}")
        click.echo(f"  {figures['fibres']} myelinated fibres clear of the border")
    for measure in ("axon_diameter", "myelin_thickness"):
        said = [
            f"{_range(figures[f'{measure}_{unit}'])} {unit}"
            for unit in ("px", "um")
            if figures[f"{measure}_{unit}"]
        ]
        if said:
            click.echo(f"  {measure.replace('_', ' ')}, median (5 to 95 %): {'; '.join(said)}")
    notes = figures.get("notes", [])
    for note in notes if everything else notes[:_MOST_NOTES]:
        click.echo(f"  note: {note}")
    if not everything and len(notes) > _MOST_NOTES:
        click.echo(f"  note: and {len(notes) - _MOST_NOTES} more; --json lists them")
    if isinstance(figures["problems"], list):
        for problem in figures["problems"]:
            click.echo(f"  {click.style('problem', fg='red')}: {problem}")


def _range(spread: Mapping[str, float]) -> str:
    return f"{spread['median']:.3g} ({spread['p5']:.3g} to {spread['p95']:.3g})"


@data.command()
@click.argument("aggregate", type=click.Path(path_type=Path), metavar="AGG")
@click.option(
    "--to",
    "form",
    type=click.Choice(["nnunet"]),
    required=True,
    help="nnunet: a raw dataset of nnU-Net 2, with splits_final.json.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="DatasetNNN_NAME is made in it.",
)
@click.option(
    "--id",
    "number",
    type=click.IntRange(1, 999),
    default=1,
    show_default=True,
    help="The dataset's number in nnU-Net.",
)
def export(aggregate: Path, form: str, output: Path, number: int) -> None:
    """Write an aggregate in another form, pixels included.

    AGG is a folder that ranvier aggregate made.
    """
    from ranvier.datasets.manifest import read_aggregate
    from ranvier.datasets.nnunet import SPLITS
    from ranvier.datasets.nnunet_export import export_nnunet

    made = read_aggregate(aggregate)
    folder = export_nnunet(made, output, number=number)
    click.echo(
        f"{form}: {folder} ({len(made.entries) - len(made.test)} training and {len(made.test)} test images)"
    )
    click.echo(
        f"After nnUNetv2_plan_and_preprocess, copy {SPLITS} into nnUNet_preprocessed/{folder.name}/"
    )
