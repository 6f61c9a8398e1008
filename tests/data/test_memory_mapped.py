"""Arrays and tables in files read as those in memory do, and a full disk is an error and no crash."""

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
def test_an_array_grows(dtype: Any, parts: list[list[int]]) -> None:
    file = memory_mapped.ArrayFile(dtype)
    for part in parts:
        file.append(part)
    found = file.mapped()
    assert found.dtype == dtype
    assert found.tolist() == np.array([value for part in parts for value in part], dtype).tolist()


@pytest.mark.parametrize("shape", [(0, 4), (3, 0), (3, 4), (300, 1000)])
def test_zeros_can_be_written_to(shape: tuple[int, int]) -> None:
    found = memory_mapped.zeros(shape, np.float32)
    assert (found.shape, found.dtype, found.any()) == (shape, np.float32, False)
    found[:] = np.arange(found.size).reshape(shape)
    assert found.sum() == np.arange(found.size, dtype=np.float32).sum()


def test_a_table_grows_and_is_no_memory_of_the_process() -> None:
    file = memory_mapped.TableFile()
    rows = pa.table({"text": ["a" * 1000, "b"] * 1000, "number": range(2000)})
    before = pa.total_allocated_bytes()
    for start in range(0, 2000, 300):
        file.append(rows.slice(start, 300))
    found = file.mapped()
    assert found.equals(rows)
    assert pa.total_allocated_bytes() - before < 100_000 < rows.nbytes / 5


def test_a_full_disk_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.FileIO):
        def write(self, _: Any) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: Full("/dev/null", "r+"))
    with pytest.raises(OSError, match="No space left"):
        memory_mapped.zeros((10, 10), np.float32)
    with pytest.raises(OSError, match="No space left"):
        memory_mapped.ArrayFile(np.int8).append([1])
