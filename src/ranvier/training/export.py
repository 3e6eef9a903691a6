"""A trained network -> a bundle that runs without PyTorch."""

from __future__ import annotations

import datetime
import shutil
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import nn

from ranvier.bundle import (
    MANIFEST,
    Bundle,
    open_bundle,
    seal,
)
from ranvier.datasets.annotated import Annotated
from ranvier.datasets.folds import Split
from ranvier.errors import BundleError, MissingExtraError, OutputExistsError, SettingsError
from ranvier.training.axon_size import trained_axon_px
from ranvier.training.card import CARD, card, data_facts, limits
from ranvier.training.checkpoint import Checkpoint, load_checkpoint
from ranvier.training.gates import GateSettings, pass_gates
from ranvier.training.graphs import GOLDEN, GRAPHS, calibration_tiles, write_golden, write_graphs
from ranvier.training.network import field_of, make_network
from ranvier.training.recipe import Recipe, recipe_from

WEIGHTS = "weights.safetensors"


@dataclass(frozen=True)
class ExportSettings:
    """What a bundle holds, and what it must pass.

    Attributes
    ----------
    int8
        Whether to add a graph that is quantised after training (NNCF, calibrated on tiles of every training source).
    gates
        How much worse than f32 bf16 and int8 may be; None does not look.
    drop_failing
        Write the bundle without a graph that fails, instead of failing. bf16 has no graph of its own: where it fails,
        the bundle says so.
    keep_weights
        Whether to add the network's weights in 16 bits, as large as the float graph. A compact network can be trained
        further without them (:mod:`ranvier.training.reading_back`).
    """

    int8: bool = True
    gates: GateSettings | None = None
    drop_failing: bool = False
    keep_weights: bool = False


@dataclass(frozen=True, eq=False)
class Product:
    """What becomes a bundle.

    Attributes
    ----------
    network
        In evaluation mode; gives logits, or anything whose softmax is the probabilities.
    recipe
        Its geometry and its input.
    split
        What it was trained on, for calibration and the card, and what was held out, for the gates and the card.
    summary
        ``training`` of model.json.
    how_scored
        What the figures under ``validation`` are, in a sentence.
    single
        Whether the network is one that can be trained further.
    """

    network: nn.Module
    recipe: Recipe
    split: Split
    summary: dict[str, Any]
    how_scored: str
    single: bool = True


def export_bundle(
    checkpoint: Path,
    split: Split,
    folder: Path,
    *,
    name: str,
    int8: bool = True,
    settings: ExportSettings | None = None,
) -> Bundle:
    """Make a bundle from a training's checkpoint. Weights are stored in 16 bits.

    Parameters
    ----------
    checkpoint
        From :func:`ranvier.training.loop.train`.
    split
        What the training used: for calibration, gates, summary and card.
    folder
        Must not exist yet, or hold an earlier bundle only.
    name
        The model's name.
    int8
        Whether to add a quantised graph, where no ``settings`` are given.
    settings
        What else the bundle holds; without, there are no gates.

    Raises
    ------
    OutputExistsError
        The folder holds something else than a bundle.
    MissingExtraError
        NNCF is needed and not installed.
    BundleError
        A precision fails its gate; nothing was written.
    """
    return write_bundle(
        product(checkpoint, split),
        folder,
        name=name,
        settings=settings or ExportSettings(int8=int8),
    )


def product(checkpoint: Path, split: Split) -> Product:
    """What a training's checkpoint comes to.

    Raises
    ------
    DatasetError, SettingsError
        The checkpoint cannot be used.
    """
    network, trained = load_network(checkpoint)
    recipe = recipe_from(trained.about["recipe"], where=checkpoint)
    how = (
        "Whole images of held-out subjects, one view, mean over images. Which checkpoint to keep was chosen on these "
        "same images."
        if split.validation
        else ""
    )
    return Product(network, recipe, split, _summary(trained.about, recipe, network, split), how)


def load_network(checkpoint: Path) -> tuple[nn.Module, Checkpoint]:
    """The averaged network of a checkpoint, in evaluation mode, and the checkpoint.

    Raises
    ------
    DatasetError, SettingsError
        The checkpoint cannot be used.
    """
    trained = load_checkpoint(checkpoint)
    network = make_network(recipe_from(trained.about["recipe"], where=checkpoint).network).eval()
    network.load_state_dict(trained.average)
    return network, trained


def write_bundle(made: Product, folder: Path, *, name: str, settings: ExportSettings) -> Bundle:
    """Write a bundle with its card, once it has passed its gates.

    Gates are run on held-out images, and for sources that have none on some of those trained on: they compare
    arithmetic, not learning.

    Raises
    ------
    OutputExistsError, MissingExtraError, BundleError
        As for :func:`export_bundle`.
    """
    check_export(folder, int8=settings.int8)
    if settings.keep_weights and not made.single:
        raise SettingsError("the weights of an ensemble cannot be trained further", where=folder)
    making = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        tiles = list(calibration_tiles(made.split.train, made.recipe)) if settings.int8 else []
        write_graphs(made.network, tiles, making)
        write_golden(making, made.recipe.input.scheme)
        if settings.keep_weights:
            _write_weights(made.network, making / WEIGHTS)
        about = _about(made, name)
        seal(making, {**about, "graphs": _graphs(making)})
        if settings.gates is not None:
            about["gates"] = _gated(making, folder, made, settings)
        about["graphs"] = _graphs(making)
        (making / CARD).write_text(card(about), encoding="utf-8")
        seal(making, about)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(folder)  # holds a model only, as was checked
    making.replace(folder)
    return open_bundle(folder)


def _about(made: Product, name: str) -> dict[str, Any]:
    data = data_facts(made.split)
    validation = made.summary["validation"]
    axon_px = made.recipe.augmentation.axon_px or trained_axon_px(made.split.train)
    return {
        "name": name,
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "normalisation": made.recipe.input.scheme,
        "field": asdict(field_of(made.recipe.network)),
        "golden": GOLDEN,
        **({} if axon_px is None else {"trained_axon_px": round(axon_px, 1)}),
        "training": {**made.summary, **_hashes(made.split.train)},
        "data": data,
        "how_scored": made.how_scored,
        "limits": limits(data, validation, made.split.warnings),
    }


def _graphs(folder: Path) -> dict[str, str]:
    return {kind: file for kind, file in GRAPHS.items() if (folder / file).is_file()}


def _gated(making: Path, folder: Path, made: Product, settings: ExportSettings) -> dict[str, Any]:
    """Run the gates; without ``drop_failing`` a failure is an error, with it the failing graph goes."""
    split, tests = made.split, settings.gates or GateSettings()
    if made.recipe.augmentation.axon_px:
        tests = replace(tests, inference=replace(tests.inference, zoom="auto"))
    held = {a.source for a in split.validation}
    images = (*split.validation, *(a for a in split.train if a.source not in held))
    gates = pass_gates(making, images, tests)
    if gates.failing and not settings.drop_failing:
        raise gates.failure(folder)
    if "int8" in gates.failing:
        for ending in (".xml", ".bin"):
            (making / GRAPHS["int8"]).with_suffix(ending).unlink()
    return gates.as_dict()


def _write_weights(network: nn.Module, path: Path) -> None:
    """Weights in 16 bits by their names in PyTorch; counters as they are."""
    halved = {
        key: value.half() if value.dtype.is_floating_point else value
        for key, value in network.state_dict().items()
    }
    safetensors.torch.save_file({k: v.contiguous() for k, v in halved.items()}, str(path))


def check_export(folder: Path, *, int8: bool) -> None:
    """Make sure, before hours of training, that a bundle can be written.

    Raises
    ------
    OutputExistsError
        The folder holds something else than a bundle.
    MissingExtraError
        NNCF is needed and not installed.
    """
    if int8 and find_spec("nncf") is None:
        raise MissingExtraError(
            "quantising needs NNCF", fix="pip install 'ranvier[train]', or train with --no-int8"
        )
    if not folder.exists():
        return
    inside = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if inside:
        try:
            known = {MANIFEST, *open_bundle(folder).about["files"]}
        except BundleError:
            known = set()
        if not inside <= known:
            raise OutputExistsError(
                "not empty and not only a model",
                where=folder,
                seen=", ".join(sorted(inside - known)[:5]),
                fix="Choose another folder",
            )


def listed(images: tuple[Annotated, ...]) -> dict[str, list[str]]:
    """Names of images by source."""
    sources: dict[str, list[str]] = {}
    for image in images:
        sources.setdefault(image.source, []).append(image.name)
    return sources


def _hashes(images: tuple[Annotated, ...]) -> dict[str, list[str]]:
    """Hashes of the image files that were trained on, so that they are known under any name; those that are known."""
    known = sorted({image.sha256[0] for image in images if image.sha256})
    return {"trained_on_sha256": known} if known else {}


def _summary(
    about: dict[str, Any], recipe: Recipe, network: nn.Module, split: Split
) -> dict[str, Any]:
    summary = {
        "recipe": recipe.as_dict(),
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": about["step"],
        "seconds": round(about["seconds"]),
        "trained_on": listed(split.train),
        "validated_on": listed(split.validation),
        "validation": about["scores"],
    }
    if "computed" in about:
        summary["computed"] = about["computed"]
    if about.get("begun_from") is not None:
        summary["begun_from"] = about["begun_from"]
    return summary
