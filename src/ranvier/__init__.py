"""Find axons and their myelin in any micrograph, and measure every fibre.

>>> import ranvier
>>> micrograph = ranvier.read("nerve.tif")                  # doctest: +SKIP
>>> segmentation = ranvier.segment(micrograph)              # doctest: +SKIP
>>> fibres = ranvier.measure(segmentation)                  # doctest: +SKIP
>>> ranvier.save(fibres, "results", "nerve")                # doctest: +SKIP

Everything is loaded when it is first used, so that ``import ranvier`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ranvier.api import evaluate, load_model, measure, read, save, segment

__all__ = ["evaluate", "load_model", "measure", "read", "save", "segment"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("ranvier.api"), name)
    raise AttributeError(f"module 'ranvier' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
