"""``ranvier models import`` and ``ranvier models export``: models from and for other tools."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from ranvier.errors import MissingExtraError

_TRUST_WARNING = (
    "warning: --trust lets the checkpoint run code on this computer, with your rights, if it holds any. "
    "Use it only for files whose makers you trust as you trust the programs that you install."
)


@click.command("import")
@click.argument("source", type=click.Path(path_type=Path), metavar="DIR")
@click.option("--name", required=True, help="What the model is to be called.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    metavar="FOLDER",
    help="Where it goes. [default: a folder of that name, here]",
)
@click.option(
    "--fold",
    "folds",
    multiple=True,
    metavar="N|all",
    help="Which fold; may be given several times. [default: all numbered ones, else fold_all]",
)
@click.option(
    "--checkpoint",
    type=click.Choice(["final", "best"]),
    help="Which checkpoint. [default: final where every fold has it, else best]",
)
@click.option("--configuration", metavar="NAME", help="[default: what the checkpoint says]")
@click.option(
    "--keep-weights/--no-weights",
    default=True,
    show_default=True,
    help="Keep the weights beside the graph: twice the size, and what `models export` needs.",
)
@click.option(
    "--trust",
    is_flag=True,
    help="Open checkpoints that hold more than tensors and plain values. They can then run any code.",
)
def import_model(source: Path, name: str, output: Path | None, **chosen: Any) -> None:
    """Make a model of a trained nnU-Net 2 model.

    DIR holds dataset.json, plans.json and fold_*/checkpoint_*.pth. Needs the extra [train]; running the model then
    does not.
    """
    if output is None and (name != Path(name).name or name in (".", "..")):
        raise click.BadParameter("a name that is a path needs -o", param_hint="--name")
    _check_training("importing")
    from ranvier.training.imported.convert import import_nnunet
    from ranvier.training.imported.folder import ImportSettings

    if chosen["trust"]:
        click.echo(_TRUST_WARNING, err=True)
    settings = ImportSettings(
        folds=chosen["folds"],
        checkpoint=chosen["checkpoint"],
        configuration=chosen["configuration"],
        trust=chosen["trust"],
        keep_weights=chosen["keep_weights"],
    )
    made = import_nnunet(source, output or Path(name), name=name, settings=settings)
    bundle = made.bundle
    size = sum(f["bytes"] for f in bundle.about["files"].values()) / 1e6
    click.echo(f"{bundle.name}  {bundle.sha256[:12]}  {size:.1f} MB  in {bundle.folder}/")
    for note in made.notes:
        click.echo(f"  note: {note}")
    click.echo(f"  run it with: ranvier segment IMAGE --model {bundle.folder}")


@click.command("export")
@click.argument("name", default="generalist", metavar="[NAME|DIR]")
@click.option(
    "--to",
    "form",
    type=click.Choice(["bioimageio"]),
    required=True,
    help="A package of bioimage.io, with weights in ONNX, for napari, ilastik, QuPath and others.",
)
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(path_type=Path),
    metavar="FILE.zip",
    help="The package.",
)
@click.option("--author", "authors", multiple=True, help="May be given several times.")
@click.option("--licence", metavar="SPDX", help="Of the model, e.g. MIT or CC-BY-4.0.")
@click.option("--overwrite", is_flag=True, help="Replace an earlier package.")
def export_model(
    name: str,
    form: str,
    output: Path,
    authors: tuple[str, ...],
    licence: str | None,
    overwrite: bool,
) -> None:
    """Write a model in the form of another tool.

    Needs the extras [train] and [bioimageio].
    """
    from ranvier.bundle import open_bundle

    _check_training("exporting")
    from ranvier.training.bioimageio import export_bioimageio
    from ranvier.training.package_rdf import PackageSettings

    bundle = open_bundle(name)
    settings = PackageSettings(authors=authors, licence=licence, overwrite=overwrite)
    made = export_bioimageio(bundle, output, settings=settings)
    click.echo(f"{made}: {made.stat().st_size / 1e6:.1f} MB, for {form}")


def _check_training(doing: str) -> None:
    if any(find_spec(name) is None for name in ("torch", "safetensors")):
        raise MissingExtraError(
            f"{doing} a model needs PyTorch", fix="Install it with: pip install 'ranvier[train]'"
        )
