"""`ftjobs conduct` as its user runs it: what it prints, how it ends."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ftjobs import artifacts, cli
from ftjobs.system.progress import LOG
from tests.fakes.toy_cluster import ToyCluster


def start(folder: Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FTJOBS_", "KUBE"))}
    return subprocess.Popen(
        [Path(sys.executable).parent / "ftjobs", "conduct", folder / "toy.yaml"],
        env=environment | {"KUBECONFIG": str(folder / "kubeconfig"), "FTJOBS_STORE": str(folder / "store")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """Exit code of the command, run in this process."""
    for name in ("handlers", "level", "propagate"):  # a command that logs sets them for good
        monkeypatch.setattr(LOG, name, getattr(LOG, name))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setenv("FTJOBS_STORE", str(folder / "store"))
    monkeypatch.setattr(sys, "argv", ["ftjobs", "conduct", str(folder / "toy.yaml"), *options])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_stopped_and_started_again(toy: ToyCluster, tmp_path: Path) -> None:
    process = start(tmp_path)
    end = time.monotonic() + 30
    while toy.api.jobs[toy.stages[0].name]["spec"]["suspend"]:
        assert time.monotonic() < end
        time.sleep(0.01)
    stopping = time.monotonic()
    process.terminate()
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 143
    assert stderr.splitlines()[-1] == "stopped by SIGTERM"
    assert time.monotonic() - stopping < 5
    with toy.running():
        process = start(tmp_path)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    report = artifacts.require(toy.storage, toy.stages[-1].runs[0])
    assert stdout == f"{toy.storage.uri(report.folder)}\n"
    lines = [line.partition(" ")[2] for line in stderr.splitlines()]
    assert lines[0] == (
        f"conducting toy: 5 Jobs for 8 artifacts, in namespace team at {toy.api.url}; artifacts in {tmp_path}/store"
    )
    assert lines[-1] == "report: published"


def test_a_failed_stage(
    toy: ToyCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.fails["prepare"] = {0}
    with toy.running():
        assert ended(tmp_path, monkeypatch, "--namespace", "team", "--context", "here") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    errors = [line.removeprefix("error: ") for line in printed.err.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith("prepare failed: FailedIndexes: Job has failed indexes; its log: `kubectl ")
    assert errors[1].startswith("nothing more can run; adapt, plain, adapted, report will not run without; mend it")


def test_no_cluster(
    toy: ToyCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kubeconfig").unlink()
    assert ended(tmp_path, monkeypatch) == 2
    assert capsys.readouterr().err.startswith("error: no way to a Kubernetes cluster: no kubeconfig at ")


@pytest.mark.slow
def test_killed_again_and_again(toy: ToyCluster, tmp_path: Path) -> None:
    """SIGKILL soon after it has changed something; the fourth may live."""
    moments = random.Random(3)
    with toy.running(0.1):
        for _ in range(3):
            process = start(tmp_path)
            before = toy.api.count("patch")
            while toy.api.count("patch") == before and process.poll() is None:
                time.sleep(0.005)
            time.sleep(moments.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        process = start(tmp_path)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert toy.too_early == []
    assert set(toy.ran) == {run.title for stage in toy.stages for run in stage.runs}
