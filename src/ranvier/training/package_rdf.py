"""What a package of bioimage.io says of itself: ``rdf.yaml``, format 0.5 of https://bioimage.io."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ranvier.bundle import Bundle, embedded
from ranvier.errors import SettingsError
from ranvier.micrograph import CLASS_NAMES

FORMAT_VERSION = "0.5.4"
OPSET = 17
WEIGHTS, PAGE = "model.onnx", "README.md"
TEST_INPUT, TEST_OUTPUT = "test_input.npy", "test_output.npy"
EPSILON = 1e-6
"""What bioimage.io's steps add to a range or a standard deviation."""


@dataclass(frozen=True)
class PackageSettings:
    """What a package says beyond the model.

    Attributes
    ----------
    authors
        Their names; needed for models that are not part of Ranvier.
    licence
        An SPDX identifier; empty is not said, or MIT for models that are part of Ranvier.
    overwrite
        Whether an earlier package may be replaced.
    """

    authors: tuple[str, ...] = ()
    licence: str | None = None
    overwrite: bool = False


def is_own(bundle: Bundle) -> bool:
    """Whether a model is part of Ranvier."""
    return bundle.folder in embedded().values()


def steps_of(bundle: Bundle) -> list[str]:
    """The normalisation of each channel."""
    if bundle.patches is not None:
        return [channel.normalisation for channel in bundle.patches.channels]
    own = {"image-standardisation": "z-score", "rescale-0-1": "rescale-0-1"}
    return [own[bundle.normalisation]]


def description(
    bundle: Bundle, settings: PackageSettings, files: Mapping[str, bytes], shape: tuple[int, ...]
) -> dict[str, Any]:
    """The model description, as plain values.

    Parameters
    ----------
    bundle
        The model.
    settings
        Authors, licence.
    files
        Content of the package's other files, by name.
    shape
        Of the test input: (1, channels, rows, columns).
    """

    def file(name: str) -> dict[str, str]:
        return {"source": name, "sha256": hashlib.sha256(files[name]).hexdigest()}

    own = is_own(bundle)
    authors = settings.authors or ("The Ranvier developers",)
    licence = settings.licence or ("MIT" if own else None)
    return {
        "type": "model",
        "format_version": FORMAT_VERSION,
        "name": re.sub(r"[^A-Za-z0-9_+\- ()]", "-", f"Ranvier {bundle.name}")[:128],
        "description": "Finds axons and their myelin in micrographs of nerve.",
        "authors": [{"name": name} for name in authors],
        **({} if licence is None else {"license": licence}),
        "documentation": PAGE,
        "tags": ["axon", "myelin", "nerve", "histology", "segmentation", "2d", "unet"],
        "cite": [_citation(bundle)],
        "timestamp": f"{bundle.about.get('created', '1980-01-01')}T00:00:00",
        "inputs": [_input(bundle, shape, file(TEST_INPUT))],
        "outputs": [_output(bundle, shape, file(TEST_OUTPUT))],
        "weights": {"onnx": {**file(WEIGHTS), "opset_version": OPSET}},
        "config": {"ranvier": {"model": bundle.name, "sha256": bundle.sha256}},
    }


def _citation(bundle: Bundle) -> dict[str, str]:
    if bundle.patches is not None:
        text = (
            "Isensee F, Jaeger PF, Kohl SAA, Petersen J, Maier-Hein KH (2021). nnU-Net: a self-configuring method "
            "for deep learning-based biomedical image segmentation. Nature Methods 18, 203-211."
        )
        return {"text": text, "doi": "10.1038/s41592-020-01008-z"}
    text = (
        "Collin A, et al. (2024). Multi-Domain Data Aggregation for Axon and Myelin Segmentation in "
        "Histology Images."
    )
    return {"text": text, "url": "https://arxiv.org/abs/2409.11552"}


def _input(bundle: Bundle, shape: tuple[int, ...], test: dict[str, str]) -> dict[str, Any]:
    plan = bundle.patches
    names = ["grey"] if plan is None or shape[1] == 1 else ["red", "green", "blue"]
    return {
        "id": "image",
        "description": "Grey levels as stored." if shape[1] == 1 else "Red, green and blue.",
        "axes": [
            {"type": "batch", "size": 1},
            {"type": "channel", "channel_names": names},
            *(
                {"type": "space", "id": axis, "size": _size(bundle, edge)}
                for axis, edge in zip("yx", shape[2:], strict=True)
            ),
        ],
        "data": {"type": "float32"},
        "preprocessing": _preprocessing(bundle),
        "test_tensor": test,
    }


def _size(bundle: Bundle, edge: int) -> Any:
    if bundle.patches is not None:
        return edge
    stride, least = bundle.field.stride, bundle.field.minimum
    return {"min": -(-least // stride) * stride, "step": stride}


def _preprocessing(bundle: Bundle) -> list[dict[str, Any]]:
    """Steps that every channel shares: channels of several schemes are refused."""
    kinds = set(steps_of(bundle))
    if len(kinds) > 1:
        raise SettingsError(
            "channels that are normalised differently cannot be described to bioimage.io",
            where=bundle.folder,
            seen=", ".join(sorted(kinds)),
        )
    axes = ["x", "y"]
    steps: dict[str, list[dict[str, Any]]] = {
        "z-score": [{"id": "zero_mean_unit_variance", "kwargs": {"axes": axes, "eps": EPSILON}}],
        "rescale-0-1": [
            {
                "id": "scale_range",
                "kwargs": {
                    "axes": axes,
                    "min_percentile": 0.0,
                    "max_percentile": 100.0,
                    "eps": EPSILON,
                },
            }
        ],
        "rgb-0-1": [{"id": "scale_linear", "kwargs": {"gain": 1 / 255, "offset": 0.0}}],
        "none": [],
    }
    return [{"id": "ensure_dtype", "kwargs": {"dtype": "float32"}}, *steps[kinds.pop()]]


def _output(bundle: Bundle, shape: tuple[int, ...], test: dict[str, str]) -> dict[str, Any]:
    halo = 0 if bundle.patches is not None else min(bundle.field.halo, shape[2] // 4)
    sizes: list[dict[str, Any]] = [
        {
            "type": "space",
            "id": axis,
            "size": {"tensor_id": "image", "axis_id": axis},
            **({"halo": halo} if halo else {}),
        }
        for axis in "yx"
    ]
    return {
        "id": "probabilities",
        "description": "Probability of each class.",
        "axes": [
            {"type": "batch", "size": 1},
            {"type": "channel", "channel_names": list(CLASS_NAMES)},
            *sizes,
        ],
        "data": {"type": "float32", "range": [0.0, 1.0]},
        "test_tensor": test,
    }
