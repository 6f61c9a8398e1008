"""`ftjobs conduct` as a process: output, exit code, and restarts; commands without the optional client."""

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
from tests.fakes.toy_cluster import ToyCluster, toy_stages


def start_controller(folder: Path) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("FTJOBS_", "KUBE"))}
    return subprocess.Popen(
        [Path(sys.executable).parent / "ftjobs", "conduct", folder / "toy.yaml"],
        env=environment | {"KUBECONFIG": str(folder / "kubeconfig"), "FTJOBS_STORE": str(folder / "store")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run_command(folder: Path, monkeypatch: pytest.MonkeyPatch, *options: str) -> int:
    """Run the command in this process and return its exit code."""
    for name in ("handlers", "level", "propagate"):  # commands that log change them
        monkeypatch.setattr(LOG, name, getattr(LOG, name))
    monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
    monkeypatch.setenv("FTJOBS_STORE", str(folder / "store"))
    monkeypatch.setattr(sys, "argv", ["ftjobs", "conduct", str(folder / "toy.yaml"), *options])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_controller_resumes_after_sigterm(toy: ToyCluster, tmp_path: Path) -> None:
    process = start_controller(tmp_path)
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
        process = start_controller(tmp_path)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    report = artifacts.require_manifest(toy.storage, toy.stages[-1].runs[0])
    assert stdout == f"{toy.storage.uri(report.folder)}\n"
    lines = [line.partition(" ")[2] for line in stderr.splitlines()]
    for value in ("toy", "5 Jobs", "8 artifacts", "namespace team", toy.api.url, f"{tmp_path}/store"):
        assert value in lines[0]
    assert lines[-1] == "report: published"


def test_failed_stage_exits_with_1_and_names_blocked_stages(
    toy: ToyCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy.fails["prepare"] = {0}
    with toy.running():
        assert run_command(tmp_path, monkeypatch, "--namespace", "team", "--context", "here") == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    errors = [line.removeprefix("error: ") for line in printed.err.splitlines() if line.startswith("error: ")]
    assert errors[0].startswith("prepare failed: FailedIndexes: ")
    assert f"kubectl --namespace team logs job/{toy.named('prepare').name}" in errors[0]
    assert "blocked: adapt, plain, adapted, report;" in errors[1]


def test_missing_kubeconfig_exits_with_2(
    toy: ToyCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "kubeconfig").unlink()
    assert run_command(tmp_path, monkeypatch) == 2
    assert f"no kubeconfig at {tmp_path}/kubeconfig; set KUBECONFIG" in capsys.readouterr().err


@pytest.mark.slow
def test_controller_resumes_after_repeated_sigkill(toy: ToyCluster, tmp_path: Path) -> None:
    """Three controllers get SIGKILL shortly after their first patch; the fourth runs to the end."""
    delays = random.Random(3)
    with toy.running(0.1):
        for _ in range(3):
            process = start_controller(tmp_path)
            patches = toy.api.count("patch")
            while toy.api.count("patch") == patches and process.poll() is None:
                time.sleep(0.005)
            time.sleep(delays.uniform(0.0, 0.5))
            process.send_signal(signal.SIGKILL)
            process.communicate()
        process = start_controller(tmp_path)
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert toy.too_early == []
    assert set(toy.ran) == {run.title for stage in toy.stages for run in stage.runs}


@pytest.mark.parametrize(
    "arguments",
    [["submit", "--image", "ftjobs:0.1.0", "--store", "s3://bucket/runs"], ["conduct"]],
    ids=lambda arguments: arguments[0],
)
def test_missing_client_is_one_line_with_the_pip_command(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "kubernetes", None)  # as if not installed
    command, *options = arguments
    monkeypatch.setattr(sys, "argv", ["ftjobs", command, str(tmp_path / "toy.yaml"), *options])
    with pytest.raises(SystemExit) as end:
        cli.main()
    printed = capsys.readouterr()
    assert (end.value.code, printed.out, len(printed.err.splitlines())) == (2, "", 1)
    assert "`pip install 'ftjobs[kubernetes]'`" in printed.err


def test_render_works_without_the_client(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    toy_stages(tmp_path)
    options = ["--image", "ftjobs:0.1.0", "--store", "s3://bucket/runs"]
    for name in [name for name in sys.modules if name.startswith(("kubernetes", "ftjobs.kubernetes"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "kubernetes", None)  # as if not installed
    monkeypatch.setattr(sys, "argv", ["ftjobs", "render", str(tmp_path / "toy.yaml"), *options])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    assert capsys.readouterr().out.startswith("# Pipeline toy")
