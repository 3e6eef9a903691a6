"""OpenVINO, imported without its telemetry: nothing that a user does is reported to anyone."""

from __future__ import annotations

import functools
import sys
from typing import Any

_TELEMETRY = "openvino_telemetry"


def openvino() -> Any:
    """Import OpenVINO.

    On import it would load a package that reports usage to its makers and writes an identifier into the user's
    home. Where that package is out of reach, OpenVINO takes a stub of its own.
    """
    if "openvino" in sys.modules or _TELEMETRY in sys.modules:
        import openvino as loaded

        return loaded
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]
    try:
        import openvino as loaded
    finally:
        del sys.modules[_TELEMETRY]
    return loaded


@functools.cache
def core() -> Any:
    """The one ``openvino.Core`` of this process, which lives as long as the process does.

    With its first model a core gives the thread another stack for signal handlers, and takes it away at its own end.
    Where several come and go, the last such stack can be one that is gone, and the next Ctrl-C crashes the process.
    """
    return openvino().Core()
