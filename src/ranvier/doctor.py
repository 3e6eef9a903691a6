"""Does Ranvier work here? Each check passes, warns or fails, with what to do about it."""

from __future__ import annotations

import io
import platform
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ranvier._openvino import core, openvino
from ranvier.backends import PRECISIONS, Precision, bf16_is_native, usable_threads
from ranvier.bundle import DEFAULT_MODEL, Bundle, open_bundle
from ranvier.errors import RanvierError
from ranvier.inference import load_model

Level = Literal["PASS", "WARN", "FAIL"]
LOGIT_TOLERANCE = 1e-3
"""f32 on another CPU sums in another order; its logits stay this close to the golden ones, relative to their range."""
CLASS_AGREEMENT: dict[Precision, float] = {"f32": 0.999, "bf16": 0.98, "int8": 0.95}
"""Least share of the golden tile's pixels that must get the same class."""
_LEAST_MEMORY_GB = 2.0


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    level: Level
    name: str
    seen: str
    fix: str = ""


def examine() -> Iterator[Finding]:
    """Check the machine, the runtime, the embedded model and a golden run at every precision."""
    for check in (_python, _cpu, _memory, _openvino):
        yield check()
    try:
        bundle = open_bundle(DEFAULT_MODEL)
        bundle.verify()
    except RanvierError as error:
        yield Finding("FAIL", "model", str(error), "Install ranvier again")
        return
    yield Finding("PASS", "model", f"{bundle.name} {bundle.sha256[:12]}, files as recorded")
    for precision in PRECISIONS:
        yield _golden_run(bundle, precision)
    yield _training()


def _python() -> Finding:
    good = sys.version_info >= (3, 11)
    seen = f"{platform.python_version()} on {platform.system()} {platform.machine()}"
    return Finding(
        "PASS" if good else "FAIL", "python", seen, "" if good else "Install Python 3.11 or later"
    )


def _cpu() -> Finding:
    try:
        name = core().get_property("CPU", "FULL_DEVICE_NAME")
        able = ", ".join(
            c for c in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES") if c.isupper()
        )
    except Exception as error:
        return Finding(
            "FAIL",
            "cpu",
            _first_line(error),
            "Reinstall openvino: pip install --force-reinstall openvino",
        )
    seen = f"{str(name).strip()}; {able}; {usable_threads()} threads"
    if usable_threads() < 2:
        return Finding("WARN", "cpu", seen, "One thread is slow: allow this process more cores")
    return Finding("PASS", "cpu", seen)


def _memory() -> Finding:
    available = _available_gb()
    if available is None:
        return Finding("PASS", "memory", "cannot be told on this system")
    if available < _LEAST_MEMORY_GB:
        return Finding("WARN", "memory", f"{available:.1f} GB available", "Close other programs")
    return Finding("PASS", "memory", f"{available:.1f} GB available")


def _available_gb() -> float | None:
    try:
        with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
            values = dict(line.split(":", 1) for line in file)
        return int(values["MemAvailable"].split()[0]) / 1e6
    except (OSError, KeyError, ValueError):
        return None


def _openvino() -> Finding:
    try:
        return Finding("PASS", "openvino", str(openvino().__version__))
    except ImportError as error:
        return Finding("FAIL", "openvino", _first_line(error), "pip install openvino")


def _golden_run(bundle: Bundle, precision: Precision) -> Finding:
    name = f"golden run {precision}"
    try:
        if precision == "bf16" and not bf16_is_native():
            return Finding(
                "WARN", name, "this CPU does not compute bf16", "Use --precision f32 or int8"
            )
        if precision == "int8" and "int8" not in bundle.kinds:
            return Finding("WARN", name, "the model has no int8 graph", "Use --precision f32")
        if failures := bundle.failures(precision):
            return Finding("WARN", name, "; ".join(failures), "Use --precision f32")
        with np.load(
            io.BytesIO(bundle.content(str(bundle.about["golden"]))), allow_pickle=False
        ) as golden:
            tile, expected = golden["tile"], golden["logits"]
        logits = load_model(bundle.folder, precision=precision).backend.logits(tile)
    except Exception as error:
        return Finding("FAIL", name, _first_line(error), "Reinstall ranvier and openvino")
    return _compared(name, precision, logits, expected)


def _compared(
    name: str, precision: Precision, logits: NDArray[np.float32], expected: NDArray[np.float32]
) -> Finding:
    off = float(np.abs(logits - expected).max() / np.ptp(expected))
    same = float((logits.argmax(axis=1) == expected.argmax(axis=1)).mean())
    seen = f"same class on {same:.2%} of pixels, logits within {off:.1e} of their range"
    good = same >= CLASS_AGREEMENT[precision] and (precision != "f32" or off <= LOGIT_TOLERANCE)
    return Finding(
        "PASS" if good else "FAIL", name, seen, "" if good else "Try another version of openvino"
    )


def _training() -> Finding:
    missing = [m for m in ("torch", "safetensors", "nncf") if find_spec(m) is None]
    if not missing:
        return Finding("PASS", "training", "installed")
    return Finding(
        "PASS",
        "training",
        f"not installed ({', '.join(missing)}); pip install 'ranvier[train]' adds it",
    )


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
