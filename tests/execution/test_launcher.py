"""One stage on several processes and nodes: one result, stopped together, resumed to the same bytes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
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
from tests.helpers.interruptions import saved_steps_in, wait_for_state
from tests.helpers.messages import mentions
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


def start_nodes(job: Path, store: Path) -> list[subprocess.Popen[str]]:
    """Start a stage on two nodes; returns their processes by rank."""
    address = ["--num-machines", "2", "--main-address", "127.0.0.1", "--main-port", str(free_ports(1)[0])]
    return [start(job, store, *TWO, *address, "--machine-rank", str(rank)) for rank in range(2)]


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def kill_node(node: subprocess.Popen[str]) -> None:
    """Kill all processes of a node."""
    (launcher,) = children(node.pid)
    for process in (node.pid, launcher, *children(launcher)):
        os.kill(process, signal.SIGKILL)
    node.communicate()


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, log = process.communicate(timeout=240)
    return process.returncode, output, log


def published(job: Path, store: Path) -> Path:
    storage = open_storage(str(store))
    return store / artifacts.require_manifest(storage, select(plan(read(job)), "adapt")).folder


def model(job: Path, store: Path) -> bytes:
    return (published(job, store) / "model/model.safetensors").read_bytes()


@pytest.mark.slow
def test_two_processes_stop_together_and_resume_to_the_same_bytes(job: Path, tmp_path: Path) -> None:
    complete, stopped = prepared(job, tmp_path / "whole"), prepared(job, tmp_path / "stopped")
    code, output, log = ended(start(job, complete, *TWO))
    assert code == 0, log
    assert json.loads(output)["best"]["loss"] < json.loads(output)["before"]["loss"]
    assert mentions((published(job, complete) / "model/README.md").read_text(), "2 processes", "8 examples")

    process = start(job, stopped, *TWO)
    wait_for_state(stopped, [process])
    process.send_signal(signal.SIGTERM)
    code, _, log = ended(process)
    assert code == 143, log
    assert log.splitlines()[-1] == "stopped by SIGTERM"
    assert "Traceback" not in log
    step = max(saved_steps_in(stopped))
    code, _, log = ended(start(job, stopped, *TWO))
    assert code == 0, log
    assert f"resuming after step {step} of" in log
    assert model(job, stopped) == model(job, complete)
    assert not list(stopped.rglob("state/*/*"))


@pytest.mark.slow
def test_two_nodes_publish_the_bytes_of_two_processes_despite_failures(job: Path, tmp_path: Path) -> None:
    """First one node is killed, then the other gets SIGTERM; its peer ends too, which is no failure."""
    alone, both = prepared(job, tmp_path / "alone"), prepared(job, tmp_path / "both")
    code, _, log = ended(start(job, alone, *TWO))
    assert code == 0, log

    first, second = start_nodes(job, both)
    wait_for_state(both, [first, second])
    kill_node(second)
    code, _, log = ended(first)
    assert code == 75, log
    assert re.search(r"\nerror: adapt seed 1: .*\n$", log)
    before = max(saved_steps_in(both))

    first, second = start_nodes(job, both)
    wait_for_state(both, [first, second], before)
    first.send_signal(signal.SIGTERM)
    (code, _, first_log), (other_code, _, second_log) = ended(first), ended(second)
    assert (code, other_code) == (143, 75), first_log + second_log
    assert f"resuming after step {before} of" in first_log
    assert "Traceback" not in first_log + second_log
    before = max(saved_steps_in(both))

    assert not list(both.rglob("failed.json"))
    (code, metrics, first_log), (other_code, nothing, second_log) = map(ended, start_nodes(job, both))
    assert (code, other_code) == (0, 0), first_log + second_log
    assert f"resuming after step {before} of" in first_log
    assert nothing == ""
    assert "best_epoch" in json.loads(metrics)
    assert model(job, both) == model(job, alone)
    assert not list(both.rglob("running*.json"))


@pytest.mark.slow
def test_failed_worker_fails_only_its_node(job: Path, tmp_path: Path) -> None:
    store = prepared(job, tmp_path / "store")
    first, second = start_nodes(job, store)
    wait_for_state(store, [first, second])
    (launcher,) = children(second.pid)
    (worker,) = children(launcher)
    os.kill(worker, signal.SIGKILL)
    (code, _, first_log), (other_code, _, second_log) = ended(first), ended(second)
    assert (code, other_code) == (75, 1), first_log + second_log
    last_line = second_log.splitlines()[-1]
    assert last_line.startswith("error: adapt seed 1: ")
    assert "exit code 1" in last_line


@pytest.mark.slow
def test_user_error_of_worker_is_one_line(job: Path, tmp_path: Path) -> None:
    overrides = ["--set", "stages.adapt.mixed_precision=fp16"]
    process = start(job, prepared(job, tmp_path / "store"), *TWO, *overrides)
    code, output, log = ended(process)
    assert code == 2, log
    assert output == ""
    assert log.splitlines()[-1].startswith("error: mixed_precision: fp16 ")
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"processes": 3, "nodes": 2}, "--num-processes 3 --num-machines 2: .*multiple"),
        ({"processes": 0}, "--num-processes 0"),
        ({"processes": 2, "nodes": 2, "rank": 2, "address": "here"}, "--machine-rank 2: .*from 0 to 1"),
        ({"processes": 2, "nodes": 2}, "--num-machines 2: .*--main-address"),
    ],
)
def test_topology_rejects_inconsistent_numbers(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Topology(**fields)
