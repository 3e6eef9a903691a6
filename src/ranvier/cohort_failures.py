"""Images of a cohort that failed: one file each as it happens, and a table of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np

from ranvier.cohort_manifest import Entry
from ranvier.cohort_store import FAILED, read_json
from ranvier.exporting import json_bytes
from ranvier.tables import table_csv

__all__ = ["FAILURE_COLUMNS", "Failure", "failures_csv"]

FAILURE_COLUMNS = ("row", "image", "file", "error", "reason")


@dataclass(frozen=True)
class Failure:
    """Why a request has no results.

    Attributes
    ----------
    request, key
        What failed, and from which bytes; no key where they could not be read.
    error, reason
        Kind of the error and its text, in one line.
    """

    request: str
    key: str | None
    error: str
    reason: str

    @property
    def content(self) -> bytes:
        """As it is written."""
        return json_bytes(asdict(self))

    def place(self, shard: Path) -> Path:
        """Where it is written, in the folder of a shard."""
        return shard / FAILED / f"{self.request}.json"

    @classmethod
    def of_shard(cls, shard: Path) -> dict[str, Self]:
        """All that a shard has recorded, by request."""
        found = {}
        for path in sorted((shard / FAILED).glob("*.json")):
            record = read_json(path)
            try:
                found[path.stem] = cls(**record)
            except TypeError:
                found[path.stem] = cls(path.stem, None, "unknown", f"{path} cannot be read")
        return found

    @classmethod
    def forget(cls, shard: Path, request: str) -> None:
        """Remove a record."""
        (shard / FAILED / f"{request}.json").unlink(missing_ok=True)


def failures_csv(rows: Iterable[tuple[Entry, Failure]]) -> bytes:
    """The table of failures, by row of the manifest, with the columns of ``FAILURE_COLUMNS``."""
    lines = sorted((e.row, e.id, e.file, f.error, f.reason) for e, f in rows)
    columns = list(zip(*lines, strict=True)) or [()] * len(FAILURE_COLUMNS)
    table = {n: np.array(v, dtype=object) for n, v in zip(FAILURE_COLUMNS, columns, strict=True)}
    return table_csv(table)
