"""One stage on several processes and machines: one result, stopped together, resumed in the same bytes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftjobs import artifacts
from ftjobs.errors import UserError
from ftjobs.execution.runner import run_stage
from ftjobs.execution.topology import Topology
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from tests.fakes.s3_server import free_ports
from tests.helpers.pipelines import job_fields, write_rows

TWO = ["--num-processes", "2"]


@pytest.fixture
def job(make_encoder: Callable[..., Path], tmp_path: Path) -> Path:
    write_rows(tmp_path / "rows.csv")
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[])
    training = {"epochs": 20, "learning_rate": 1e-3, "per_device_batch_size": 4, "save_every": 7}
    fields["defaults"] = {"adapt": training, "classify": training}
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    return tmp_path / "job.yaml"


def prepared(job: Path, store: Path) -> Path:
    run_stage(plan(read(job))[0], open_storage(str(store)))
    return store


def start(job: Path, store: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ftjobs", "stage", str(job), "adapt", "--store", str(store), *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)


def start_machines(job: Path, store: Path) -> list[subprocess.Popen[str]]:
    """Two machines, the one that publishes first."""
    address = ["--num-machines", "2", "--main-address", "127.0.0.1", "--main-port", str(free_ports(1)[0])]
    return [start(job, store, *TWO, *address, "--machine-rank", str(rank)) for rank in range(2)]


def steps_saved(store: Path) -> set[int]:
    return {json.loads(path.read_text())["step"] for path in store.rglob("state/*/whole.json")}


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def switch_off(machine: subprocess.Popen[str]) -> None:
    """Kill all its processes."""
    (launcher,) = children(machine.pid)
    for process in (machine.pid, launcher, *children(launcher)):
        os.kill(process, signal.SIGKILL)
    machine.communicate()


def until_saved(store: Path, processes: list[subprocess.Popen[str]], after: int = 0) -> None:
    """Wait until there is training state of a later step than that."""
    while max(steps_saved(store), default=0) <= after:
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, log = process.communicate(timeout=240)
    return process.returncode, output, log


def published(job: Path, store: Path) -> Path:
    storage = open_storage(str(store))
    return store / artifacts.require(storage, select(plan(read(job)), "adapt")).folder


def model(job: Path, store: Path) -> bytes:
    return (published(job, store) / "model/model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_stop_together_and_go_on_to_the_same_bytes(job: Path, tmp_path: Path) -> None:
    whole, stopped = prepared(job, tmp_path / "whole"), prepared(job, tmp_path / "stopped")
    code, output, log = ended(start(job, whole, *TWO))
    assert code == 0, log
    assert json.loads(output)["best"]["loss"] < json.loads(output)["before"]["loss"]
    assert "trained on 2 processes, 8 examples a step" in (published(job, whole) / "model/README.md").read_text()

    process = start(job, stopped, *TWO)
    until_saved(stopped, [process])
    process.send_signal(signal.SIGTERM)
    code, _, log = ended(process)
    assert code == 143, log
    assert log.splitlines()[-1] == "stopped by SIGTERM"
    assert "Traceback" not in log
    step = max(steps_saved(stopped))
    code, _, log = ended(start(job, stopped, *TWO))
    assert code == 0, log
    assert f"resuming after step {step} of" in log
    assert model(job, stopped) == model(job, whole)
    assert not list(stopped.rglob("state/*/*"))


@pytest.mark.slow
def test_two_machines_make_what_two_processes_make_whatever_becomes_of_them(job: Path, tmp_path: Path) -> None:
    """One is killed, then the other asked to end; what is left goes with it, and is no failure."""
    alone, both = prepared(job, tmp_path / "alone"), prepared(job, tmp_path / "both")
    code, _, log = ended(start(job, alone, *TWO))
    assert code == 0, log

    first, second = start_machines(job, both)
    until_saved(both, [first, second])
    switch_off(second)
    code, _, log = ended(first)
    assert code == 75, log
    assert re.search(r"\nerror: adapt seed 1: .* begin again from the newest state\n$", log)
    before = max(steps_saved(both))

    first, second = start_machines(job, both)
    until_saved(both, [first, second], before)
    first.send_signal(signal.SIGTERM)
    (code, _, first_log), (other_code, _, second_log) = ended(first), ended(second)
    assert (code, other_code) == (143, 75), first_log + second_log
    assert f"resuming after step {before} of" in first_log
    assert "Traceback" not in first_log + second_log
    before = max(steps_saved(both))

    assert not list(both.rglob("failed.json"))
    (code, metrics, first_log), (other_code, nothing, second_log) = map(ended, start_machines(job, both))
    assert (code, other_code) == (0, 0), first_log + second_log
    assert f"resuming after step {before} of" in first_log
    assert nothing == ""
    assert "best_epoch" in json.loads(metrics)
    assert model(job, both) == model(job, alone)
    assert not list(both.rglob("running*.json"))


@pytest.mark.slow
def test_a_worker_that_fails_is_a_failure_of_its_machine_alone(job: Path, tmp_path: Path) -> None:
    store = prepared(job, tmp_path / "store")
    first, second = start_machines(job, store)
    until_saved(store, [first, second])
    (launcher,) = children(second.pid)
    (worker,) = children(launcher)
    os.kill(worker, signal.SIGKILL)
    (code, _, first_log), (other_code, _, second_log) = ended(first), ended(second)
    assert (code, other_code) == (75, 1), first_log + second_log
    assert second_log.splitlines()[-1] == "error: adapt seed 1: a worker ended without a result (exit code 1)"


@pytest.mark.slow
def test_what_a_worker_refuses_is_said_in_one_line(job: Path, tmp_path: Path) -> None:
    overrides = ["--set", "stages.adapt.mixed_precision=fp16"]
    process = start(job, prepared(job, tmp_path / "store"), *TWO, *overrides)
    code, output, log = ended(process)
    assert code == 2, log
    assert output == ""
    assert log.splitlines()[-1].startswith("error: mixed_precision: fp16 needs a GPU")
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"processes": 3, "machines": 2}, "a multiple of the number of machines"),
        ({"processes": 0}, "--num-processes 0"),
        ({"processes": 2, "machines": 2, "rank": 2, "address": "here"}, "--machine-rank 2: is none of the 2 machines"),
        ({"processes": 2, "machines": 2}, "need --main-address"),
    ],
)
def test_numbers_that_do_not_fit(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Topology(**fields)
