"""A network -> OpenVINO graphs, and the golden run that they must give."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ranvier._openvino import openvino
from ranvier.backends import OpenVinoBackend
from ranvier.bundle import NORMALISATION, Normalisation
from ranvier.datasets.annotated import Annotated
from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.preprocess import normalise, resample, statistics, zoomed_shape
from ranvier.training.looking import base_zoom
from ranvier.training.recipe import Recipe

GRAPHS = {"float": "graph.xml", "int8": "graph-int8.xml"}
GOLDEN = "golden.npz"
_GOLDEN_EDGE = 128
_CALIBRATION_EDGE = 256
_CALIBRATION_TILES = 96


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


def write_graphs(network: nn.Module, tiles: list[NDArray[np.float32]], folder: Path) -> None:
    """Convert a network to OpenVINO, with weights in 16 bits, and, given tiles to calibrate on, to int8, too (NNCF)."""
    ov = openvino()
    example = torch.zeros(1, 1, _GOLDEN_EDGE, _GOLDEN_EDGE)
    with torch.inference_mode(), warnings.catch_warnings():
        # OpenVINO traces the network with functions that PyTorch means to drop.
        warnings.simplefilter("ignore", DeprecationWarning)
        # Instance normalisation compares the example's size with 1, which does not go into the graph.
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # type: ignore[attr-defined]
        graph = ov.convert_model(network, example_input=example, input=[(-1, 1, -1, -1)])
    ov.save_model(graph, folder / GRAPHS["float"], compress_to_fp16=True)
    if not tiles:
        return
    nncf = _nncf()
    quantised = nncf.quantize(
        graph,
        nncf.Dataset(tiles),
        preset=nncf.QuantizationPreset.MIXED,
        subset_size=len(tiles),
        fast_bias_correction=False,  # a few seconds more; thin sheaths of small fibres lose g-ratio by the fast one
    )
    ov.save_model(quantised, folder / GRAPHS["int8"], compress_to_fp16=True)


def calibration_tiles(
    images: tuple[Annotated, ...], recipe: Recipe
) -> Iterator[NDArray[np.float32]]:
    """Real tiles of every source in equal numbers, each in both polarities."""
    rng = np.random.default_rng(0)
    stride, rescaled = max(32, recipe.network.stride), recipe.input.normalisation == "rescale"
    sources: dict[str, list[Annotated]] = {}
    for image in images:
        sources.setdefault(image.source, []).append(image)
    for group in sources.values():
        share = max(1, _CALIBRATION_TILES // (2 * len(sources) * len(group)))
        for image in group:
            micrograph, classes = image.load()
            zoom = base_zoom(classes, recipe.augmentation.axon_px)
            pixels = resample(micrograph.pixels, zoomed_shape(micrograph.shape, zoom))
            whole = normalise(pixels, statistics(pixels), recipe.input.scheme)
            for _ in range(share):
                top, left = (int(rng.integers(max(1, n - _CALIBRATION_EDGE))) for n in whole.shape)
                tile = whole[top : top + _CALIBRATION_EDGE, left : left + _CALIBRATION_EDGE]
                tile = tile[: tile.shape[0] // stride * stride, : tile.shape[1] // stride * stride]
                if tile.size:
                    yield tile[None, None]
                    yield (1 - tile if rescaled else -tile)[None, None]


def golden_tile(normalisation: Normalisation = NORMALISATION) -> NDArray[np.float32]:
    """A drawn micrograph, normalised: float32, shape (1, 1, 128, 128)."""
    drawn = draw(
        PhantomSettings(shape=(_GOLDEN_EDGE, _GOLDEN_EDGE), look="SEM", seed=7)
    ).image.pixels
    return normalise(drawn, statistics(drawn), normalisation)[None, None]


def write_golden(folder: Path, normalisation: Normalisation) -> None:
    """Keep what the float graph gives on one tile, so that any machine can compare."""
    tile = golden_tile(normalisation)
    xml = folder / GRAPHS["float"]
    backend = OpenVinoBackend(xml.read_bytes(), xml.with_suffix(".bin").read_bytes())
    buffer = io.BytesIO()
    np.savez_compressed(buffer, tile=tile, logits=backend.logits(tile))
    (folder / GOLDEN).write_bytes(buffer.getvalue())
