"""Where a training runs: the CPU, a GPU, or several of them under torchrun."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch
import torch.distributed as dist

from ranvier.errors import SettingsError
from ranvier.training.optimisation import ComputedPrecision, computes_bf16, settled
from ranvier.training.settings import TrainingPrecision

DEVICES = ("auto", "cpu", "cuda", "mps")


@dataclass(frozen=True)
class Place:
    """One process of a training.

    Attributes
    ----------
    device
        What it computes on.
    precision
        What it computes in.
    rank, world
        Its number and how many there are; 0 of 1 without torchrun.
    """

    device: torch.device
    precision: ComputedPrecision = "f32"
    rank: int = 0
    world: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process validates, reports and writes."""
        return self.rank == 0

    def notes(self, wanted: TrainingPrecision) -> tuple[str, ...]:
        """What to tell whoever wanted a precision."""
        if wanted == "auto":
            return (f"computing in {self.precision} on {self.device.type}",)
        return self.warnings(wanted, "--set schedule.precision=auto takes f32")

    def warnings(self, wanted: TrainingPrecision, remedy: str) -> tuple[str, ...]:
        """What to tell whoever wanted a precision that takes long here."""
        kind = self.device.type
        if wanted != "bf16" or computes_bf16(kind):
            return ()
        return (
            f"warning: this {kind} has no instructions for bf16 and takes many times as long as in f32 ({remedy})",
        )

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
    computed = settled(precision, name)
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Place(torch.device(name), computed)
    if not dist.is_initialized():
        dist.init_process_group("nccl" if name == "cuda" else "gloo")
    all_computed: list[str] = [""] * world
    dist.all_gather_object(all_computed, computed)
    if len(set(all_computed)) > 1:
        raise SettingsError(
            "the processes would compute in different precisions",
            where="schedule.precision",
            seen=", ".join(all_computed),
            fix="Choose one that all devices compute: --set schedule.precision=f32",
        )
    local = int(os.environ.get("LOCAL_RANK", "0"))
    device = torch.device("cuda", local) if name == "cuda" else torch.device(name)
    return Place(device, computed, dist.get_rank(), world)
