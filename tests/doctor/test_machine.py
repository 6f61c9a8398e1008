from pathlib import Path

import pytest
import torch

from ftjobs.doctor import machine


@pytest.mark.parametrize(("threads", "state"), [(2, "ok"), (3, "warning")])
def test_more_threads_than_cores_are_a_warning(threads: int, state: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "usable_cores", lambda: 2.5)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    finding = machine._cores()
    assert (finding.state, finding.remedy.endswith("set OMP_NUM_THREADS=2")) == (state, state == "warning")


def test_driver_without_gpu_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "on_cpu", lambda: True)
    monkeypatch.setattr(machine, "_NVIDIA", tmp_path / "version")
    assert machine._device().state == "ok"
    (tmp_path / "version").touch()
    assert machine._device().state == "problem"


@pytest.mark.parametrize("kind", ["no", "bf16"])
def test_correct_arithmetic_is_ok(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "resolve_precision", lambda *_: kind)
    monkeypatch.setattr(machine, "autocast", lambda *_: torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"))
    finding = machine._arithmetic()
    assert (finding.state, finding.found.split(",")[0]) == ("ok", {"no": "fp32", "bf16": "bf16"}[kind])


def test_wrong_arithmetic_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    right = torch.Tensor.__matmul__
    monkeypatch.setattr(
        torch.Tensor, "__matmul__", lambda a, b: right(a, b) * (1.0 if a.dtype == torch.double else 1.1)
    )
    assert machine._arithmetic().state == "problem"


@pytest.mark.skipif(not Path("/proc/mounts").exists(), reason="there is no /proc/mounts")
def test_tmpfs_is_detected_by_its_mount() -> None:
    kinds = {line.split()[1]: line.split()[2] for line in Path("/proc/mounts").read_text().splitlines()}
    assert not machine._in_memory("/proc")
    for place, kind in kinds.items():
        if kind == "tmpfs" and Path(place).is_dir():
            assert machine._in_memory(f"{place}/anything")


def test_memory_of_a_container_is_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert "limit" not in machine._memory().found
    (tmp_path / "memory.max").write_text(f"{2**30}\n")
    assert machine._memory().found == "1.0 GiB, the limit of this container"
