"""An nnU-Net 2 folder -> a bundle that runs without PyTorch, and without nnU-Net."""

from __future__ import annotations

import datetime
import io
import shutil
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from numpy.typing import NDArray
from torch import nn

from ranvier._openvino import openvino
from ranvier._patch_plan import PER_CHANNEL, PatchPlan
from ranvier.backends import OpenVinoBackend
from ranvier.bundle import Bundle, open_bundle, seal
from ranvier.errors import BundleError, BundleFormatError
from ranvier.training.card import CARD
from ranvier.training.export import WEIGHTS, check_export
from ranvier.training.graphs import GOLDEN, GRAPHS
from ranvier.training.imported.architecture import architecture_from
from ranvier.training.imported.checkpoint import network_of
from ranvier.training.imported.folder import FOLD, Folder, ImportSettings, read_folder
from ranvier.training.imported.networks import Folds, PlannedUNet
from ranvier.training.network import TorchBackend

_TOLERANCE = 1e-3
"""Of the graph's logits against PyTorch's, as a share of their range: both compute in f32."""


@dataclass(frozen=True, eq=False)
class Imported:
    """What an import made.

    Attributes
    ----------
    bundle
        Opened.
    notes
        What was decided on the way, in plain words.
    """

    bundle: Bundle
    notes: tuple[str, ...]


def import_nnunet(
    source: Path, folder: Path, *, name: str, settings: ImportSettings | None = None
) -> Imported:
    """Make a bundle of a trained nnU-Net 2 model.

    Weights stay as they are, in 32 bits. The graph is compared with the network in PyTorch before it is kept.

    Parameters
    ----------
    source
        Holds ``dataset.json``, ``plans.json`` and ``fold_*/checkpoint_*.pth``.
    folder
        Where the bundle goes; must not exist yet, or hold an earlier bundle only.
    name
        The model's name.
    settings
        Folds, checkpoint, trust.

    Raises
    ------
    BundleNotFoundError
        The folder lacks plans, folds or checkpoints.
    BundleFormatError
        Something in it cannot be brought over, or a checkpoint needs trust that was not given.
    OutputExistsError
        ``folder`` holds something else than a bundle.
    """
    settings = settings or ImportSettings()
    check_export(folder, int8=False)
    read = read_folder(source, settings)
    networks = {
        fold: network_of(read.shape, each.weights, read.files[fold])
        for fold, each in read.opened.items()
    }
    plan = _patch_plan(read)
    parameters = sum(p.numel() for network in networks.values() for p in network.parameters())
    about = _about(name, read, plan, parameters)
    making = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    try:
        _write_graph(_one(networks), plan, making)
        if settings.keep_weights:
            _write_weights(networks, making / WEIGHTS)
        (making / CARD).write_text(_card(about, read.notes), encoding="utf-8")
        seal(making, about)
    except BaseException:
        shutil.rmtree(making, ignore_errors=True)
        raise
    if folder.exists():
        shutil.rmtree(folder)  # holds a model only, as was checked
    making.replace(folder)
    return Imported(open_bundle(folder), read.notes)


def rebuilt(bundle: Bundle) -> nn.Module:
    """The network of an imported bundle that keeps its weights, in evaluation mode.

    Raises
    ------
    BundleFormatError
        It does not keep them, or they are not of the architecture that it names.
    BundleIntegrityError
        Files have changed.
    """
    if WEIGHTS not in bundle.about["files"] or bundle.patches is None:
        raise BundleFormatError(
            "this model keeps no weights of an imported network",
            where=bundle.folder,
            fix="Import it again without --no-weights",
        )
    try:
        shape = architecture_from(bundle.about["training"]["architecture"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleFormatError(
            "the architecture makes no sense", where=bundle.folder, seen=str(error)
        ) from error
    kept = safetensors.torch.load(bundle.content(WEIGHTS))
    networks = {}
    for fold in bundle.patches.folds:
        prefix = f"{FOLD}{fold}/"
        own = {k.removeprefix(prefix): v for k, v in kept.items() if k.startswith(prefix)}
        networks[fold] = network_of(shape, own, bundle.folder / WEIGHTS)
    return _one(networks)


def _one(networks: Mapping[str, PlannedUNet]) -> nn.Module:
    members = list(networks.values())
    return members[0] if len(members) == 1 else Folds(members).eval()


def _patch_plan(read: Folder) -> PatchPlan:
    plan = read.plan
    return PatchPlan(
        patch=plan.patch,
        channels=plan.channels,
        labels=plan.labels,
        outputs=plan.outputs,
        order=plan.order,
        mirror_axes=read.mirror_axes,
        folds=tuple(read.files),
    )


def _about(name: str, read: Folder, plan: PatchPlan, parameters: int) -> dict[str, Any]:
    """What model.json says."""
    return {
        "name": name,
        "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "normalisation": PER_CHANNEL,
        "field": {"stride": max(read.shape.total_stride), "receptive_radius": 0, "minimum": 1},
        "graphs": {"float": GRAPHS["float"]},
        "golden": GOLDEN,
        "patchwise": plan.as_dict(),
        "training": {
            "imported": {
                "tool": "nnU-Net 2",
                "configuration": read.plan.configuration,
                "trainer": read.trainer,
                **read.plan.about,
                "files": dict(read.hashes),
            },
            "architecture": read.shape.as_dict(),
            "parameters": parameters,
        },
    }


def _write_graph(network: nn.Module, plan: PatchPlan, folder: Path) -> None:
    """Convert a network for patches of its size, weights in 32 bits, and keep what it gives on one patch."""
    ov = openvino()
    tile = _golden_patch(plan)
    with torch.inference_mode(), warnings.catch_warnings():
        # OpenVINO traces the network with functions that PyTorch means to drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        graph = ov.convert_model(
            network, example_input=torch.from_numpy(tile), input=[tuple(tile.shape)]
        )
    xml = folder / GRAPHS["float"]
    ov.save_model(graph, xml, compress_to_fp16=False)
    backend = OpenVinoBackend(xml.read_bytes(), xml.with_suffix(".bin").read_bytes())
    logits, expected = backend.logits(tile), TorchBackend(network).logits(tile)
    off = float(np.abs(logits - expected).max() / max(float(np.ptp(expected)), 1e-6))
    if not off <= _TOLERANCE:
        raise BundleError(
            "the converted graph does not compute what the network does; nothing was written",
            seen=f"logits off by {off:.3g} of their range",
            fix="Try another version of openvino",
        )
    buffer = io.BytesIO()
    np.savez_compressed(buffer, tile=tile, logits=logits)
    (folder / GOLDEN).write_bytes(buffer.getvalue())


def _golden_patch(plan: PatchPlan) -> NDArray[np.float32]:
    """Rings and stripes in [0, 1], shape (1, channels, rows, columns): the same on any machine."""
    rows, columns = np.ogrid[: plan.patch[0], : plan.patch[1]]
    planes = [
        0.5 + 0.25 * np.sin(rows / (3 + c)) + 0.25 * np.cos((rows + columns) / (7 + c))
        for c in range(len(plan.channels))
    ]
    return np.stack(planes)[None].astype(np.float32)


def _write_weights(networks: Mapping[str, PlannedUNet], path: Path) -> None:
    """Weights as they are, by fold and their names in nnU-Net."""
    tensors = {
        f"{FOLD}{fold}/{key}": value.contiguous().clone()
        for fold, network in networks.items()
        for key, value in network.state_dict().items()
    }
    path.write_bytes(safetensors.torch.save(tensors))


def _card(about: Mapping[str, Any], notes: tuple[str, ...]) -> str:
    """The card as Markdown: what the folder said, and nothing else."""
    patch, source = about["patchwise"], about["training"]["imported"]
    labels = ", ".join(f"{n} {v}" for n, v in patch["labels"].items())
    channels = ", ".join(f"{c['name']} ({c['normalisation']})" for c in patch["channels"])
    files = [f"- {name}: sha256 {digest}" for name, digest in source["files"].items()]
    lines = [
        f"# {about['name']}",
        "",
        f"Imported from {source['tool']} on {about['created']}; its weights are not changed.",
        "",
        f"- dataset {source['dataset'] or 'not said'}, {source['training_images'] or 'unknown'} training images",
        f"- trainer {source['trainer'] or 'not said'}",
        f"- plans {source['plans'] or 'not said'} ({source['plans_style']} style)",
        f"- {about['training']['parameters']:,} parameters, patch {patch['patch'][0]} x {patch['patch'][1]}",
        f"- channels: {channels}",
        f"- labels: {labels}",
        *(f"- {note}" for note in notes),
        "",
        "## Files",
        "",
        *files,
        "",
        "## Limits",
        "",
        "- What it was trained on and how it scored is known to its makers only.",
    ]
    return "\n".join(lines) + "\n"
