"""`run --parallel`: several stages at once end as one after the other does, fail in one line, and stop together."""

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
from tests.execution.test_kill import published_models, whole_states
from tests.helpers.pipelines import job_fields, write_rows

_TO_GET_THERE = 60.0


@pytest.fixture
def job(make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two seeds of an adaptation, and a classifier that needs none."""
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


def workers(of: subprocess.Popen[str]) -> list[int]:
    """Processes that were started to run stages."""
    children = Path(f"/proc/{of.pid}/task/{of.pid}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


def until_two_train(process: subprocess.Popen[str], store: Path) -> None:
    """Wait until two adaptations have saved their state, so that both are in the middle of it."""
    end = time.monotonic() + _TO_GET_THERE
    while len({path.parts[-5] + path.parts[-4] for path in store.rglob("adapt/*/*/state/*/whole.json")}) < 2:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.02)


def test_it_ends_in_the_bytes_of_one_after_the_other(job: Path, tmp_path: Path) -> None:
    runs = plan(read(job))
    process = start(job, tmp_path / "store")
    output, log = process.communicate()
    assert process.returncode == 0, log
    assert "| model " in output
    in_turn, together = open_storage(str(tmp_path / "in-turn")), open_storage(str(tmp_path / "store"))
    subprocess.run(
        [sys.executable, "-m", "ftjobs", "run", str(job), "--store", str(tmp_path / "in-turn")],
        check=True,
        capture_output=True,
    )
    assert published_models(together, runs, tmp_path / "a") == published_models(in_turn, runs, tmp_path / "b")

    lines = [re.sub(r"^\d\d:\d\d:\d\d ", "", line) for line in log.splitlines()]
    begun = [found[1] for line in lines if (found := re.match(r"\[\d/8\] (.+): running$", line))]
    assert begun[:3] == ["prepare", "adapt seed 1", "adapt seed 2"]
    assert sorted(begun) == sorted(run.title for run in runs)
    for line in (line for line in lines if "adapting on" in line or "newly initialised" in line):
        assert re.match(r"(adapt|head|adapted-head) seed [12]: ", line), line
    for run in runs:
        running = next(place for place, line in enumerate(lines) if line.endswith(f"] {run.title}: running"))
        for one in {one.title for one in run.inputs.values()}:
            assert lines.index(next(line for line in lines if line.startswith(f"{one}: published"))) < running


def test_what_is_published_starts_no_process(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    runs, storage = plan(read(job)), open_storage(str(tmp_path / "store"))
    manifests = runner.run_all(runs, storage)
    monkeypatch.setattr(process_pool, "_Worker", None)
    monkeypatch.setattr(process_pool.LOG, "propagate", True)
    with caplog.at_level(logging.INFO):
        assert process_pool.run_all(runs, storage, 4) == manifests
    assert [record.message for record in caplog.records] == [
        f"{run.title}: published already, {run.identity[:12]}" for run in runs
    ]


def test_a_pipeline_that_goes_on_has_the_threads_that_it_had(
    job: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few stages are left: the number of threads decides the last bits of a result."""
    runs, storage = plan(read(job)), open_storage(str(tmp_path / "store"))
    runner.run_stage(runs[0], storage)
    started: list[tuple[Any, ...]] = []

    class Started(Exception): ...

    def worker(*arguments: Any) -> None:
        started.append(arguments[:2])
        raise Started

    monkeypatch.setattr(process_pool, "_Worker", worker)
    with pytest.raises(Started):
        process_pool.run_all(runs[:2], storage, 4)
    assert started == [(0, 4)]


@pytest.mark.slow
def test_sigterm_stops_all_and_all_go_on(job: Path, tmp_path: Path) -> None:
    """To the bytes of a run that was never stopped."""
    overrides = ["--set", "defaults.adapt.epochs=40"]
    runs = plan(read(job, overrides[1:]))
    process = start(job, tmp_path / "store", *overrides)
    until_two_train(process, tmp_path / "store")
    process.send_signal(signal.SIGTERM)
    _, log = process.communicate(timeout=_TO_GET_THERE)
    assert process.returncode == 143, log
    assert log.splitlines()[-1] == "stopped by SIGTERM"
    assert "Traceback" not in log
    store = open_storage(str(tmp_path / "store"))
    before = whole_states(store, runs)
    assert set(before) == {"adapt seed 1", "adapt seed 2"}

    process = start(job, tmp_path / "store", *overrides)
    _, log = process.communicate()
    assert process.returncode == 0, log
    for title, step in before.items():
        assert f"{title}: resuming after step {step} of" in log
    whole = open_storage(str(tmp_path / "whole"))
    process = start(job, tmp_path / "whole", *overrides)
    process.communicate()
    assert process.returncode == 0
    assert published_models(store, runs, tmp_path / "a") == published_models(whole, runs, tmp_path / "b")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["killed", "refused"])
def test_where_one_fails_the_other_is_stopped_with_its_state_saved(job: Path, tmp_path: Path, how: str) -> None:
    overrides = ["--set", "defaults.adapt.epochs=400"]
    if how == "refused":  # what only the encoder tells, once its stage has begun
        overrides += ["--set", "stages.head.unfreeze=last-9", "--set", "stages.head.freeze_encoder=false"]
        overrides += ["--set", "seeds=[1]"]
    process = start(job, tmp_path / "store", *overrides)
    if how == "killed":
        until_two_train(process, tmp_path / "store")
        os.kill(workers(process)[0], signal.SIGKILL)
    output, log = process.communicate(timeout=_TO_GET_THERE)
    assert output == ""
    assert "Traceback" not in log
    if how == "killed":
        assert process.returncode == 1
        said = r"error: adapt seed [12]: the process that ran it was killed by signal 9; is there memory enough\?"
    else:
        assert process.returncode == 2
        said = r"error: unfreeze: last-9, and the encoder has \d layers; write last-\d .*"
    assert re.fullmatch(said, log.splitlines()[-1]), log
    if how == "killed":
        assert len(whole_states(open_storage(str(tmp_path / "store")), plan(read(job, overrides[1::2])))) == 2


def test_a_worker_is_gone_when_its_pipeline_is(job: Path, tmp_path: Path) -> None:
    process = start(job, tmp_path / "store")
    end = time.monotonic() + _TO_GET_THERE
    while len(found := workers(process)) < 2:
        assert time.monotonic() < end
        time.sleep(0.02)
    process.kill()
    process.communicate()
    while any(Path(f"/proc/{worker}").exists() for worker in found):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_errors_stay_what_they_are_on_their_way_to_another_process() -> None:
    for kind in (FtjobsError, UserError, InputsNotPublished):
        error = kind(["a: is wrong", "b: \n is wrong too"])
        arrived = pickle.loads(pickle.dumps(error))
        assert (type(arrived), arrived.problems, str(arrived)) == (kind, error.problems, str(error))


@pytest.mark.parametrize(
    ("number", "named", "seen"),
    [(0, None, "0"), (3, None, "3"), (5, None, "1"), (1, "4,6,GPU-af,7", "6"), (6, "4,6,GPU-af,7", "GPU-af")],
)
def test_gpus_are_dealt_out(number: int, named: str | None, seen: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named or "")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    process_pool._take_share(number, 8)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == seen


@pytest.mark.parametrize(("cores", "of", "threads"), [(16.0, 4, 4), (2.5, 2, 1), (1.0, 3, 1)])
def test_cores_are_shared(cores: float, of: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    set_to: list[int] = []
    monkeypatch.setattr(device, "usable_cores", lambda: cores)
    monkeypatch.setattr(torch, "set_num_threads", set_to.append)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    process_pool._take_share(0, of)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    process_pool._take_share(0, of)
    assert set_to == [threads], "and the user's own number is left alone"


def test_what_is_urgent_comes_first(job: Path) -> None:
    fields = json.loads(job.read_text())
    fields["stages"]["behavioural"] = {"kind": "classify"}
    job.write_text(json.dumps(fields))
    assert [run.title for run in process_pool._urgent_first(plan(read(job)))] == [
        *("prepare", "adapt seed 1", "adapt seed 2", "behavioural seed 1", "behavioural seed 2"),
        *("head seed 1", "head seed 2", "adapted-head seed 1", "adapted-head seed 2", "report"),
    ]
