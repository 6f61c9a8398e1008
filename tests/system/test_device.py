"""Cores available to a process, and its peak memory since the last reset."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from ftjobs.system import device

MEGABYTE = 2**20


def test_usable_cores_respects_container_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda _: set(range(64)))
    assert device.usable_cores() == 64
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert device.usable_cores() == 64
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert device.usable_cores() == 1.5


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_peak_memory_excludes_earlier_stages_of_the_process() -> None:
    device.reset_peak_memory()
    before, where = device.peak_memory()
    earlier = np.ones(200 * MEGABYTE, dtype=np.uint8)
    large, _ = device.peak_memory()
    del earlier
    assert large - before > 190 * MEGABYTE
    device.reset_peak_memory()
    assert where == "process"
    assert device.peak_memory()[0] < large - 150 * MEGABYTE


def test_peak_memory_without_procfs_is_that_of_the_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(device, "_PROCESS", tmp_path / "none")
    device.reset_peak_memory()
    peak, where = device.peak_memory()
    assert where == "process"
    assert 100 * MEGABYTE < peak <= 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
