"""Arrays and tables larger than memory, written to temporary files in pieces and memory-mapped.

The kernel loads mapped pages on use and drops them under memory pressure. The files are unlinked on creation, so they
disappear when the process ends for any reason.
"""

from __future__ import annotations

import math
import mmap
import tempfile
from typing import Any

import numpy as np
import pyarrow as pa

_PREFIX = "ftjobs-"
_PIECE = 2**20


class ArrayFile:
    """A one-dimensional array in a file, to append to."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(prefix=_PREFIX)  # noqa: SIM115 (closed by `mapped`)
        self._empty = True

    def append(self, values: Any) -> None:
        """Append a sequence or array (N,)."""
        values = np.asarray(values, dtype=self._dtype)
        self._file.write(values.data)
        self._empty = self._empty and not len(values)

    def mapped(self) -> np.ndarray:
        """Return all values memory-mapped: (N,), read-only."""
        with self._file as file:
            if self._empty:  # an empty file cannot be mapped
                return np.zeros(0, self._dtype)
            file.flush()
            return np.asarray(np.memmap(file, self._dtype, mode="r"))


def zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return a writable memory-mapped array of zeros."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile(prefix=_PREFIX) as file:
        if not size:
            return np.zeros(shape, dtype)
        # Written instead of a sparse file: a full disk raises an error here and would kill the process later.
        for start in range(0, size, _PIECE):
            file.write(bytes(min(_PIECE, size - start)))
        file.flush()
        return np.asarray(np.memmap(file, dtype, mode="r+", shape=shape))


class TableFile:
    """A table in a file, to append rows to."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix=_PREFIX)  # noqa: SIM115 (closed by `mapped`)
        self._writer: Any = None

    def append(self, table: pa.Table) -> None:
        """Append rows. All tables must have the schema of the first."""
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._file, table.schema)
        self._writer.write_table(table)

    def mapped(self) -> pa.Table:
        """Return all rows memory-mapped."""
        with self._file as file:
            self._writer.close()
            file.flush()
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(pages))).read_all()
