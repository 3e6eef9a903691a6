"""OpenVINO, imported without its telemetry: nothing that a user does is reported to anyone."""

from __future__ import annotations

import functools
import sys
from typing import Any

_TELEMETRY = "openvino_telemetry"
_CONVERTER = "openvino.tools.ovc"


def openvino() -> Any:
    """Import OpenVINO.

    On import it would load a package that reports usage to its makers and writes an identifier into the user's
    home. Where that package is out of reach, OpenVINO takes a stub of its own.
    """
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:
        import openvino as loaded

        return loaded
    for name in (_TELEMETRY, _CONVERTER):
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        import openvino as loaded
    finally:
        for name in (_TELEMETRY, _CONVERTER):
            del sys.modules[name]
    if not hasattr(loaded, "convert_model"):
        loaded.convert_model = _convert_model
    return loaded


def _convert_model(*given: Any, **named: Any) -> Any:
    """OpenVINO's own, imported when it is called: a tenth of a second that only training needs."""
    blocked = sys.modules.setdefault(_TELEMETRY, None) is None  # type: ignore[arg-type]
    try:
        from openvino.tools.ovc import convert_model
    finally:
        if blocked:
            del sys.modules[_TELEMETRY]
    return convert_model(*given, **named)


@functools.cache
def core() -> Any:
    """The one ``openvino.Core`` of this process, which lives as long as the process does.

    With its first model a core gives the thread another stack for signal handlers, and takes it away at its own end.
    Where several come and go, the last such stack can be one that is gone, and the next Ctrl-C crashes the process.
    """
    return openvino().Core()
