"""Memory-mapped arrays and tables."""

from __future__ import annotations

import errno
import io
import tempfile
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from ftjobs.data import memory_mapped


@pytest.mark.parametrize("dtype", [np.int32, bool, np.int8])
@pytest.mark.parametrize("parts", [[], [[]], [[1, 0], [], [1]], [[1] * 5000] * 3])
def test_array_file_returns_appended_values(dtype: Any, parts: list[list[int]]) -> None:
    file = memory_mapped.ArrayFile(dtype)
    for part in parts:
        file.append(part)
    array = file.mapped()
    assert array.dtype == dtype
    assert array.tolist() == np.array([value for part in parts for value in part], dtype).tolist()


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (3, 4), (300, 1000)])
def test_zeros_are_writable(shape: tuple[int, int]) -> None:
    array = memory_mapped.zeros(shape, np.float32)
    assert (array.shape, array.dtype, array.any()) == (shape, np.float32, False)
    array[:] = np.arange(array.size).reshape(shape)
    assert array.sum() == np.arange(array.size, dtype=np.float32).sum()


def test_table_file_does_not_allocate_memory() -> None:
    file = memory_mapped.TableFile()
    rows = pa.table({"text": ["a" * 1000, "b"] * 1000, "number": range(2000)})
    before = pa.total_allocated_bytes()
    for start in range(0, 2000, 300):
        file.append(rows.slice(start, 300))
    array = file.mapped()
    assert array.equals(rows)
    assert pa.total_allocated_bytes() - before < 100_000 < rows.nbytes / 5


def test_full_disk_raises_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full("/dev/null", "r+"))
    with pytest.raises(OSError, match="No space left"):
        memory_mapped.zeros((10, 10), np.float32)
    with pytest.raises(OSError, match="No space left"):
        memory_mapped.ArrayFile(np.int8).append([1])
