"""OpenVINO, imported without its telemetry: nothing that a user does is reported to anyone."""

from __future__ import annotations

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
