"""A trained network -> a bundle that runs without PyTorch."""

from __future__ import annotations

import datetime
import io
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ranvier._openvino import openvino
from ranvier.backends import OpenVinoBackend
from ranvier.bundle import MANIFEST, Bundle, open_bundle, seal
from ranvier.datasets.annotated import Annotated
from ranvier.datasets.folds import Split
from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.errors import BundleError, MissingExtraError, OutputExistsError
from ranvier.preprocess import standardise, statistics
from ranvier.training.checkpoint import load_checkpoint
from ranvier.training.network import CompactUNet, field_of
from ranvier.training.recipe import Recipe, recipe_from

GRAPHS = {"float": "graph.xml", "int8": "graph-int8.xml"}
GOLDEN = "golden.npz"
_GOLDEN_EDGE = 128
_CALIBRATION_EDGE = 256
_CALIBRATION_TILES = 96


def export_bundle(
    checkpoint: Path, split: Split, folder: Path, *, name: str, int8: bool = True
) -> Bundle:
    """Make a bundle from a training's checkpoint.

    Weights are stored in 16 bits and, where ``int8``, once more quantised after training (NNCF, calibrated on
    tiles of every training source).

    Parameters
    ----------
    checkpoint
        From :func:`ranvier.training.loop.train`.
    split
        What the training used: for calibration and for the summary.
    folder
        Must not exist yet, or hold an earlier bundle only.
    name
        The model's name.
    int8
        Whether to add a quantised graph.

    Raises
    ------
    OutputExistsError
        The folder holds something else than a bundle.
    MissingExtraError
        NNCF is needed and not installed.
    """
    check_export(folder, int8=int8)
    trained = load_checkpoint(checkpoint)
    about = trained.about
    recipe = recipe_from(about["recipe"], where=checkpoint)
    network = CompactUNet(recipe.network).eval()
    network.load_state_dict(trained.average)
    making = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True)
    _write_graphs(network, split.train if int8 else (), making)
    _write_golden(making)
    seal(
        making,
        {
            "name": name,
            "created": datetime.datetime.now(datetime.UTC).date().isoformat(),
            "field": asdict(field_of(recipe.network)),
            "graphs": {k: v for k, v in GRAPHS.items() if (making / v).is_file()},
            "golden": GOLDEN,
            "training": _summary(about, recipe, network, split),
        },
    )
    if folder.exists():
        shutil.rmtree(folder)  # holds a model only, as was checked
    making.replace(folder)
    return open_bundle(folder)


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


def _nncf() -> Any:
    """Import NNCF without its telemetry."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        import nncf
    finally:
        if before is None:
            del os.environ["NNCF_CI"]
    return nncf


def _write_graphs(network: CompactUNet, calibration: tuple[Annotated, ...], folder: Path) -> None:
    ov = openvino()
    example = torch.zeros(1, 1, _GOLDEN_EDGE, _GOLDEN_EDGE)
    with torch.inference_mode(), warnings.catch_warnings():
        # OpenVINO traces the network with functions that PyTorch means to drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        graph = ov.convert_model(network, example_input=example, input=[(-1, 1, -1, -1)])
    ov.save_model(graph, folder / GRAPHS["float"], compress_to_fp16=True)
    if not calibration:
        return
    nncf = _nncf()
    tiles = list(_calibration_tiles(calibration))
    quantised = nncf.quantize(
        graph,
        nncf.Dataset(tiles),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(tiles),
        fast_bias_correction=True,
    )
    ov.save_model(quantised, folder / GRAPHS["int8"], compress_to_fp16=True)


def _calibration_tiles(images: tuple[Annotated, ...]) -> Iterator[NDArray[np.float32]]:
    """Real tiles of every source in equal numbers, each in both polarities."""
    rng = np.random.default_rng(0)
    sources: dict[str, list[Annotated]] = {}
    for image in images:
        sources.setdefault(image.source, []).append(image)
    for group in sources.values():
        share = max(1, _CALIBRATION_TILES // (2 * len(sources) * len(group)))
        for image in group:
            pixels = image.load()[0].pixels
            whole = standardise(pixels, statistics(pixels))
            for _ in range(share):
                top, left = (int(rng.integers(max(1, n - _CALIBRATION_EDGE))) for n in whole.shape)
                tile = whole[top : top + _CALIBRATION_EDGE, left : left + _CALIBRATION_EDGE]
                tile = tile[: tile.shape[0] // 32 * 32, : tile.shape[1] // 32 * 32]
                if tile.size:
                    yield tile[None, None]
                    yield -tile[None, None]


def golden_tile() -> NDArray[np.float32]:
    """A drawn micrograph, standardised: float32, shape (1, 1, 128, 128)."""
    drawn = draw(
        PhantomSettings(shape=(_GOLDEN_EDGE, _GOLDEN_EDGE), look="SEM", seed=7)
    ).image.pixels
    return standardise(drawn, statistics(drawn))[None, None]


def _write_golden(folder: Path) -> None:
    """Keep what the float graph gives on one tile, so that any machine can compare."""
    tile = golden_tile()
    xml = folder / GRAPHS["float"]
    backend = OpenVinoBackend(xml.read_bytes(), xml.with_suffix(".bin").read_bytes())
    buffer = io.BytesIO()
    np.savez_compressed(buffer, tile=tile, logits=backend.logits(tile))
    (folder / GOLDEN).write_bytes(buffer.getvalue())


def _summary(
    about: dict[str, Any], recipe: Recipe, network: CompactUNet, split: Split
) -> dict[str, Any]:
    def listed(images: tuple[Annotated, ...]) -> dict[str, list[str]]:
        sources: dict[str, list[str]] = {}
        for image in images:
            sources.setdefault(image.source, []).append(image.name)
        return sources

    summary = {
        "recipe": recipe.as_dict(),
        "parameters": sum(p.numel() for p in network.parameters()),
        "steps": about["step"],
        "seconds": round(about["seconds"]),
        "trained_on": listed(split.train),
        "validated_on": listed(split.validation),
        "validation": about["scores"],
    }
    if about.get("begun_from") is not None:
        summary["begun_from"] = about["begun_from"]
    return summary
