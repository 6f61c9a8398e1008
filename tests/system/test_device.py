"""Cores available to a process."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjobs.system import device


def test_usable_cores_respects_container_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "CGROUP", tmp_path)
    monkeypatch.setattr(device.os, "sched_getaffinity", lambda _: set(range(64)))
    assert device.usable_cores() == 64
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert device.usable_cores() == 64
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert device.usable_cores() == 1.5
