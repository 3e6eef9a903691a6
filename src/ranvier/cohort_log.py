"""When, where and how long: facts of a run that differ each time, kept apart from its results."""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TextIO

from ranvier.cohort_plan import Shard
from ranvier.errors import OutputError
from ranvier.provenance import versions
from ranvier.writing import make_folder

__all__ = ["RunLog"]


class RunLog:
    """One file per run, a JSON object a line; a run that was killed leaves the lines that it had written."""

    def __init__(self, folder: Path, shard: Shard) -> None:
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%f")
        name = f"{now}-{platform.node() or 'host'}-{os.getpid()}-{shard}.jsonl"
        self._file = _new(make_folder(folder / "logs") / name)

    def __enter__(self) -> Self:
        self.write("host", host=platform.node(), system=platform.platform(), versions=versions())
        return self

    def write(self, what: str, **facts: Any) -> None:
        """Add a line.

        Raises
        ------
        OutputError
            It cannot be written.
        """
        time = datetime.now(UTC).isoformat(timespec="milliseconds")
        try:
            self._file.write(json.dumps({"what": what, "time": time, **facts}) + "\n")
            self._file.flush()
        except OSError as error:
            raise OutputError("cannot write", where=self._file.name, seen=error.strerror) from error

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _new(path: Path) -> TextIO:
    try:
        return path.open("a", encoding="utf-8")
    except OSError as error:
        raise OutputError("cannot write", where=path, seen=error.strerror) from error
