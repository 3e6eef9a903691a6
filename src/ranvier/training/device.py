"""Where a training runs: the CPU, a GPU, or several of them under torchrun."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from ranvier.errors import SettingsError
from ranvier.training.optimisation import check_precision
from ranvier.training.settings import TrainingPrecision

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Place:
    """One process of a training.

    Attributes
    ----------
    device
        What it computes on.
    rank, world
        Its number and how many there are; 0 of 1 without torchrun.
    """

    device: torch.device
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process validates, reports and writes."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait for the other processes."""
        if self.world > 1:
            dist.barrier()


def take_place(name: str, precision: TrainingPrecision) -> Place:
    """Choose the device, and join the other processes that torchrun started.

    Parameters
    ----------
    name
        ``cpu``, ``cuda``, ``mps``, or ``auto``: CUDA where there is one, else Apple's MPS, else the CPU.
    precision
        What the recipe wants to compute in.

    Raises
    ------
    SettingsError
        An unknown name, a device that is not there, or a precision that it does not train in.
    """
    if name not in DEVICES:
        raise SettingsError(
            "unknown device", where="--device", seen=name, fix=f"Choose {', '.join(DEVICES)}"
        )
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if name == "auto":
        name = next(n for n in ("cuda", "mps", "cpu") if there[n])
    if not there[name]:
        raise SettingsError(
            f"this machine, or this build of PyTorch, has no {name}",
            where="--device",
            fix="Choose cpu",
        )
    check_precision(precision, name)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Place(torch.device(name))
    if not dist.is_initialized():
        dist.init_process_group("nccl" if name == "cuda" else "gloo")
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if name == "cuda" else torch.device(name)
    return Place(device, dist.get_rank(), world)
