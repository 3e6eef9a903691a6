"""Which process made a temporary folder, told by its name, so that what a killed one left can be removed."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import secrets
import sys
from pathlib import Path

__all__ = ["is_abandoned", "owned_name"]

_OWNED = re.compile(r"(?P<process>\d{1,10})@(?P<machine>.+)\.[0-9a-f]{16}")


def owned_name() -> str:
    """A name that nothing has yet: the number of this process, the machine, and chance."""
    return f"{os.getpid()}@{_here()}.{secrets.token_hex(8)}"


def is_abandoned(name: str) -> bool:
    """Whether a name of :func:`owned_name` is that of a process of this machine that has ended.

    False for other names, for other machines, and where it cannot be told.
    """
    found = _OWNED.fullmatch(name)
    if found is None or found["machine"] != _here():
        return False
    return not _runs(int(found["process"]))


def _here() -> str:
    """Name of this machine and, where processes are counted by container, this container."""
    try:
        space = f"-{Path('/proc/self/ns/pid').stat().st_ino}"
    except OSError:
        space = ""
    # Hashed, as names of hosts may be long and those of files may not.
    return hashlib.sha256(f"{platform.node()}{space}".encode()).hexdigest()[:12]


def _runs(process: int) -> bool:
    """Whether a process is there; where asking could harm it, yes."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
