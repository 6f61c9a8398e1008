"""SIGTERM at any moment: what there is to save is saved, and the process ends with 143, within seconds."""

from __future__ import annotations

import importlib
import json
import multiprocessing
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
from tests.execution.test_kill import attempt, published_models, whole_states
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Answer, Proxy, Request
from tests.fakes.s3_server import BUCKET, S3Server, environment
from tests.helpers.pipelines import job_fields, write_rows

#: What a process of a toy encoder may take to end.
SECONDS = 10.0
_TO_GET_THERE = 60.0


class Work(NamedTuple):
    """A function that from one of its calls on does its work again and again, as if there were hours of it."""

    stage: str
    module: str
    function: str
    call: int = 1


class Wait(NamedTuple):
    """A request that the store lets wait."""

    stage: str
    method: str
    part: str


PHASES: dict[str, Work | Wait] = {
    "reading the data": Work("prepare", "ftjobs.data.readers.sources", "read"),
    "fetching inputs": Wait("adapt", "GET", "/attempts/"),
    "loading the model": Work("adapt", "ftjobs.models.heads", "load_masked_lm"),
    "evaluating before training": Work("adapt", "ftjobs.training.evaluation", "masked_lm"),
    "evaluating an epoch": Work("adapt", "ftjobs.training.evaluation", "masked_lm", call=3),
    "saving state": Wait("adapt", "PUT", "/state/"),
    "writing the model": Work("adapt", "ftjobs.models.heads", "save"),
    "uploading": Wait("adapt", "PUT", "/attempts/"),
    "committing": Wait("adapt", "PUT", "/manifest.json"),
    "caching features": Work("head", "ftjobs.training.features", "compute", call=2),
}
WITH_STATE = {"evaluating an epoch", "saving state", "writing the model", "uploading", "committing"}


def at_work(work: Work, met: str, *arguments: str) -> None:
    """`ftjobs ARGUMENTS` with that work in it."""
    module = importlib.import_module(work.module)
    original, calls = getattr(module, work.function), 0

    def again_and_again(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls >= work.call:
            Path(met).touch()
            while True:
                original(*given, **named)
        return original(*given, **named)

    setattr(module, work.function, again_and_again)
    attempt(*arguments)


#: Where C code was seen, or may be expected, to make an error of its own of what interrupts it.
DISGUISES: dict[str, Work] = {
    "importing": Work("prepare", "ftjobs.stages", "load"),
    "reading the data": Work("prepare", "ftjobs.data.readers.sources", "read"),
    "loading the model": Work("adapt", "ftjobs.models.heads", "load_masked_lm"),
    "evaluating an epoch": Work("adapt", "ftjobs.training.evaluation", "masked_lm", call=3),
}


def disguised(work: Work, met: str, *arguments: str) -> None:
    """`ftjobs ARGUMENTS` that gets SIGTERM in a call of that function, which takes it for an error of its own."""
    module = importlib.import_module(work.module)
    original, calls = getattr(module, work.function), 0

    def interrupted(*given: Any, **named: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == work.call:
            Path(met).touch()
            try:
                signal.raise_signal(signal.SIGTERM)
            except BaseException as stop:
                raise ImportError("initialization failed") from stop
        return original(*given, **named)

    setattr(module, work.function, interrupted)
    attempt(*arguments)


class Attempts:
    """Starts stages, in processes that have imported everything already, behind a proxy."""

    def __init__(self, proxy: Proxy, job: Path, store: str, folder: Path) -> None:
        self.proxy, self.job, self.store, self.folder = proxy, job, store, folder
        self.log, self.met = folder / "attempt.log", folder / "met"
        self.forks = multiprocessing.get_context("forkserver")
        stages = [f"ftjobs.stages.{kind}" for kind in ("prepare", "adapt", "classify", "report")]
        self.forks.set_forkserver_preload(["ftjobs.cli", "ftjobs.execution.runner", "ftjobs.storage.s3", *stages])
        self.answered, self.gone = threading.Event(), False

    def start(self, stage: str, work: Work | None = None, how: Callable[..., None] = at_work) -> Any:
        arguments = (environment(self.proxy.url), str(self.log), "stage", str(self.job), stage, "--store", self.store)
        self.log.write_bytes(b"")
        target, given = (how, (work, str(self.met), *arguments)) if work else (attempt, arguments)
        process = self.forks.Process(target=target, args=given)
        process.start()
        return process

    def let_wait(self, wait: Wait) -> None:
        """Answer nothing to that request, and those like it, until `answered` is set."""

        def fault(request: Request, forward: Callable[[Request], Answer]) -> Answer | None:
            if request.method == wait.method and wait.part in request.path:
                self.met.touch()
                self.answered.wait(2 * _TO_GET_THERE)
                if self.gone:
                    return None
            return forward(request)

        self.proxy.fault = fault

    def come_to(self, phase: str) -> Any:
        """A process that is in that phase."""
        what = PHASES[phase]
        if isinstance(what, Wait):
            self.let_wait(what)
        process = self.start(what.stage, what if isinstance(what, Work) else None)
        end = time.monotonic() + _TO_GET_THERE
        while not self.met.exists():
            assert process.is_alive(), self.log.read_text()
            assert time.monotonic() < end, self.log.read_text()
            time.sleep(0.01)
        time.sleep(0.1)  # into the middle of it
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
        made = Attempts(proxy, job, f"s3://{BUCKET}/{tmp_path.name}", tmp_path)
        try:
            yield made
        finally:
            made.gone = True
            made.answered.set()


def run_in_order(runs: list[StageRun], storage: Storage, last: StageRun) -> None:
    """What a stage reads, and the stage."""
    for run in (*last.inputs.values(), last):
        runner.run_stage(run, storage)


@pytest.mark.slow
@pytest.mark.parametrize("phase", PHASES)
def test_in_every_phase(attempts: Attempts, runs: list[StageRun], tmp_path: Path, phase: str) -> None:
    """Nothing half done is published, what there is to save is saved, and it goes on to the bytes of one undisturbed."""
    storage, run = open_storage(attempts.store), select(runs, PHASES[phase].stage)
    for read_before in run.inputs.values():
        runner.run_stage(read_before, storage)
    process = attempts.come_to(phase)
    if phase == "saving state":  # what is under way is waited for, if the store answers
        threading.Timer(2.0, attempts.answered.set).start()
    sent = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    process.join(3 * SECONDS)
    seconds, said = time.monotonic() - sent, attempts.log.read_text()
    assert process.exitcode == 143, said
    assert seconds < SECONDS
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "stopped by SIGTERM"
    assert artifacts.find(storage, run) is None
    assert (run.title in whole_states(storage, runs)) == (phase in WITH_STATE)
    assert not [entry.key for entry in storage.list(run.key) if entry.key.endswith(("/running.json", "/failed.json"))]

    attempts.proxy.fault = fault_proxy.none
    again = attempts.start(run.stage)
    again.join(2 * _TO_GET_THERE)
    assert again.exitcode == 0, attempts.log.read_text()
    assert ("resuming after step" in attempts.log.read_text()) == (phase in WITH_STATE)
    whole = open_storage(str(tmp_path / "whole"))
    run_in_order(runs, whole, run)
    assert published_models(storage, [run], tmp_path / "a") == published_models(whole, [run], tmp_path / "b")


@pytest.mark.parametrize("phase", ["saving state", pytest.param("uploading", marks=pytest.mark.slow)])
def test_a_second_one_ends_it_at_once(attempts: Attempts, runs: list[StageRun], phase: str) -> None:
    """Even where the first is still waiting for the store to take the state."""
    storage = open_storage(attempts.store)
    runner.run_stage(runs[0], storage)
    process = attempts.come_to(phase)
    os.kill(process.pid, signal.SIGTERM)
    time.sleep(0.5 if phase == "saving state" else 0.0)
    assert process.is_alive(), attempts.log.read_text()
    sent = time.monotonic()
    os.kill(process.pid, signal.SIGTERM)
    process.join(SECONDS)
    assert process.exitcode == 143
    assert time.monotonic() - sent < 1.0
    assert artifacts.find(storage, select(runs, "adapt")) is None


@pytest.mark.parametrize("phase", DISGUISES)
def test_in_disguise(attempts: Attempts, runs: list[StageRun], phase: str) -> None:
    """It is not reported as the error that C code makes of it, which would end a Job as failed for good."""
    storage, work = open_storage(attempts.store), DISGUISES[phase]
    run = select(runs, work.stage)
    for read_before in run.inputs.values():
        runner.run_stage(read_before, storage)
    process = attempts.start(run.stage, work, disguised)
    process.join(_TO_GET_THERE)
    said = attempts.log.read_text()
    assert attempts.met.exists()
    assert process.exitcode == 143, said
    assert "Traceback" not in said
    assert said.splitlines()[-1] == "stopped by SIGTERM"
    assert artifacts.find(storage, run) is None
    assert (run.title in whole_states(storage, runs)) == (phase in WITH_STATE)
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


def test_in_a_destructor() -> None:
    """Python prints what a destructor raises, and forgets it."""
    found = subprocess.run(
        [sys.executable, "-c", _IN_A_DESTRUCTOR], capture_output=True, text=True, timeout=_TO_GET_THERE
    )
    assert (found.returncode, found.stdout, found.stderr) == (143, "", "stopped by SIGTERM\n")
