"""A bundle -> a package of bioimage.io, for napari, ilastik, QuPath and others that run such packages.

The package is a zip with ``rdf.yaml`` (:mod:`ranvier.training.package_rdf`), ``model.onnx``, a test input with the
output that belongs to it, and a page of documentation. The network's weights come from the bundle: from
``weights.safetensors`` where it has it, else read back from the graph (:mod:`ranvier.training.reading_back`). What the
package gives are probabilities of background, myelin and axon. It normalises what it is given, and does nothing else:
patches, their mirror images, zoom and measures are Ranvier's own.
"""

from __future__ import annotations

import io
import json
import warnings
import zipfile
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ranvier._openvino import core
from ranvier._patch_plan import PatchPlan
from ranvier.bundle import Bundle
from ranvier.datasets.phantom import PhantomSettings, draw
from ranvier.errors import BundleError, MissingExtraError, OutputExistsError, SettingsError
from ranvier.micrograph import CLASS_NAMES
from ranvier.training.imported.convert import rebuilt
from ranvier.training.network import TorchBackend, make_network
from ranvier.training.package_page import documentation
from ranvier.training.package_rdf import (
    EPSILON,
    OPSET,
    PAGE,
    TEST_INPUT,
    TEST_OUTPUT,
    WEIGHTS,
    PackageSettings,
    description,
    is_own,
    steps_of,
)
from ranvier.training.reading_back import read_back, recipe_of_bundle
from ranvier.writing import write_atomically

DESCRIPTION = "rdf.yaml"
_TOLERANCE = 1e-3
_TEST_EDGE = 128
_EARLIEST = (1980, 1, 1, 0, 0, 0)


def export_bioimageio(
    bundle: Bundle, path: Path, *, settings: PackageSettings | None = None
) -> Path:
    """Write a package of bioimage.io. The same bundle and versions give the same bytes.

    Parameters
    ----------
    bundle
        Of one network of Ranvier, or imported with its weights.
    path
        Ends in ``.zip``.
    settings
        Authors, licence.

    Returns
    -------
    Path
        The package.

    Raises
    ------
    OutputExistsError
        There is such a file, and ``overwrite`` is not given.
    SettingsError
        No author is named for a model that is not part of Ranvier, or the path does not end in ``.zip``.
    MissingExtraError
        onnx is not installed.
    BundleError
        The weights cannot be had, or the package would not compute what the model does.
    """
    settings = settings or PackageSettings()
    _check(bundle, path, settings)
    network = _Probabilities(_network(bundle), bundle.patches).eval()
    test = _test_input(bundle)
    onnx = _onnx(network, _shown(test, bundle), fixed=bundle.patches is not None)
    expected = TorchBackend(network).logits(_shown(test, bundle))
    _compare(onnx, _shown(test, bundle), expected, bundle)
    files = {
        WEIGHTS: onnx,
        TEST_INPUT: _npy(test),
        TEST_OUTPUT: _npy(expected),
        PAGE: documentation(bundle).encode(),
    }
    # JSON is YAML
    described = description(bundle, settings, files, test.shape)
    files[DESCRIPTION] = (json.dumps(described, indent=1, ensure_ascii=False) + "\n").encode()
    write_atomically(path, _zipped(files))
    return path


class _Probabilities(nn.Module):
    """A network and what its planes stand for: image -> probabilities of the three classes.

    Regions are decided one after the other as :func:`ranvier._patch_classes.decided` does; the class that they come to
    gets the certainty of that decision, and the others share the rest.
    """

    def __init__(self, network: nn.Module, plan: PatchPlan | None) -> None:
        super().__init__()
        self.network = network
        self.folds = 1 if plan is None else len(plan.folds)
        self.planes = plan.classes if plan is not None else tuple(range(len(CLASS_NAMES)))
        self.regions = plan is not None and plan.order is not None

    def forward(self, image: Tensor) -> Tensor:
        """Normalised image (n, channels, rows, columns) -> probabilities (n, 3, rows, columns)."""
        seen: Tensor = self.network(image)
        parts = seen.chunk(self.folds, dim=1)
        total = parts[0]
        for part in parts[1:]:
            total = total + part
        logits = total / self.folds
        return self._of_regions(logits) if self.regions else self._of_labels(logits)

    def _of_labels(self, logits: Tensor) -> Tensor:
        each = logits.softmax(dim=1)
        found = []
        for index in range(len(CLASS_NAMES)):
            own = [each[:, i : i + 1] for i, c in enumerate(self.planes) if c == index]
            plane = own[0]
            for other in own[1:]:
                plane = plane + other
            found.append(plane)
        return torch.cat(found, dim=1)

    def _of_regions(self, logits: Tensor) -> Tensor:
        each = logits.sigmoid()
        sure = torch.ones_like(each[:, :1])
        chosen = [sure, *([torch.zeros_like(sure)] * (len(CLASS_NAMES) - 1))]
        for i, index in enumerate(self.planes):
            own = each[:, i : i + 1]
            inside = (own > 0.5).to(own.dtype)
            sure = inside * own + (1 - inside) * torch.minimum(sure, 1 - own)
            chosen = [
                (1 - inside) * plane + (inside if c == index else 0)
                for c, plane in enumerate(chosen)
            ]
        rest = (1 - sure) / (len(CLASS_NAMES) - 1)
        return torch.cat([plane * sure + (1 - plane) * rest for plane in chosen], dim=1)


def _check(bundle: Bundle, path: Path, settings: PackageSettings) -> None:
    if path.suffix != ".zip":
        raise SettingsError("a package is a .zip file", where="-o", seen=path.name)
    if path.exists() and not settings.overwrite:
        raise OutputExistsError(
            "there is such a file already", where=path, fix="Choose another, or give --overwrite"
        )
    if not settings.authors and not is_own(bundle):
        raise SettingsError(
            "a package names its authors", where="--author", fix="Name who made the model"
        )
    if find_spec("onnx") is None:
        raise MissingExtraError(
            "weights in ONNX need the onnx package", fix="pip install 'ranvier[bioimageio]'"
        )


def _network(bundle: Bundle) -> nn.Module:
    if bundle.patches is not None:
        return rebuilt(bundle)
    network = make_network(recipe_of_bundle(bundle).network).eval()
    network.load_state_dict(read_back(bundle, ()).average)
    return network


def _test_input(bundle: Bundle) -> NDArray[np.float32]:
    """Drawn fibres as grey levels from 0 to 255, shape (1, channels, rows, columns)."""
    plan = bundle.patches
    shape = (_TEST_EDGE, _TEST_EDGE) if plan is None else plan.patch
    edge = max(_TEST_EDGE, *shape)
    drawn = draw(PhantomSettings(shape=(edge, edge), look="SEM", seed=7)).image.pixels
    grey = drawn[: shape[0], : shape[1]].astype(np.float32)
    channels = 1 if plan is None else len(plan.channels)
    return np.broadcast_to(grey, (1, channels, *shape)).copy()


def _shown(test: NDArray[np.float32], bundle: Bundle) -> NDArray[np.float32]:
    """The test input as bioimage.io's own steps normalise it."""
    planes = []
    for plane, step in zip(test[0].astype(np.float64), steps_of(bundle), strict=True):
        if step == "z-score":
            planes.append((plane - plane.mean()) / (plane.std() + EPSILON))
        elif step == "rescale-0-1":
            planes.append((plane - plane.min()) / (np.ptp(plane) + EPSILON))
        else:
            planes.append(plane / 255 if step == "rgb-0-1" else plane)
    return np.stack(planes)[None].astype(np.float32)


def _onnx(network: nn.Module, tile: NDArray[np.float32], *, fixed: bool) -> bytes:
    """The network in ONNX; of one size, or of any number of rows and columns."""
    spans = {2: "rows", 3: "columns"}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore"
        )  # of PyTorch: its tracing exporter is to go, and needs least
        torch.onnx.export(
            network,
            (torch.from_numpy(tile),),
            buffer,  # type: ignore[arg-type]
            dynamo=False,
            input_names=["image"],
            output_names=["probabilities"],
            dynamic_axes=None if fixed else {"image": spans, "probabilities": spans},
            opset_version=OPSET,
        )
    return buffer.getvalue()


def _compare(
    onnx: bytes, tile: NDArray[np.float32], expected: NDArray[np.float32], bundle: Bundle
) -> None:
    """Run the ONNX in another runtime than the one that wrote it."""
    compiled = core().compile_model(
        core().read_model(onnx, b""), "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    off = float(np.abs(compiled({0: tile})[0] - expected).max())
    if not off <= _TOLERANCE:
        raise BundleError(
            "the package would not compute what the model does; nothing was written",
            where=bundle.folder,
            seen=f"probabilities off by {off:.3g}",
        )


def _npy(values: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ascontiguousarray(values), allow_pickle=False)
    return buffer.getvalue()


def _zipped(files: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(files, key=lambda n: (n != DESCRIPTION, n)):
            archive.writestr(zipfile.ZipInfo(name, _EARLIEST), files[name], zipfile.ZIP_DEFLATED)
    return buffer.getvalue()
