"""A checkpoint of nnU-Net 2 -> plain tensors, with as little trust as possible.

These files are pickles inside a zip: opening one can run code. So, in this order: the zip's directory is checked
before anything in it is read (no compression, no more bytes than the file has), then PyTorch's restricted reader is
used, which makes tensors and plain values only, and numbers of NumPy, which nnU-Net keeps among its losses. What needs
more than that is opened only where the user says that its makers are trusted.
"""

from __future__ import annotations

import hashlib
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ranvier.errors import BundleFormatError
from ranvier.training.imported.architecture import Architecture
from ranvier.training.imported.networks import PlannedUNet

_LARGEST_FILE = 8 << 30
_LARGEST_PICKLE = 64 << 20
_MOST_ENTRIES = 100_000
_ZIP = b"PK\x03\x04"
_WRAPPERS = ("_orig_mod.", "module.")
_TRUST = (
    "If you trust its makers as much as a program that you run, give --trust: "
    "the file may then run any code with your rights"
)


@dataclass(frozen=True, eq=False)
class Opened:
    """What is used of one checkpoint.

    Attributes
    ----------
    weights
        Each tensor once, by its first name.
    configuration, trainer
        As the training called them; empty where it does not say.
    mirror_axes
        Axes along which the training mirrored its images.
    sha256
        Of the file.
    trusted
        Whether it had to be opened with full trust.
    """

    weights: Mapping[str, Tensor]
    configuration: str
    trainer: str
    mirror_axes: tuple[int, ...]
    sha256: str
    trusted: bool = False


def open_checkpoint(path: Path, *, trust: bool = False) -> Opened:
    """Read a checkpoint of nnU-Net 2.

    Parameters
    ----------
    path
        ``checkpoint_best.pth`` or ``checkpoint_final.pth``.
    trust
        Whether code in the file may be run where PyTorch's restricted reader refuses it.

    Raises
    ------
    BundleFormatError
        The file is not such a checkpoint, is built like a bomb, or needs trust that was not given.
    """
    _check_zip(path)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    loaded, trusted = _loaded(path, trust=trust)
    weights = loaded.get("network_weights") if isinstance(loaded, dict) else None
    if not isinstance(weights, dict) or not weights:
        raise BundleFormatError("no network_weights in this checkpoint", where=path)
    if not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in weights.items()):
        raise BundleFormatError("network_weights must be tensors by name", where=path)
    init = loaded.get("init_args")
    axes = loaded.get("inference_allowed_mirroring_axes") or ()
    if not isinstance(axes, list | tuple) or not all(type(a) is int and a in (0, 1) for a in axes):
        raise BundleFormatError("mirroring axes make no sense", where=path, seen=repr(axes)[:200])
    return Opened(
        weights={_plain(name): tensor for name, tensor in weights.items()},
        configuration=str(init.get("configuration", "")) if isinstance(init, dict) else "",
        trainer=str(loaded.get("trainer_name", "")),
        mirror_axes=tuple(sorted(set(axes))),
        sha256=digest,
        trusted=trusted,
    )


def _check_zip(path: Path) -> None:
    """Look at the zip's directory: nothing may be compressed, or be said to be more than the file holds."""
    if not path.is_file():
        raise BundleFormatError("no such checkpoint", where=path)
    size = path.stat().st_size
    if size > _LARGEST_FILE:
        raise BundleFormatError("too large", where=path, seen=f"{size} bytes")
    with path.open("rb") as file:
        head = file.read(len(_ZIP))
    if (
        head != _ZIP
    ):  # PyTorch would take it for an older kind of pickle, whatever lies further back
        raise BundleFormatError("not a checkpoint of nnU-Net 2", where=path, seen=repr(head))
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise BundleFormatError(
            "not a checkpoint of nnU-Net 2", where=path, seen=str(error)
        ) from error
    inside = sum(entry.file_size for entry in entries)
    stored = all(entry.compress_type == zipfile.ZIP_STORED for entry in entries)
    pickles = [e for e in entries if e.filename.endswith(".pkl")]
    if (
        not stored
        or inside > size
        or len(entries) > _MOST_ENTRIES
        or any(e.file_size > _LARGEST_PICKLE for e in pickles)
    ):
        raise BundleFormatError(
            "a checkpoint as PyTorch does not write them",
            where=path,
            seen=f"{len(entries)} entries of {inside} bytes in a file of {size}",
        )


def _loaded(path: Path, *, trust: bool) -> tuple[Any, bool]:
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location="cpu", weights_only=True), False
    except Exception as error:
        if not trust:
            said = str(error).strip().splitlines() or [type(error).__name__]
            named = [line.strip() for line in said if "GLOBAL" in line] or said[:1]
            raise BundleFormatError(
                "this checkpoint holds more than tensors and plain values, and was not opened",
                where=path,
                seen=named[0][:200],
                fix=_TRUST,
            ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=False), True
    except Exception as error:
        raise BundleFormatError(
            "this checkpoint cannot be opened", where=path, seen=str(error)[:200]
        ) from error


def _harmless() -> list[Any]:
    """What NumPy's own numbers are pickled with; none of it runs anything."""
    scalar = np.float64(0).__reduce__()[0]
    kinds = [type(np.dtype(code)) for code in ("f2", "f4", "f8", "i4", "i8", "?")]
    return [
        scalar,
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *kinds,
    ]


def _plain(name: str) -> str:
    """A tensor's name without what wraps the network in some trainings."""
    for prefix in _WRAPPERS:
        name = name.removeprefix(prefix)
    return name


def fitted(shape: Architecture, opened: Opened) -> Architecture:
    """The architecture that the weights are really of, where the trainer changed what was planned.

    Some trainers put batch normalisation in place of instance normalisation; its running means show.
    """
    counted = any(name.endswith(".norm.running_mean") for name in opened.weights)
    return replace(shape, norm="batch") if counted and shape.norm == "instance" else shape


def network_of(shape: Architecture, weights: Mapping[str, Tensor], where: Path) -> PlannedUNet:
    """A network in evaluation mode with the weights of a checkpoint.

    Tensors may stand there several times: the encoder again under ``decoder.encoder``, each convolution and
    normalisation again under ``all_modules``. Copies must be equal. The heads of deep supervision are left out.

    Raises
    ------
    BundleFormatError
        Tensors are missing, of another shape, not finite, left over, or copies differ.
    """
    with torch.device(
        "meta"
    ):  # nothing is allocated for what the plans claim before it is known to be there
        network = PlannedUNet(shape)
    expected = network.state_dict()
    chosen = _once(weights, expected, where)
    heads = [n for n in chosen if n.startswith("decoder.seg_layers.") and n not in expected]
    left = sorted(set(chosen) - set(expected) - set(heads))
    missing = sorted(set(expected) - set(chosen))
    wrong = sorted(n for n in expected if n in chosen and chosen[n].shape != expected[n].shape)
    if left or missing or wrong:
        raise BundleFormatError(
            "the weights are not of the planned network",
            where=where,
            seen=_few({"missing": missing, "left over": left, "of another shape": wrong}),
            fix="Was it trained by a trainer that changes the network? That is not brought over",
        )
    _refuse_hollow([chosen[name] for name in expected], where)
    found = {name: chosen[name].to(expected[name].dtype).contiguous() for name in expected}
    bad = [n for n, t in found.items() if t.is_floating_point() and not bool(t.isfinite().all())]
    if bad:
        raise BundleFormatError("weights are not finite", where=where, seen=bad[0])
    network.load_state_dict(found, assign=True)
    return network.eval()


def _refuse_hollow(tensors: list[Tensor], where: Path) -> None:
    """Refuse tensors that claim more numbers than are stored for them."""
    for tensor in tensors:
        if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
            raise BundleFormatError(
                "a tensor claims more numbers than are stored",
                where=where,
                seen=str(tuple(tensor.shape)),
            )


def _few(lists: Mapping[str, list[str]]) -> str:
    said = [
        f"{len(names)} {what} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for what, names in lists.items()
        if names
    ]
    return "; ".join(said)


_SUFFIXES = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")


def _once(
    weights: Mapping[str, Tensor], expected: Mapping[str, Tensor], where: Path
) -> dict[str, Tensor]:
    """Each tensor under its first name; copies are compared where their shape is the expected one."""
    found: dict[str, Tensor] = {}
    for name, tensor in weights.items():
        first = _first_name(name)
        if first not in found:
            found[first] = tensor
            continue
        usual = first in expected and tensor.shape == expected[first].shape
        if found[first].shape != tensor.shape or (usual and not torch.equal(found[first], tensor)):
            raise BundleFormatError(
                "two copies of one tensor differ", where=where, seen=f"{first}, {name}"
            )
    return found


def _first_name(name: str) -> str:
    """The name of which this one is an alias, or itself.

    Position 0 under ``all_modules`` is the convolution; the only other part there with tensors is the normalisation.
    """
    if name.startswith("decoder.encoder."):
        name = name.removeprefix("decoder.")
    head, middle, tail = name.partition(".all_modules.")
    index, _, suffix = tail.partition(".")
    if not middle or not index.isdecimal() or suffix not in _SUFFIXES:
        return name
    return f"{head}.{'conv' if index == '0' else 'norm'}.{suffix}"
