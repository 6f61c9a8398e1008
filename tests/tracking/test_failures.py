"""Whatever a tracker does, or does not do: training goes on at full speed, and no row is lost."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from accelerate import DistributedType, PartialState

from ftjobs.plan import StageRun
from ftjobs.storage import LocalStorage
from ftjobs.system.device import training_device
from ftjobs.tracking import process, tracked, tracker
from ftjobs.tracking.folders import last_step, of_run
from ftjobs.tracking.tracked import run_id
from tests.fakes.wandb_server import WandbServer
from tests.tracking.conftest import published_steps, until, work_folder

STEPS = list(range(10, 1001, 10))
#: Seconds in which a hundred rows are logged on any machine, unless a tracker is waited for, which takes longer.
A_WAIT = 1.5


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """As short as the tests can do with."""
    monkeypatch.setattr(tracked, "_SECONDS_ONLINE", 2.0)
    monkeypatch.setattr(tracked, "_SECONDS_TO_START", 4.0)


def log_steps(log: Callable[[dict[str, Any], int], None], steps: list[int]) -> float:
    """Log rows; returns the seconds that this took."""
    started = time.perf_counter()
    for step in steps:
        log({"train/loss": 0.5, "train/learning_rate": 1e-5}, step)
    return time.perf_counter() - started


def wait_until_opened(tracked_stage: Any) -> Any:
    worker = tracked_stage.wandb.process
    until(lambda: worker.opened or worker.failed, "an open run")
    assert worker.opened, worker.failed
    return worker


def wandb_core(pid: int) -> psutil.Process:
    """The process that the worker has started."""
    (found,) = [child for child in psutil.Process(pid).children() if child.name().startswith("wandb-core")]
    return found


def has_ended(one: psutil.Process) -> bool:
    """Also where nobody asks what became of it."""
    try:
        return one.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("how", ["silent", pytest.param("refusing", marks=pytest.mark.slow)])
def test_a_server_that_does_not_answer_costs_nothing_but_a_wait_at_the_end(
    how: str,
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    wandb_server: WandbServer,
    impatient: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wandb_server.silent.set()
    for name, value in wandb_server.environment().items():
        monkeypatch.setenv(name, value)
    if how == "refusing":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    run = stage("adapt")
    work, output = work_folder(tmp_path / "work")
    with tracker(run, storage, work) as one:
        one.begin(None)
        assert log_steps(one.log, STEPS) < A_WAIT
        ending = time.monotonic()
        one.conclude(output, {})
    assert time.monotonic() - ending < 2 + 4 + tracked._SECONDS_OFFLINE
    assert published_steps(output) == STEPS
    assert [path.name.partition("-")[0] for path in (output / "wandb").iterdir()] == ["offline"]
    assert "no end within" in caplog.text
    other = stage("behavioural")  # the next stage of this process does not wait again
    work, output = work_folder(tmp_path / "next")
    with tracker(other, storage, work) as one:
        one.begin(None)
        log_steps(one.log, STEPS)
        one.conclude(output, {})
    assert caplog.text.count("no end within") == 1
    assert published_steps(output) == STEPS


@pytest.mark.slow
def test_opening_that_takes_too_long_ends_offline_while_training_goes_on(
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    wandb_server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wandb_server.silent.set()
    for name, value in wandb_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(tracked, "_SECONDS_TO_OPEN", 2.0)
    run = stage("adapt")
    work, output = work_folder(tmp_path / "work")
    with tracker(run, storage, work) as one:
        one.begin(None)
        log_steps(one.log, STEPS[:50])
        worker = wait_until_opened(one)
        assert (worker.opened, worker.unreachable) == ("offline", True)
        log_steps(one.log, STEPS[50:])
        one.conclude(output, {})
    assert published_steps(output) == STEPS
    assert worker.failed is None


@pytest.mark.parametrize("victim", ["wandb-core", pytest.param("worker", marks=pytest.mark.slow)])
def test_a_tracker_that_is_killed_is_begun_again_at_the_end(
    victim: str,
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = stage("adapt")
    work, output = work_folder(tmp_path / "work")
    with tracker(run, storage, work) as one:
        one.begin(None)
        log_steps(one.log, STEPS[:50])
        worker = wait_until_opened(one)
        pid = worker._process.pid
        core = wandb_core(pid)
        os.kill(core.pid if victim == "wandb-core" else pid, signal.SIGKILL)
        assert log_steps(one.log, STEPS[50:]) < A_WAIT
        one.conclude(output, {})
    assert published_steps(output) == STEPS
    assert caplog.text.count("tracking: Weights & Biases failed, going on without it") == 1
    until(lambda: has_ended(core), "wandb-core outlives who started it")


ALL_IN_ONE_SECOND = """
from wandb.sdk.wandb_settings import Settings
Settings._start_datetime = property(lambda settings: "20200101_000000")
"""


@pytest.mark.slow
def test_runs_that_begin_in_one_second_are_both_there(
    stage: Callable[..., StageRun], storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb names run folders by the second; where a clock stands still or goes back, it adds a number to a name."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(ALL_IN_ONE_SECOND)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "clock"))
    run = stage("adapt")
    work, output = work_folder(tmp_path / "work")
    with tracker(run, storage, work) as one:
        one.begin(None)
        log_steps(one.log, STEPS[:50])
        worker = wait_until_opened(one)
        (first,) = of_run(run_id(run), work / "tracking/wandb")
        until(lambda: last_step(first) == STEPS[48], "rows on disk")
        os.kill(worker._process.pid, signal.SIGKILL)
        log_steps(one.log, STEPS[50:])
        one.conclude(output, {})
    assert [path.name for path in of_run(run_id(run), output / "wandb")] == [first.name, f"{first.name}-1"]
    assert published_steps(output) == STEPS


def test_a_worker_that_hangs_fills_no_memory_and_what_it_missed_is_logged_at_the_end(
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    impatient: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(process, "_WAITING", 100)
    monkeypatch.setattr(tracked, "_SECONDS_OFFLINE", 20.0)
    run = stage("adapt")
    work, output = work_folder(tmp_path / "work")
    steps = list(range(0, 50_000, 10))
    with tracker(run, storage, work) as one:
        one.begin(None)
        log_steps(one.log, steps[:10])
        worker = wait_until_opened(one)
        os.kill(worker._process.pid, signal.SIGSTOP)
        before = time.thread_time()
        log_steps(one.log, steps[10:])
        cost = time.thread_time() - before  # what others do on this machine costs us nothing
        assert cost / len(steps) < 100e-6, "a row costs the training thread microseconds"
        assert worker._messages.qsize() <= 100
        assert worker.dropped > 1000
        monkeypatch.setattr(tracked, "_SECONDS_OFFLINE", 60.0)
        worker.opened = "online"  # the shorter wait
        one.conclude(output, {})
    assert published_steps(output) == steps
    assert caplog.text.count("does not keep up") == 1


def test_wandb_that_cannot_be_imported(
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "broken/wandb").mkdir(parents=True)
    (tmp_path / "broken/wandb/__init__.py").write_text("raise ImportError('libc is too old')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    work, output = work_folder(tmp_path / "work")
    with tracker(stage("adapt"), storage, work) as one:
        one.begin(None)
        log_steps(one.log, STEPS)
        one.conclude(output, {})
    assert "going on without it: ImportError: libc is too old" in caplog.text
    assert [path.name for path in output.iterdir()] == ["model"]


FULL_DISK = """
import sys
from pathlib import Path
from tests.tracking.test_failures import STEPS, log_steps
from tests.tracking.conftest import published_steps, work_folder
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import LocalStorage
from ftjobs.tracking import tracker
from ftjobs.system.progress import log_to_stderr
log_to_stderr()
folder = Path(sys.argv[1])
work, output = work_folder(folder / "work")
with tracker(select(plan(read(folder / "job.yaml")), "adapt"), LocalStorage(folder / "store"), work) as one:
    one.begin(None)
    log_steps(one.log, STEPS)
    one.conclude(output, {})
assert published_steps(output) == STEPS, published_steps(output)
"""


@pytest.mark.slow
def test_a_full_disk(stage: Callable[..., StageRun], tmp_path: Path) -> None:
    """`WANDB_DIR` on a file system of 16 KB, in a mount namespace of its own."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("no mount namespaces here")
    stage("adapt")
    small = tmp_path / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=16k tmpfs "$1" && exec "$2" -c "$3" "$4"'
    done = subprocess.run(
        [*unshare, "sh", "-c", script, "sh", str(small), sys.executable, FULL_DISK, str(tmp_path)],
        env={**os.environ, "WANDB_DIR": str(small), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr


def test_only_the_main_process_tracks(
    stage: Callable[..., StageRun], storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training_device()
    second_of_two = {"process_index": 1, "num_processes": 2, "distributed_type": DistributedType.MULTI_CPU}
    for name, value in second_of_two.items():
        monkeypatch.setitem(PartialState._shared_state, name, value)
    work, output = work_folder(tmp_path / "work")
    run = stage("adapt")
    with tracker(run, storage, work) as one:
        one.begin(None)
        log_steps(one.log, STEPS)
        one.conclude(output, {})
    assert one.wandb.process is None
    assert of_run(run_id(run), work / "tracking/wandb") == []
    assert [path.name for path in output.iterdir()] == ["model"]
