"""SIGTERM at any moment: training state is saved and the process ends with exit code 143 within seconds."""

from __future__ import annotations

import functools
import importlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ftjobs import artifacts
from ftjobs.execution import runner
from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan, select
from ftjobs.storage import Storage, open_storage
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Proxy, Request, Response
from tests.fakes.s3_server import BUCKET, S3Server, environment
from tests.helpers.interruptions import preloaded_forkserver, published_models, run_command, saved_steps
from tests.helpers.pipelines import job_fields, write_rows

#: Longest time that a process with a toy encoder may take to end.
SECONDS = 10.0
PHASE_TIMEOUT_SECONDS = 60.0


class Work(NamedTuple):
    """A function that repeats its work forever from the given call on, as if it took hours."""

    stage: str
    module: str
    function: str
    call: int = 1


class Wait(NamedTuple):
    """A request that the store does not answer."""

    stage: str
    method: str
    part: str


PHASES: dict[str, Work | Wait] = {
    "reading the data": Work("prepare", "ftjobs.data.readers.sources", "read"),
    "fetching inputs": Wait("adapt", "GET", "/attempts/"),
    "loading the model": Work("adapt", "ftjobs.models.heads", "load_masked_lm"),
    "evaluating before training": Work("adapt", "ftjobs.objectives.compute.mlm", "MaskedLMObjective.measure"),
    "evaluating an epoch": Work("adapt", "ftjobs.objectives.compute.mlm", "MaskedLMObjective.measure", call=3),
    "saving state": Wait("adapt", "PUT", "/state/"),
    "writing the model": Work("adapt", "ftjobs.models.heads", "save"),
    "uploading": Wait("adapt", "PUT", "/attempts/"),
    "committing": Wait("adapt", "PUT", "/manifest.json"),
    "caching features": Work("head", "ftjobs.training.features", "compute", call=2),
}
WITH_STATE = {"evaluating an epoch", "saving state", "writing the model", "uploading", "committing"}


def resolve(work: Work) -> tuple[Any, str]:
    """Return the module or class that a function is looked up in, and its name there."""
    *classes, name = work.function.split(".")
    return functools.reduce(getattr, classes, importlib.import_module(work.module)), name


def at_work(work: Work, met: str, *arguments: str) -> None:
    """Run `ftjobs ARGUMENTS` with endless work in one function; creates the file `met` when it is called."""
    owner, name = resolve(work)
    original, calls = getattr(owner, name), 0

    def endless(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= work.call:
            Path(met).touch()
            while True:
                original(*args, **kwargs)
        return original(*args, **kwargs)

    setattr(owner, name, endless)
    run_command(*arguments)


#: Functions with C code that turns an interruption into an error of another type, or may do so.
CONVERTED: dict[str, Work] = {
    "importing": Work("prepare", "ftjobs.stages", "load"),
    "reading the data": Work("prepare", "ftjobs.data.readers.sources", "read"),
    "loading the model": Work("adapt", "ftjobs.models.heads", "load_masked_lm"),
    "evaluating an epoch": Work("adapt", "ftjobs.objectives.compute.mlm", "MaskedLMObjective.measure", call=3),
}


def fail_on_sigterm(work: Work, met: str, *arguments: str) -> None:
    """Run `ftjobs ARGUMENTS` with SIGTERM in a call of one function, which raises ImportError in place of `Stopped`."""
    owner, name = resolve(work)
    original, calls = getattr(owner, name), 0

    def interrupted(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == work.call:
            Path(met).touch()
            try:
                signal.raise_signal(signal.SIGTERM)
            except BaseException as stop:
                raise ImportError("initialization failed") from stop
        return original(*args, **kwargs)

    setattr(owner, name, interrupted)
    run_command(*arguments)


class Attempts:
    """Starts stages behind a proxy, in processes that have imported everything already."""

    def __init__(self, proxy: Proxy, job: Path, store: str, folder: Path) -> None:
        self.proxy, self.job, self.store, self.folder = proxy, job, store, folder
        self.log, self.met = folder / "attempt.log", folder / "met"
        self.forks = preloaded_forkserver()
        self.answered, self.gone = threading.Event(), False

    def start(self, stage: str, work: Work | None = None, target: Callable[..., None] = at_work) -> Any:
        arguments = (environment(self.proxy.url), str(self.log), "stage", str(self.job), stage, "--store", self.store)
        self.log.write_bytes(b"")
        if work:
            process = self.forks.Process(target=target, args=(work, str(self.met), *arguments))
        else:
            process = self.forks.Process(target=run_command, args=arguments)
        process.start()
        return process

    def hold_back(self, wait: Wait) -> None:
        """Hold back the answer to matching requests until `answered` is set."""

        def fault(request: Request, forward: Callable[[Request], Response]) -> Response | None:
            if request.method == wait.method and wait.part in request.path:
                self.met.touch()
                self.answered.wait(2 * PHASE_TIMEOUT_SECONDS)
                if self.gone:
                    return None
            return forward(request)

        self.proxy.fault = fault

    def start_and_reach(self, phase: str) -> Any:
        """Start a process and wait until it is in a phase."""
        activity = PHASES[phase]
        if isinstance(activity, Wait):
            self.hold_back(activity)
        process = self.start(activity.stage, activity if isinstance(activity, Work) else None)
        end = time.monotonic() + PHASE_TIMEOUT_SECONDS
        while not self.met.exists():
            assert process.is_alive(), self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)
        time.sleep(0.1)  # into the middle of the phase
        return process


@pytest.fixture
def job(make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    write_rows(tmp_path / "rows.csv")
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[])
    fields["defaults"]["adapt"]["save_every"] = 10
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    return tmp_path / "job.yaml"


@pytest.fixture
def runs(job: Path) -> list[StageRun]:
    return plan(read(job))


@pytest.fixture
def attempts(s3: S3Server, job: Path, tmp_path: Path) -> Iterator[Attempts]:
    with fault_proxy.proxy(s3.url) as proxy:
        attempts = Attempts(proxy, job, f"s3://{BUCKET}/{tmp_path.name}", tmp_path)
        try:
            yield attempts
        finally:
            attempts.gone = True
            attempts.answered.set()


def run_in_order(runs: list[StageRun], storage: Storage, last: StageRun) -> None:
    """Run the inputs of a stage, then the stage."""
    for run in (*last.inputs.values(), last):
        runner.run_stage(run, storage)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_sigterm_saves_state_in_every_phase(
    attempts: Attempts, runs: list[StageRun], tmp_path: Path, phase: str
) -> None:
    """Nothing partial is published, and the resumed stage ends in the bytes of an undisturbed one."""
    storage, run = open_storage(attempts.store), select(runs, PHASES[phase].stage)
    for read_before in run.inputs.values():
        runner.run_stage(read_before, storage)
    process = attempts.start_and_reach(phase)
    if phase == "saving state":  # the process waits for a save in progress
        threading.Timer(2.0, attempts.answered.set).start()
    sent = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    process.join(3 * SECONDS)
    seconds, log = time.monotonic() - sent, attempts.log.read_text()
    assert process.exitcode == 143, log
    assert seconds < SECONDS
    assert "Traceback" not in log
    assert log.splitlines()[-1] == "stopped by SIGTERM"
    assert artifacts.find_manifest(storage, run) is None
    assert (run.title in saved_steps(storage, runs)) == (phase in WITH_STATE)
    assert not [entry.key for entry in storage.list(run.key) if entry.key.endswith(("/running.json", "/failed.json"))]

    attempts.proxy.fault = fault_proxy.no_fault
    again = attempts.start(run.stage)
    again.join(2 * PHASE_TIMEOUT_SECONDS)
    assert again.exitcode == 0, attempts.log.read_text()
    assert ("resuming after step" in attempts.log.read_text()) == (phase in WITH_STATE)
    complete = open_storage(str(tmp_path / "whole"))
    run_in_order(runs, complete, run)
    assert published_models(storage, [run], tmp_path / "a") == published_models(complete, [run], tmp_path / "b")


@pytest.mark.parametrize("phase", ["saving state", pytest.param("uploading", marks=pytest.mark.slow)])
def test_second_sigterm_ends_the_process_at_once(attempts: Attempts, runs: list[StageRun], phase: str) -> None:
    """Even while the process waits for the store to take its training state."""
    storage = open_storage(attempts.store)
    runner.run_stage(runs[0], storage)
    process = attempts.start_and_reach(phase)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.5 if phase == "saving state" else 0.0)
    assert process.is_alive(), attempts.log.read_text()
    sent = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    process.join(SECONDS)
    assert process.exitcode == 143
    assert time.monotonic() - sent < 1.0
    assert artifacts.find_manifest(storage, select(runs, "adapt")) is None


@pytest.mark.parametrize("phase", CONVERTED)
def test_error_raised_after_sigterm_counts_as_stopped(attempts: Attempts, runs: list[StageRun], phase: str) -> None:
    """The error that C code raises in place of `Stopped` is not reported; it would fail the Kubernetes Job."""
    storage, work = open_storage(attempts.store), CONVERTED[phase]
    run = select(runs, work.stage)
    for read_before in run.inputs.values():
        runner.run_stage(read_before, storage)
    process = attempts.start(run.stage, work, fail_on_sigterm)
    process.join(PHASE_TIMEOUT_SECONDS)
    log = attempts.log.read_text()
    assert attempts.met.exists()
    assert process.exitcode == 143, log
    assert "Traceback" not in log
    assert log.splitlines()[-1] == "stopped by SIGTERM"
    assert artifacts.find_manifest(storage, run) is None
    assert (run.title in saved_steps(storage, runs)) == (phase in WITH_STATE)
    assert not [entry.key for entry in storage.list(run.key) if entry.key.endswith(("/running.json", "/failed.json"))]


_IN_A_DESTRUCTOR = """
import signal
from ftjobs import __main__, cli

class Interrupted:
    def __del__(self):
        signal.raise_signal(signal.SIGTERM)

def main():
    Interrupted()
    while True:
        pass

cli.main = main
__main__.main()
"""


def test_sigterm_in_a_destructor_stops_the_process() -> None:
    """Python prints and drops exceptions that a destructor raises."""
    process = subprocess.run(
        [sys.executable, "-c", _IN_A_DESTRUCTOR], capture_output=True, text=True, timeout=PHASE_TIMEOUT_SECONDS
    )
    assert (process.returncode, process.stdout, process.stderr) == (143, "", "stopped by SIGTERM\n")
