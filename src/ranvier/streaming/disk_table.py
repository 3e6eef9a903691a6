"""A table of fibres on disk: rows come in any order and are read in order of their ids."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from ranvier.calibration import PixelSize
from ranvier.errors import OutputError
from ranvier.micrograph import Array, Instances
from ranvier.morphometrics import measure

__all__ = ["CHUNK", "DiskTable"]

CHUNK = 1 << 14
"""Rows that are held at a time."""


class DiskTable:
    """The columns of :func:`ranvier.morphometrics.measure`, one row per fibre, ids from 1.

    Parameters
    ----------
    path
        A file of its own; deleted when the table is closed.
    count
        Number of fibres.
    pixel_size
        Decides the units, and so the names of columns.
    """

    def __init__(self, path: Path, count: int, pixel_size: PixelSize | None) -> None:
        none = np.zeros((1, 1), dtype=np.int32)
        template = measure(Instances(none, none, 0), pixel_size=pixel_size).table
        self.path, self.count, self.pixel_size = path, count, pixel_size
        self.columns = tuple(template)
        self._dtype = np.dtype([(name, values.dtype) for name, values in template.items()])
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.ftruncate(self._file, count * self._dtype.itemsize)

    def __enter__(self) -> DiskTable:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and delete it."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1
            self.path.unlink(missing_ok=True)

    def write(self, columns: Mapping[str, Array]) -> None:
        """Put rows where their ids, ascending, say.

        Raises
        ------
        OutputError
            The disk is full.
        """
        ids = np.asarray(columns["id"], dtype=np.int64)
        rows = np.zeros(ids.size, dtype=self._dtype)
        for name in self.columns:
            rows[name] = columns[name]
        for part in np.split(np.arange(ids.size), np.flatnonzero(np.diff(ids) != 1) + 1):
            if part.size:
                self._put(int(ids[part[0]]) - 1, rows[part[0] : part[-1] + 1])

    def _put(self, first: int, rows: Array) -> None:
        data = rows.tobytes()
        try:
            written = os.pwrite(self._file, data, first * self._dtype.itemsize)
        except OSError as error:
            raise OutputError("cannot write", where=self.path, seen=error.strerror) from error
        if written != len(data):
            raise OutputError("the disk is full", where=self.path.parent)

    def _rows(self, first: int, last: int) -> Array:
        size = self._dtype.itemsize
        data = os.pread(self._file, (last - first) * size, first * size)
        return np.frombuffer(bytearray(data), dtype=self._dtype)

    def chunks(self) -> Iterator[dict[str, Array]]:
        """The table from its first row on, so many rows at a time."""
        for first in range(0, self.count, CHUNK):
            rows = self._rows(first, min(first + CHUNK, self.count))
            yield {name: np.ascontiguousarray(rows[name]) for name in self.columns}

    def column(self, name: str) -> Array:
        """One column of all rows."""
        none = np.zeros(0, dtype=self._dtype[name])
        return np.concatenate([none, *(chunk[name] for chunk in self.chunks())])

    def dtype_of(self, name: str) -> np.dtype[Any]:
        """Type of a column."""
        return self._dtype[name]

    def picked(self, ids: Array) -> dict[str, Array]:
        """Rows of some ids."""
        rows = [self._rows(int(i) - 1, int(i)) for i in ids]
        found = np.concatenate(rows) if rows else np.zeros(0, dtype=self._dtype)
        return {name: np.ascontiguousarray(found[name]) for name in self.columns}

    def replace(self, name: str, values: Array) -> None:
        """Set one column of all rows."""
        for first in range(0, self.count, CHUNK):
            rows = self._rows(first, min(first + CHUNK, self.count))
            rows[name] = values[first : first + rows.size]
            self._put(first, rows)
