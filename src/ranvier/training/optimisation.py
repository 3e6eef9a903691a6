"""How weights move: the optimiser, its learning rate, and the precision of a step."""

from __future__ import annotations

import math
import platform
from collections.abc import Iterable
from typing import Literal

import torch
from torch import nn

from ranvier.errors import SettingsError
from ranvier.training.settings import ScheduleSettings, TrainingPrecision

ComputedPrecision = Literal["f32", "bf16", "f16"]
_DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}


def make_optimiser(
    settings: ScheduleSettings, parameters: Iterable[nn.Parameter]
) -> torch.optim.Optimizer:
    """AdamW (Loshchilov & Hutter 2019), or stochastic gradient descent with Nesterov's momentum."""
    if settings.optimiser == "sgd":
        return torch.optim.SGD(
            parameters,
            lr=settings.learning_rate,
            momentum=settings.momentum,
            nesterov=True,
            weight_decay=settings.weight_decay,
        )
    return torch.optim.AdamW(
        parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay
    )


def learning_rate(settings: ScheduleSettings, step: int, progress: float) -> float:
    """Learning rate of a step.

    Parameters
    ----------
    settings
        Warm-up and decay.
    step
        Steps done before this one: the warm-up follows it.
    progress
        Share of the training that is done, 0 to 1, by steps or by time: the decay follows it.

    Notes
    -----
    Cosine: half of 1 + cos(pi p) (Loshchilov & Hutter 2017). Poly: (1 - e / E) ** power at epoch *e* of *E*
    (Isensee et al. 2021); an epoch is ``iterations_per_epoch`` of the recipe's steps.
    """
    warm = min(1.0, (step + 1) / max(1, settings.warmup_steps))
    done = min(1.0, progress)
    if settings.decay == "poly":
        epochs = settings.steps / settings.iterations_per_epoch
        epoch = math.floor(done * epochs + 1e-6)
        left = max(0.0, 1 - epoch / epochs)
        return float(settings.learning_rate * warm * left**settings.decay_power)
    return settings.learning_rate * warm * 0.5 * (1 + math.cos(math.pi * done))


def computes_bf16(device: str = "cpu") -> bool:
    """Whether a kind of device (``cpu``, ``cuda``, ``mps``) computes bf16 itself.

    PyTorch trains in bf16 on every CPU, but one without the instructions (most laptops: x86 with no AVX512_BF16) takes
    ten times as long as in f32.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return True
    library = torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
    offered = bool(library and torch.ops.mkldnn._is_mkldnn_bf16_supported())
    if platform.machine().lower() in ("x86_64", "amd64"):
        return offered and torch.cpu._is_avx512_bf16_supported()
    return offered


def settled(precision: TrainingPrecision, device: str = "cpu") -> ComputedPrecision:
    """The precision that a kind of device (``cpu``, ``cuda``, ``mps``) is to compute in.

    Parameters
    ----------
    precision
        ``auto`` is bf16 where the device computes it, else f16 on CUDA, else f32. Any other is taken as it is.

    Raises
    ------
    SettingsError
        ``f16`` anywhere but on CUDA.
    """
    if precision == "f16" and device != "cuda":
        raise SettingsError(
            "schedule.precision f16 needs a CUDA device",
            seen=device,
            fix="Choose auto, bf16 or f32 in the recipe's [schedule]",
        )
    if precision != "auto":
        return precision
    if computes_bf16(device):
        return "bf16"
    return "f16" if device == "cuda" else "f32"


def mixed(precision: ComputedPrecision, device: str = "cpu") -> torch.autocast:
    """Autocast to a precision on a kind of device; ``f32`` changes nothing."""
    dtype = torch.bfloat16 if precision == "f32" else _DTYPES[precision]
    return torch.autocast(device, dtype=dtype, enabled=precision != "f32")
