"""Who runs the network: a batch of tiles in, logits out."""

from __future__ import annotations

import os
import platform
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from ranvier._compiled import compiled
from ranvier._openvino import core, openvino
from ranvier.errors import BackendError, PrecisionError

Precision = Literal["f32", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("f32", "bf16", "int8")


class Backend(Protocol):
    """Runs one network at one precision."""

    @property
    def description(self) -> dict[str, str]:
        """Runtime, version, device, precision: what goes into run.json."""
        ...

    def logits(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network.

        Parameters
        ----------
        tiles
            Standardised grey, shape (tiles, 1, rows, columns); rows and columns are multiples of the stride.

        Returns
        -------
        logits
            Shape (tiles, classes, rows, columns).
        """
        ...


def usable_threads() -> int:
    """CPU threads that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def bf16_is_native() -> bool:
    """Whether OpenVINO counts bf16 among what this CPU computes."""
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def int8_is_cheap() -> bool:
    """Whether an int8 graph is known to be faster than f32 on CPUs of this kind: x86-64, with VNNI or without.

    OpenVINO lists int8 among the capabilities of every CPU, on Arm, too, where much of it is computed in floats.
    """
    return platform.machine().lower() in ("x86_64", "amd64")


class OpenVinoBackend:
    """A graph on the CPU, at a precision that is named and never guessed.

    Parameters
    ----------
    graph, weights
        The content of the OpenVINO IR's .xml and .bin.
    precision
        ``f32``; ``bf16`` on CPUs that have it; ``int8`` for a quantised
        graph, whose unquantised rest is computed in f32.
    threads
        CPU threads; None takes as many as this process may use.
    keep
        Keep the compiled graph in the user's cache folder, or take it from there (:mod:`ranvier._compiled`).

    Raises
    ------
    PrecisionError
        The CPU does not offer bf16, or the runtime took another precision than the one named.
    BackendError
        The graph cannot be loaded.
    """

    def __init__(
        self,
        graph: bytes,
        weights: bytes,
        *,
        precision: Precision = "f32",
        threads: int | None = None,
        keep: bool = False,
    ) -> None:
        self._precision = precision
        self._threads = threads if threads is not None else usable_threads()
        if precision == "bf16" and not bf16_is_native():
            raise PrecisionError(
                "this CPU does not compute bf16",
                where="--precision",
                seen="bf16",
                fix="Choose f32 or int8",
            )
        hint = "bf16" if precision == "bf16" else "f32"
        settings: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": hint,
            "INFERENCE_NUM_THREADS": self._threads,
            "NUM_STREAMS": 1,
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            self._compiled = compiled(graph, weights, settings, keep=keep)
            self._request = self._compiled.create_infer_request()
        except Exception as error:
            raise BackendError(
                "OpenVINO cannot load the graph", seen=str(error).splitlines()[0]
            ) from error
        taken = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        if taken != {"f32": "f32", "bf16": "bf16"}[hint]:
            raise PrecisionError("OpenVINO took another precision than the one named", seen=taken)
        self._version = str(openvino().__version__)

    @property
    def description(self) -> dict[str, str]:
        """Runtime, version, device, precision and threads."""
        return {
            "runtime": "openvino",
            "version": self._version,
            "device": "CPU",
            "precision": self._precision,
            "threads": str(self._threads),
        }

    def logits(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the network on tiles (tiles, 1, rows, columns); see :class:`Backend`."""
        try:
            result = self._request.infer({0: np.ascontiguousarray(tiles, dtype=np.float32)})
        except Exception as error:
            raise BackendError("the network failed", seen=str(error).splitlines()[0]) from error
        out: NDArray[np.float32] = result[0]
        return out


class WholeImage:
    """Stands for the backend of a model that has no network.

    It says what computes the result; being shown tiles is refused.

    Parameters
    ----------
    precision
        ``f32``.

    Raises
    ------
    PrecisionError
        Another precision is asked for.
    """

    def __init__(self, precision: Precision = "f32") -> None:
        if precision != "f32":
            raise PrecisionError(
                "a model without a network computes in f32 alone",
                where="--precision",
                seen=precision,
                fix="Choose f32",
            )

    @property
    def description(self) -> dict[str, str]:
        """Library, version, device, precision and threads."""
        from importlib.metadata import version

        return {
            "runtime": "scikit-image",
            "version": version("scikit-image"),
            "device": "CPU",
            "precision": "f32",
            "threads": "1",
        }

    def logits(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Refuse tiles.

        Raises
        ------
        BackendError
            Always.
        """
        raise BackendError(
            "this model has no network and must see the whole image",
            seen=f"tiles of shape {tiles.shape}",
            fix="Use ranvier.segment, or a model with a network",
        )
