"""Failures of wandb, its server or its process: training continues at full speed, and no row is lost."""

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
from ftjobs.tracking import open_tracker, wandb_process, wandb_tracker
from ftjobs.tracking.wandb_folders import find_run_folders, last_step
from ftjobs.tracking.wandb_tracker import run_id
from tests.fakes.wandb_server import WandbServer
from tests.helpers.tracking import STEPS, log_steps, make_work_folder, read_published_steps, wait_until

#: Seconds in which a hundred rows are logged on any machine, unless training waits for the tracker.
MAX_LOG_SECONDS = 1.5


@pytest.fixture
def short_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time limits that are as short as these tests permit."""
    monkeypatch.setattr(wandb_tracker, "_ONLINE_FINISH_SECONDS", 2.0)
    monkeypatch.setattr(wandb_tracker, "_START_SECONDS", 4.0)


def wait_until_opened(tracked_stage: Any) -> Any:
    worker = tracked_stage.wandb.process
    wait_until(lambda: worker.opened or worker.failed, "an open run")
    assert worker.opened, worker.failed
    return worker


def wandb_core(pid: int) -> psutil.Process:
    """Return the wandb-core process of a worker."""
    (core,) = [child for child in psutil.Process(pid).children() if child.name().startswith("wandb-core")]
    return core


def has_ended(process: psutil.Process) -> bool:
    """Return True also for a zombie, whose parent has not waited for it."""
    try:
        return process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


@pytest.mark.parametrize("fault", ["silent", pytest.param("refusing", marks=pytest.mark.slow)])
def test_unresponsive_server_costs_only_a_bounded_wait_at_the_end(
    fault: str,
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    wandb_server: WandbServer,
    short_limits: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    wandb_server.silent.set()
    for name, value in wandb_server.environment().items():
        monkeypatch.setenv(name, value)
    if fault == "refusing":
        monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    run = stage("adapt")
    work, output = make_work_folder(tmp_path / "work")
    with open_tracker(run, storage, work) as tracker:
        tracker.start(None)
        assert log_steps(tracker.log, STEPS) < MAX_LOG_SECONDS
        ending = time.monotonic()
        tracker.finish(output, {})
    assert time.monotonic() - ending < 2 + 4 + wandb_tracker._OFFLINE_FINISH_SECONDS
    assert read_published_steps(output) == STEPS
    assert [path.name.partition("-")[0] for path in (output / "wandb").iterdir()] == ["offline"]
    assert "not end within" in caplog.text
    other = stage("behavioural")  # the next stage of this process does not wait again
    work, output = make_work_folder(tmp_path / "next")
    with open_tracker(other, storage, work) as tracker:
        tracker.start(None)
        log_steps(tracker.log, STEPS)
        tracker.finish(output, {})
    assert caplog.text.count("not end within") == 1
    assert read_published_steps(output) == STEPS


@pytest.mark.slow
def test_run_is_opened_offline_after_the_time_limit(
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    wandb_server: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wandb_server.silent.set()
    for name, value in wandb_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(wandb_tracker, "_OPEN_SECONDS", 2.0)
    run = stage("adapt")
    work, output = make_work_folder(tmp_path / "work")
    with open_tracker(run, storage, work) as tracker:
        tracker.start(None)
        log_steps(tracker.log, STEPS[:50])
        worker = wait_until_opened(tracker)
        assert (worker.opened, worker.unreachable) == ("offline", True)
        log_steps(tracker.log, STEPS[50:])
        tracker.finish(output, {})
    assert read_published_steps(output) == STEPS
    assert worker.failed is None


@pytest.mark.parametrize("victim", ["wandb-core", pytest.param("worker", marks=pytest.mark.slow)])
def test_killed_worker_is_restarted_at_the_end(
    victim: str,
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = stage("adapt")
    work, output = make_work_folder(tmp_path / "work")
    with open_tracker(run, storage, work) as tracker:
        tracker.start(None)
        log_steps(tracker.log, STEPS[:50])
        worker = wait_until_opened(tracker)
        pid = worker._process.pid
        core = wandb_core(pid)
        os.kill(core.pid if victim == "wandb-core" else pid, signal.SIGKILL)
        assert log_steps(tracker.log, STEPS[50:]) < MAX_LOG_SECONDS
        tracker.finish(output, {})
    assert read_published_steps(output) == STEPS
    assert caplog.text.count("Weights & Biases failed") == 1
    wait_until(lambda: has_ended(core), "end of wandb-core")


ALL_IN_ONE_SECOND = """
from wandb.sdk.wandb_settings import Settings
Settings._start_datetime = property(lambda settings: "20200101_000000")
"""


@pytest.mark.slow
def test_run_folders_of_the_same_second_are_both_published(
    stage: Callable[..., StageRun], storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """wandb names run folders by the second, and adds a number if the name exists: the clock stands still or goes back."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock/sitecustomize.py").write_text(ALL_IN_ONE_SECOND)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "clock"))
    run = stage("adapt")
    work, output = make_work_folder(tmp_path / "work")
    with open_tracker(run, storage, work) as tracker:
        tracker.start(None)
        log_steps(tracker.log, STEPS[:50])
        worker = wait_until_opened(tracker)
        (first,) = find_run_folders(run_id(run), work / "tracking/wandb")
        wait_until(lambda: last_step(first) == STEPS[48], "rows on disk")
        os.kill(worker._process.pid, signal.SIGKILL)
        log_steps(tracker.log, STEPS[50:])
        tracker.finish(output, {})
    assert [path.name for path in find_run_folders(run_id(run), output / "wandb")] == [first.name, f"{first.name}-1"]
    assert read_published_steps(output) == STEPS


def test_hanging_worker_bounds_memory_and_missed_rows_are_logged_at_the_end(
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    short_limits: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(wandb_process, "_MAX_QUEUED_MESSAGES", 100)
    monkeypatch.setattr(wandb_tracker, "_OFFLINE_FINISH_SECONDS", 20.0)
    run = stage("adapt")
    work, output = make_work_folder(tmp_path / "work")
    steps = list(range(0, 50_000, 10))
    with open_tracker(run, storage, work) as tracker:
        tracker.start(None)
        log_steps(tracker.log, steps[:10])
        worker = wait_until_opened(tracker)
        os.kill(worker._process.pid, signal.SIGSTOP)
        before = time.thread_time()
        log_steps(tracker.log, steps[10:])
        cost = time.thread_time() - before  # CPU time of this thread only
        assert cost / len(steps) < 100e-6, "a row costs the training thread microseconds"
        assert worker._messages.qsize() <= 100
        assert worker.dropped > 1000
        monkeypatch.setattr(wandb_tracker, "_OFFLINE_FINISH_SECONDS", 60.0)
        worker.opened = "online"  # the shorter wait
        tracker.finish(output, {})
    assert read_published_steps(output) == steps
    assert caplog.text.count("is too slow") == 1


def test_failing_import_of_wandb_does_not_stop_training(
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "broken/wandb").mkdir(parents=True)
    (tmp_path / "broken/wandb/__init__.py").write_text("raise ImportError('libc is too old')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "broken"))
    work, output = make_work_folder(tmp_path / "work")
    with open_tracker(stage("adapt"), storage, work) as tracker:
        tracker.start(None)
        log_steps(tracker.log, STEPS)
        tracker.finish(output, {})
    assert "ImportError: libc is too old" in caplog.text
    assert [path.name for path in output.iterdir()] == ["model"]


FULL_DISK = """
import sys
from pathlib import Path
from tests.helpers.tracking import STEPS, log_steps, make_work_folder, read_published_steps
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import LocalStorage
from ftjobs.tracking import open_tracker
from ftjobs.system.progress import log_to_stderr
log_to_stderr()
folder = Path(sys.argv[1])
work, output = make_work_folder(folder / "work")
with open_tracker(select(plan(read(folder / "job.yaml")), "adapt"), LocalStorage(folder / "store"), work) as tracker:
    tracker.start(None)
    log_steps(tracker.log, STEPS)
    tracker.finish(output, {})
assert read_published_steps(output) == STEPS, read_published_steps(output)
"""


@pytest.mark.slow
def test_full_disk_of_wandb_dir(stage: Callable[..., StageRun], tmp_path: Path) -> None:
    """`WANDB_DIR` is on a file system of 16 KB, in a separate mount namespace."""
    unshare = ["unshare", "--user", "--map-root-user", "--mount"]
    if shutil.which("unshare") is None or subprocess.run([*unshare, "true"], capture_output=True).returncode:
        pytest.skip("mount namespaces are not available")
    stage("adapt")
    small = tmp_path / "small"
    small.mkdir()
    script = 'mount -t tmpfs -o size=16k tmpfs "$1" && exec "$2" -c "$3" "$4"'
    process = subprocess.run(
        [*unshare, "sh", "-c", script, "sh", str(small), sys.executable, FULL_DISK, str(tmp_path)],
        env={**os.environ, "WANDB_DIR": str(small), "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert process.returncode == 0, process.stderr


def test_only_the_main_process_logs(
    stage: Callable[..., StageRun], storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training_device()
    second_of_two = {"process_index": 1, "num_processes": 2, "distributed_type": DistributedType.MULTI_CPU}
    for name, value in second_of_two.items():
        monkeypatch.setitem(PartialState._shared_state, name, value)
    work, output = make_work_folder(tmp_path / "work")
    run = stage("adapt")
    with open_tracker(run, storage, work) as tracker:
        tracker.start(None)
        log_steps(tracker.log, STEPS)
        tracker.finish(output, {})
    assert tracker.wandb.process is None
    assert find_run_folders(run_id(run), work / "tracking/wandb") == []
    assert [path.name for path in output.iterdir()] == ["model"]
