"""A training on disk: tensors as safetensors, everything else as JSON. No pickle."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from ranvier.errors import DatasetError


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Where a training stands.

    Attributes
    ----------
    network, average
        State dictionaries of the network and of its averaged weights.
    optimiser
        The optimiser's moments by parameter index and name.
    about
        Step, seconds so far, random state, recipe, history: JSON-serialisable.
    """

    network: dict[str, Tensor]
    average: dict[str, Tensor]
    optimiser: dict[str, Tensor] = field(default_factory=dict)
    about: dict[str, Any] = field(default_factory=dict)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write ``path`` (safetensors, its description in the header), atomically."""
    tensors = {
        f"{part}/{name}": tensor.detach().contiguous().clone()
        for part in ("network", "average", "optimiser")
        for name, tensor in getattr(checkpoint, part).items()
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".part")
    about = {"about": json.dumps(checkpoint.about)}
    safetensors.torch.save_file(tensors, str(temporary), metadata=about)
    temporary.replace(path)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read what :func:`save_checkpoint` wrote.

    Raises
    ------
    DatasetError
        The file is not there or not such a checkpoint.
    """
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            about = json.loads((file.metadata() or {})["about"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except Exception as error:
        raise DatasetError("not a usable checkpoint", where=path, seen=str(error)) from error
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "optimiser": {}}
    for name, tensor in tensors.items():
        part, key = name.split("/", 1)
        parts[part][key] = tensor
    return Checkpoint(**parts, about=about)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Flatten an optimiser's moments: AdamW's two and its step, or SGD's momentum."""
    state = optimiser.state_dict()["state"]
    return {
        f"{i}/{name}": torch.as_tensor(value)
        for i, moments in state.items()
        for name, value in moments.items()
        if value is not None
    }


def restore_optimiser(optimiser: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put an optimiser's moments back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in tensors.items():
        index, key = name.split("/")
        state.setdefault(int(index), {})[key] = tensor
    optimiser.load_state_dict(
        {"state": state, "param_groups": optimiser.state_dict()["param_groups"]}
    )
