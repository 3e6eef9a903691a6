"""What makes a result traceable: versions, hashes and times."""

from __future__ import annotations

import functools
import hashlib
import platform
import time
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_LIBRARIES = ("numpy", "openvino", "pillow", "scikit-image", "scipy", "tifffile")


@functools.cache
def own_version() -> str:
    """Ranvier's version."""
    try:
        return version("ranvier")
    except PackageNotFoundError:
        return "uninstalled"


def versions() -> dict[str, str]:
    """Versions of Python and of the libraries that results depend on."""
    return dict(_versions())


@functools.cache
def _versions() -> dict[str, str]:
    return {"python": platform.python_version(), **{name: version(name) for name in _LIBRARIES}}


def file_sha256(path: Path) -> str:
    """Hash of a file's bytes; the empty text where there is no file or it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


class Clock:
    """Seconds by stage.

    Attributes
    ----------
    started
        Date and time in UTC, ISO 8601.
    laps
        Name of each stage and its seconds.
    """

    def __init__(self) -> None:
        self.started = datetime.now(UTC).isoformat(timespec="seconds")
        self.laps: dict[str, float] = {}
        self._start = self._last = time.perf_counter()

    def lap(self, stage: str) -> None:
        """End a stage."""
        now = time.perf_counter()
        self.laps[stage] = round(now - self._last, 3)
        self._last = now

    def total(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start
