"""Peak memory is that of what ran since it was last asked to start over."""

from __future__ import annotations

import resource
from pathlib import Path

import numpy as np
import pytest

from ftjobs.training import memory

MEGABYTE = 2**20


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux can start over")
def test_a_stage_does_not_count_what_an_earlier_one_in_the_same_process_needed() -> None:
    memory.start_over()
    before, where = memory.peak()
    earlier = np.ones(200 * MEGABYTE, dtype=np.uint8)
    large, _ = memory.peak()
    del earlier
    assert large - before > 190 * MEGABYTE
    memory.start_over()
    assert where == "process"
    assert memory.peak()[0] < large - 150 * MEGABYTE


def test_where_the_system_tells_only_of_the_whole_process(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(memory, "_PROCESS", tmp_path / "none")
    memory.start_over()
    peak, where = memory.peak()
    assert where == "process"
    assert 100 * MEGABYTE < peak <= 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
