"""``ranvier models`` and ``ranvier doctor``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

from ranvier.apps.cli_exchange import export_model, import_model
from ranvier.apps.showing import failing
from ranvier.errors import BundleFormatError

if TYPE_CHECKING:
    from ranvier._patch_plan import PatchPlan


@click.group()
def models() -> None:
    """List, show, verify, import and export models."""


models.add_command(import_model)
models.add_command(export_model)


@models.command("list")
def list_models() -> None:
    """List the embedded models."""
    from ranvier.bundle import embedded, open_bundle

    for name, folder in embedded().items():
        bundle = open_bundle(name)
        size = sum(f["bytes"] for f in bundle.about["files"].values()) / 1e6
        kinds = ", ".join(bundle.kinds) or "none, it has no network"
        click.echo(f"{name}  {bundle.sha256[:12]}  {size:.1f} MB  graphs: {kinds}  {folder}")


@models.command()
@click.argument("name", default="generalist", metavar="[NAME|DIR]")
@click.option("--json", "as_json", is_flag=True, help="Print the whole model.json.")
@click.option("--card", is_flag=True, help="Print the model's card, if it has one.")
def show(name: str, as_json: bool, card: bool) -> None:
    """Show what a model was trained on and how it scored."""
    from ranvier.bundle import open_bundle

    bundle = open_bundle(name)
    if as_json:
        click.echo(json.dumps(bundle.about, indent=1))
        return
    if card:
        if "card.md" not in bundle.about["files"]:
            raise BundleFormatError("this model has no card", where=bundle.folder)
        click.echo(bundle.content("card.md").decode())
        return
    training = bundle.about["training"]
    click.echo(f"{bundle.name}  {bundle.sha256}\n  in {bundle.folder}")
    kinds = ", ".join(bundle.kinds) or "none, it has no network"
    click.echo(f"  made {bundle.about.get('created', '?')}, graphs: {kinds}")
    field = bundle.field
    if bundle.classical is not None:
        _show_classical(bundle.about)
    elif bundle.patches is None:
        click.echo(f"  stride {field.stride} px, receptive radius {field.receptive_radius} px")
    else:
        _show_patches(bundle.patches)
    _show_training(training)
    begun = _mapping(training.get("begun_from"))
    if begun:
        click.echo("  it began with the weights of another training:")
        parts = _mapping(begun.get("images"))
        _show_training(
            {
                "steps": begun.get("step"),
                "trained_on": {"all sources": parts.get("train")},
                "validated_on": {"all sources": parts.get("validation")},
                "validation": begun.get("scores"),
            }
        )


def _show_patches(plan: PatchPlan) -> None:
    """Show what a model that is shown patches says of itself."""
    rows, columns = plan.patch
    axes = ", ".join(("rows", "columns")[a] for a in plan.mirror_axes) or "none"
    click.echo(
        f"  patches of {rows} x {columns} px; folds: {', '.join(plan.folds)}; mirrored: {axes}"
    )
    for channel in plan.channels:
        masked = " of pixels that are not 0" if channel.masked else ""
        click.echo(f"  channel {channel.name}: {channel.normalisation}{masked}")
    labels = (f"{name} {' '.join(map(str, values))}" for name, values in plan.labels.items())
    click.echo(f"  labels: {', '.join(labels)}")


def _show_classical(about: Mapping[str, Any]) -> None:
    """Show the settings of a model without a network, and how its scores are to be read."""
    for key, value in about["classical"].items():
        click.echo(f"  {key}: {json.dumps(value)}")
    if "how_scored" in about:
        click.echo(f"  {about['how_scored']}")


def _show_training(training: dict[str, Any]) -> None:
    """Show how long a network was trained, on what, and how it scored on what was held out."""
    for key in ("parameters", "steps", "seconds"):
        if key in training:
            click.echo(f"  {key}: {training[key]}")
    for key, title in (("trained_on", "trained on"), ("validated_on", "validated on")):
        for source, images in _mapping(training.get(key)).items():
            click.echo(
                f"  {title} {len(images) if isinstance(images, list) else '?'} image(s) of {source}"
            )
    for source, scores in _mapping(training.get("validation")).items():
        said = (f"{k} {v:.3f}" for k, v in _mapping(scores).items() if isinstance(v, float))
        click.echo(f"  validation, {source}: {', '.join(said)}")


def _mapping(value: object) -> dict[str, Any]:
    """A mapping out of a model's free-form training summary, or an empty one."""
    return value if isinstance(value, dict) else {}


@models.command()
@click.argument("name", default="generalist", metavar="[NAME|DIR]")
def verify(name: str) -> None:
    """Check every file of a model against the hashes in its model.json."""
    from ranvier.bundle import open_bundle

    bundle = open_bundle(name)
    bundle.verify()
    click.echo(f"{bundle.name}: {len(bundle.about['files'])} files as recorded, {bundle.sha256}")


@click.command()
@failing
def doctor() -> int:
    """Check that Ranvier works on this machine."""
    from ranvier.doctor import examine

    colours = {"PASS": "green", "WARN": "yellow", "FAIL": "red"}
    failed = 0
    for finding in examine():
        failed += finding.level == "FAIL"
        click.echo(
            f"{click.style(finding.level, fg=colours[finding.level])}  {finding.name}: {finding.seen}"
        )
        if finding.fix:
            click.echo(f"      -> {finding.fix}")
    return 1 if failed else 0
