"""Data larger than memory: written to a file of the temporary folder piece by piece, then mapped into memory.

What is mapped is not the process's own memory: the kernel reads pages of it when they are used and drops them when it
needs room. The files have no names, so they vanish with the process, however it ends.
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
    """A flat array that grows in a file."""

    def __init__(self, dtype: Any) -> None:
        self._dtype = np.dtype(dtype)
        self._file = tempfile.TemporaryFile(prefix=_PREFIX)  # noqa: SIM115 (closed by `mapped`)
        self._empty = True

    def append(self, values: Any) -> None:
        """Add values at the end: a sequence or array (N,)."""
        values = np.asarray(values, dtype=self._dtype)
        self._file.write(values.data)
        self._empty = self._empty and not len(values)

    def mapped(self) -> np.ndarray:
        """All that was added: (N,), read-only."""
        with self._file as file:
            if self._empty:  # nothing cannot be mapped
                return np.zeros(0, self._dtype)
            file.flush()
            return np.asarray(np.memmap(file, self._dtype, mode="r"))


def zeros(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """An array of zeros in a file, to be written to."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    with tempfile.TemporaryFile(prefix=_PREFIX) as file:
        if not size:
            return np.zeros(shape, dtype)
        # Written, not just promised: a disk that is full is an error here, and would kill the process later.
        for start in range(0, size, _PIECE):
            file.write(bytes(min(_PIECE, size - start)))
        file.flush()
        return np.asarray(np.memmap(file, dtype, mode="r+", shape=shape))


class TableFile:
    """A table whose rows are added in a file."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile(prefix=_PREFIX)  # noqa: SIM115 (closed by `mapped`)
        self._writer: Any = None

    def append(self, table: pa.Table) -> None:
        """Add rows; all tables have the schema of the first."""
        if self._writer is None:
            self._writer = pa.ipc.new_file(self._file, table.schema)
        self._writer.write_table(table)

    def mapped(self) -> pa.Table:
        """All rows that were added."""
        with self._file as file:
            self._writer.close()
            file.flush()
            pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return pa.ipc.open_file(pa.BufferReader(pa.py_buffer(pages))).read_all()
