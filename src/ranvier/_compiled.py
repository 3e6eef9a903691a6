"""Graphs compiled for this CPU, kept in the user's cache folder: the next start takes a tenth of a second less.

A kept graph is found by the hash of all that it was made from: graph, weights, settings, OpenVINO's version, the CPU.
It is read only if nobody but the user can write it, and only if its own hash is right; otherwise the graph is compiled
again. Nothing that is wrong with the cache ever stops a run.

``RANVIER_CACHE`` names another folder, or is ``off``.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import platform
import stat
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ranvier._openvino import core, openvino

__all__ = ["SWITCH", "cache_folder", "compiled"]

SWITCH = "RANVIER_CACHE"
_OFF = ("off", "0", "none")
_ENDING, _PART = ".blob", ".part"
_HASH_BYTES = 32
_LARGEST = 64 << 20
"""Larger graphs are not kept: compiling them is a small part of running them."""
_MOST = 12
"""Graphs that are kept; the oldest goes first."""


def cache_folder() -> Path | None:
    """Where compiled graphs are kept, or None if they are not: ``RANVIER_CACHE``, or the system's place for caches."""
    chosen = os.environ.get(SWITCH, "")
    if chosen.lower() in _OFF:
        return None
    if chosen:
        return Path(chosen)
    try:
        return _system_folder() / "ranvier"
    except RuntimeError:  # no home
        return None


def _system_folder() -> Path:
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA", "")
        return Path(local) if local else Path.home() / "AppData" / "Local"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    # The XDG base directory specification: a path that is not absolute counts for nothing.
    given = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return given if given.is_absolute() else Path.home() / ".cache"


def compiled(graph: bytes, weights: bytes, settings: Mapping[str, Any], *, keep: bool) -> Any:
    """Compile a graph for the CPU, or take it from the cache.

    Parameters
    ----------
    graph, weights
        The content of the OpenVINO IR's .xml and .bin.
    settings
        OpenVINO's properties.
    keep
        Whether the cache may be used.

    Returns
    -------
    openvino.CompiledModel
        It gives the same numbers, whether compiled or taken from the cache.
    """
    folder = cache_folder() if keep and len(weights) <= _LARGEST else None
    path = None
    if folder is not None:
        path = folder / f"{_key(graph, weights, settings)}{_ENDING}"
        kept = _kept(path)
        if kept is not None:
            # What OpenVINO itself refuses is compiled again.
            with contextlib.suppress(RuntimeError):
                return core().import_model(io.BytesIO(kept), "CPU", dict(settings))
    model = core().compile_model(core().read_model(graph, weights), "CPU", dict(settings))
    if path is not None and _is_writable(path.parent):
        with contextlib.suppress(OSError, RuntimeError):
            exported = io.BytesIO()
            model.export_model(exported)
            _store(path, exported.getvalue())
    return model


def _key(graph: bytes, weights: bytes, settings: Mapping[str, Any]) -> str:
    """Hash of all that decides what a compiled graph is."""
    facts = {
        "graph": hashlib.sha256(graph).hexdigest(),
        "weights": hashlib.sha256(weights).hexdigest(),
        "settings": {name: str(settings[name]) for name in sorted(settings)},
        "openvino": str(openvino().__version__),
        "cpu": str(core().get_property("CPU", "FULL_DEVICE_NAME")),
        "able": sorted(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")),
        "flags": _cpu_flags(),
        "system": [platform.system(), platform.machine()],
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _cpu_flags() -> str:
    """What the CPU can do, where the system tells: CPUs of one name may differ in it."""
    with (
        contextlib.suppress(OSError),
        Path("/proc/cpuinfo").open(encoding="ascii", errors="replace") as file,
    ):
        for line in file:
            if line.startswith(("flags", "Features")):
                return line
    return ""


def _kept(path: Path) -> bytes | None:
    """A compiled graph of the cache; None if there is none that is whole and the user's own."""
    try:
        if not (_is_own(path.parent.stat()) and _is_own(path.stat())):
            return None
        content = path.read_bytes()
    except OSError:
        return None
    claimed, blob = content[:_HASH_BYTES], content[_HASH_BYTES:]
    return blob if hashlib.sha256(blob).digest() == claimed else None


def _is_own(facts: os.stat_result) -> bool:
    """Whether nobody but the user (and the system's owner) can have written it; unknown on Windows."""
    if not hasattr(os, "getuid"):
        return True
    others = stat.S_IWGRP | stat.S_IWOTH
    return facts.st_uid in (os.getuid(), 0) and not facts.st_mode & others


def _is_writable(folder: Path) -> bool:
    """Whether a file can be made in a folder, or the folder itself."""
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    return os.access(folder, os.W_OK)


def _store(path: Path, blob: bytes) -> None:
    if len(blob) > _LARGEST:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not _is_own(path.parent.stat()):
        return
    handle, name = tempfile.mkstemp(dir=path.parent, suffix=_PART)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(blob).digest() + blob)
        Path(name).replace(path)
    except OSError:
        Path(name).unlink(missing_ok=True)
        raise
    for ending in (_ENDING, _PART):  # runs that were killed leave parts
        for old in sorted(path.parent.glob(f"*{ending}"), key=lambda p: p.stat().st_mtime)[:-_MOST]:
            old.unlink(missing_ok=True)
