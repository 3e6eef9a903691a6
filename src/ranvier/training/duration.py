"""A length of time, as users write it."""

from __future__ import annotations

import re

from ranvier.errors import SettingsError

_SECONDS = {"s": 1, "m": 60, "h": 3600}


def seconds(text: str, *, where: str = "--time-budget") -> float:
    """``90s``, ``60m``, ``1.5h`` in seconds.

    Raises
    ------
    SettingsError
        Another form.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh])", text.strip())
    if match is None or float(match[1]) == 0:
        raise SettingsError("not a time", where=where, seen=text, fix="Write e.g. 60m, 90s or 1.5h")
    return float(match[1]) * _SECONDS[match[2]]
