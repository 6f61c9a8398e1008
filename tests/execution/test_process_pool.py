"""`run --parallel`: the same bytes as a serial run, errors in one line, and all stages stop together."""

from __future__ import annotations

import json
import logging
import os
import pickle
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from ftjobs.errors import FtjobsError, InputsNotPublished, UserError
from ftjobs.execution import process_pool, runner
from ftjobs.jobfile.read import read
from ftjobs.plan import plan
from ftjobs.storage import open_storage
from ftjobs.system import device
from tests.helpers.interruptions import published_models, saved_steps
from tests.helpers.pipelines import job_fields, write_rows

TIMEOUT_SECONDS = 60.0


@pytest.fixture
def job(make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A job with two seeds of an adaptation and a classifier on each, and a classifier that needs no adaptation."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_rows(tmp_path / "rows.csv")
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[], seeds=[1, 2])
    fields["stages"] = {name: fields["stages"][name] for name in ("head", "adapt", "adapted-head")}
    fields["defaults"]["adapt"]["save_every"] = 10
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    return tmp_path / "job.yaml"


def start(job: Path, store: Path, *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ftjobs", "run", str(job), "--store", str(store), "--parallel", "2", *arguments]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def stage_processes(main: subprocess.Popen[str]) -> list[int]:
    """Return the ids of the processes that run stages."""
    children = Path(f"/proc/{main.pid}/task/{main.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def until_two_train(process: subprocess.Popen[str], store: Path) -> None:
    """Wait until both adaptations have saved their state, so that both are training."""
    end = time.monotonic() + TIMEOUT_SECONDS
    while len({path.parts[-5] + path.parts[-4] for path in store.rglob("adapt/*/*/state/*/whole.json")}) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_parallel_run_publishes_the_bytes_of_a_serial_run(job: Path, tmp_path: Path) -> None:
    runs = plan(read(job))
    process = start(job, tmp_path / "store")
    output, log = process.communicate()
    assert process.returncode == 0, log
    assert output.startswith("# toy\n")
    assert "`adapted-head`" in output
    in_turn, together = open_storage(str(tmp_path / "in-turn")), open_storage(str(tmp_path / "store"))
    subprocess.run(
        [sys.executable, "-m", "ftjobs", "run", str(job), "--store", str(tmp_path / "in-turn")],
        check=True,
        capture_output=True,
    )
    assert published_models(together, runs, tmp_path / "a") == published_models(in_turn, runs, tmp_path / "b")

    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in log.splitlines()]
    begun = [match[1] for line in lines if (match := re.match(r"\[\d/8\] (.+): running$", line))]
    assert begun[:3] == ["prepare", "adapt seed 1", "adapt seed 2"]
    assert sorted(begun) == sorted(run.title for run in runs)
    for line in (line for line in lines if "adapting on" in line or "newly initialised" in line):
        assert re.match(r"(adapt|head|adapted-head) seed [12]: ", line), line
    for run in runs:
        running = next(place for place, line in enumerate(lines) if line.endswith(f"] {run.title}: running"))
        for title in {source.title for source in run.inputs.values()}:
            assert lines.index(next(line for line in lines if line.startswith(f"{title}: published"))) < running


def test_published_stages_start_no_process(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs, storage = plan(read(job)), open_storage(str(tmp_path / "store"))
    manifests = runner.run_all(runs, storage)
    monkeypatch.setattr(process_pool, "_StageProcess", None)
    monkeypatch.setattr(process_pool.LOG, "propagate", True)
    with caplog.at_level(logging.INFO):
        assert process_pool.run_all(runs, storage, 4) == manifests
    logged = [record.message for record in caplog.records]
    assert [line.partition(":")[0] for line in logged] == [run.title for run in runs]
    assert all(run.identity[:12] in line for run, line in zip(runs, logged, strict=True))


def test_resumed_pipeline_uses_the_same_number_of_threads(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few stages remain: the number of threads can change the last bits of a result."""
    runs, storage = plan(read(job)), open_storage(str(tmp_path / "store"))
    runner.run_stage(runs[0], storage)
    started: list[tuple[Any, ...]] = []

    class Started(Exception): ...

    def worker(*arguments: Any) -> None:
        started.append(arguments[:2])
        raise Started

    monkeypatch.setattr(process_pool, "_StageProcess", worker)
    with pytest.raises(Started):
        process_pool.run_all(runs[:2], storage, 4)
    assert started == [(0, 4)]


@pytest.mark.slow
def test_sigterm_stops_all_stages_and_all_resume(job: Path, tmp_path: Path) -> None:
    """They end in the bytes of a run that was never stopped."""
    overrides = ["--set", "defaults.adapt.epochs=40"]
    runs = plan(read(job, overrides[1:]))
    process = start(job, tmp_path / "store", *overrides)
    until_two_train(process, tmp_path / "store")
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=TIMEOUT_SECONDS)
    assert process.returncode == 143, log
    assert log.splitlines()[-1] == "stopped by SIGTERM"
    assert "Traceback" not in log
    store = open_storage(str(tmp_path / "store"))
    before = saved_steps(store, runs)
    assert set(before) == {"adapt seed 1", "adapt seed 2"}

    process = start(job, tmp_path / "store", *overrides)
    _, log = process.communicate()
    assert process.returncode == 0, log
    for title, step in before.items():
        assert f"{title}: resuming after step {step} of" in log
    complete = open_storage(str(tmp_path / "whole"))
    process = start(job, tmp_path / "whole", *overrides)
    process.communicate()
    assert process.returncode == 0
    assert published_models(store, runs, tmp_path / "a") == published_models(complete, runs, tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "refused"])
def test_failed_stage_stops_the_others_with_their_state_saved(job: Path, tmp_path: Path, how: str) -> None:
    overrides = ["--set", "defaults.adapt.epochs=400"]
    if how == "refused":  # an error that needs the encoder, found once the stage runs
        overrides += ["--set", "stages.head.unfreeze=last-9", "--set", "stages.head.freeze_encoder=false"]
        overrides += ["--set", "seeds=[1]"]
    process = start(job, tmp_path / "store", *overrides)
    if how == "killed":
        until_two_train(process, tmp_path / "store")
        os.kill(stage_processes(process)[0], signal.SIGKILL)
    output, log = process.communicate(timeout=TIMEOUT_SECONDS)
    assert output == ""
    assert "Traceback" not in log
    if how == "killed":
        assert process.returncode == 1
        error = r"error: adapt seed [12]: .*killed by signal 9; .*--parallel.*"
    else:
        assert process.returncode == 2
        error = r"error: unfreeze: last-9.* \d layers.* last-\d.*"
    assert re.fullmatch(error, log.splitlines()[-1]), log
    if how == "killed":
        assert len(saved_steps(open_storage(str(tmp_path / "store")), plan(read(job, overrides[1::2])))) == 2


def test_stage_processes_end_with_the_main_process(job: Path, tmp_path: Path) -> None:
    process = start(job, tmp_path / "store")
    end = time.monotonic() + TIMEOUT_SECONDS
    while len(started := stage_processes(process)) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate()
    while any(Path(f"/proc/{pid}").exists() for pid in started):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_errors_survive_pickling() -> None:
    for kind in (FtjobsError, UserError, InputsNotPublished):
        error = kind(["a: is wrong", "b: \n is wrong too"])
        arrived = pickle.loads(pickle.dumps(error))
        assert (type(arrived), arrived.problems, str(arrived)) == (kind, error.problems, str(error))


@pytest.mark.parametrize(
    ("number", "named", "seen"),
    [(0, None, "0"), (3, None, "3"), (5, None, "1"), (1, "4,6,GPU-af,7", "6"), (6, "4,6,GPU-af,7", "GPU-af")],
)
def test_gpus_are_assigned_in_rotation(
    number: int, named: str | None, seen: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named or "")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    process_pool._claim_share(number, 8)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


@pytest.mark.parametrize(("cores", "count", "threads"), [(16.0, 4, 4), (2.5, 2, 1), (1.0, 3, 1)])
def test_cores_are_shared_unless_omp_num_threads_is_set(
    cores: float, count: int, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(device, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    process_pool._claim_share(0, count)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    process_pool._claim_share(0, count)
    assert set_to == [threads], "OMP_NUM_THREADS takes precedence"


def test_stages_with_most_dependents_come_first(job: Path) -> None:
    fields = json.loads(job.read_text())
    fields["stages"]["behavioural"] = {"kind": "classify"}
    job.write_text(json.dumps(fields))
    assert [run.title for run in process_pool._in_order_of_priority(plan(read(job)))] == [
        *("prepare", "adapt seed 1", "adapt seed 2", "behavioural seed 1", "behavioural seed 2"),
        *("head seed 1", "head seed 2", "adapted-head seed 1", "adapted-head seed 2", "report"),
    ]
