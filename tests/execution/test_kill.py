"""A machine may vanish at any moment: kill -9 again and again, and the pipeline still ends in the same bytes."""

from __future__ import annotations

import json
import math
import multiprocessing
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from ftjobs import artifacts
from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan
from ftjobs.storage import Storage, open_storage
from tests.fakes import fault_proxy
from tests.fakes.fault_proxy import Answer, Proxy, Request
from tests.fakes.s3_server import BUCKET, S3Server, environment
from tests.helpers.pipelines import job_fields, write_rows


def start(job: Path, store: str, log: Path) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("ab") as output:
        command = [sys.executable, "-m", "ftjobs", "run", str(job), "--store", store]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output, env=environment)


def whole_states(storage: Storage, runs: list[StageRun]) -> dict[str, int]:
    """The newest step that a whole training state holds, per stage."""
    found: dict[str, int] = {}
    for run in runs:
        for key in (stored[0] for stored in storage.list(f"{run.key}/state")):
            match = re.search(r"/state/(\d+)-[0-9a-f]+/whole\.json$", key)
            if match:
                found[run.title] = max(found.get(run.title, 0), int(match[1]))
    return found


class Reader(threading.Thread):
    """Reads whatever is published, over and over, as another pod would, and notes everything that is not whole."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        super().__init__(daemon=True)
        self.storage, self.folder, self.ended = storage, folder, threading.Event()
        self.seen: set[str] = set()
        self.wrong: list[str] = []

    def run(self) -> None:
        last = False
        while not last:
            last = self.ended.wait(0.2)  # once more after the end, which may have published something
            try:
                for manifest in artifacts.listing(self.storage):
                    artifacts.fetch(self.storage, manifest, self.folder / f"{time.monotonic_ns()}")
                    self.seen.add(manifest.identity)
            except Exception as error:
                self.wrong.append(repr(error))


def job_at(folder: Path, encoder: Path, stages: list[str]) -> tuple[Path, list[StageRun]]:
    """A job of these stages, which train for some seconds and save their state every few steps."""
    write_rows(folder / "rows.csv")
    fields = job_fields(encoder, hypotheses=[])
    fields["stages"] = {name: fields["stages"][name] for name in stages}
    fields["defaults"] = {
        kind: {"epochs": epochs, "learning_rate": 1e-3, "save_every": 10}
        for kind, epochs in (("adapt", 30), ("classify", 60))
    }
    (folder / "job.yaml").write_text(json.dumps(fields))
    return folder / "job.yaml", plan(read(folder / "job.yaml"))


def check_nothing_redone(requests: list[Request], runs: list[StageRun], before: dict[str, int]) -> None:
    """Whoever begins anew stores states of steps that a whole state held already: states come every few steps."""
    for run in runs:
        stored = re.compile(rf"/{re.escape(run.key)}/state/(\d+)-[0-9a-f]+/")
        steps = [int(found[1]) for one in requests if one.method == "PUT" and (found := stored.search(one.path))]
        assert min(steps, default=math.inf) > before.get(run.title, 0), run.title


def check_resumed(log: Path, before: dict[str, int]) -> int:
    """What went on went on from the last whole state: no step before it is done again. Returns how many did."""
    found = re.findall(r"\] (.+): running\n(?:.*\n)*?.*resuming after step (\d+) of", log.read_text())
    for title, step in found:
        assert int(step) == before[title]
    return len(found)


def published_models(storage: Storage, runs: list[StageRun], folder: Path) -> dict[str, bytes]:
    found = {}
    for run in runs:
        path = artifacts.fetch(storage, artifacts.require(storage, run), folder)
        if run.kind != "report":
            found[run.title] = (path / "model/model.safetensors").read_bytes()
    return found


@pytest.mark.parametrize("kind", ["folder", pytest.param("s3", marks=pytest.mark.slow)])
def test_two_at_once_end_well_and_publish_once(
    make_encoder: Callable[..., Path], tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """One commits, the other notices: while it trains, when it publishes, or before it begins."""
    if kind == "s3":
        request.getfixturevalue("s3")
    store = f"s3://{BUCKET}/{tmp_path.name}" if kind == "s3" else str(tmp_path / "store")
    write_rows(tmp_path / "rows.csv")
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[])
    if kind == "s3":
        fields["stages"] = {name: fields["stages"][name] for name in ("adapt", "adapted-head")}
    fields["defaults"] = {
        kind: {"epochs": 10, "learning_rate": 1e-3, "save_every": 3} for kind in ("adapt", "classify")
    }
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(fields))
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    processes = [start(job, store, log) for log in logs]
    assert [process.wait() for process in processes] == [0, 0], [log.read_text() for log in logs]
    runs, storage = plan(read(job)), open_storage(store)
    assert sum(stored[0].endswith("/manifest.json") for stored in storage.list("toy")) == len(runs)
    whole = open_storage(str(tmp_path / "whole"))
    assert start(job, str(tmp_path / "whole"), tmp_path / "whole.log").wait() == 0
    assert published_models(storage, runs, tmp_path) == published_models(whole, runs, tmp_path)
    left = {stored[0].split("/")[4] for stored in storage.list("toy")}
    assert left <= {"manifest.json", "attempts"}, left


@pytest.mark.slow
def test_kills_from_the_very_start_change_nothing(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """On a folder, with processes that start from nothing: also in the imports, and between two stages."""
    job, runs = job_at(tmp_path, make_encoder("bert", "mlm"), ["adapt", "adapted-head"])
    whole, killed = open_storage(str(tmp_path / "whole")), open_storage(str(tmp_path / "killed"))
    assert start(job, str(tmp_path / "whole"), tmp_path / "whole.log").wait() == 0
    moments = random.Random(11)
    for number in range(6):
        before, log = whole_states(killed, runs), tmp_path / f"attempt-{number}.log"
        process = start(job, str(tmp_path / "killed"), log)
        time.sleep(moments.uniform(0.0, 12.0))
        process.kill()
        process.wait()
        check_resumed(log, before)
    assert start(job, str(tmp_path / "killed"), tmp_path / "last.log").wait() == 0
    assert published_models(killed, runs, tmp_path) == published_models(whole, runs, tmp_path)
    assert not whole_states(killed, runs)


# ---------------------------------------------------------------- 30 kills, aimed


def attempt(environment: dict[str, str], log: str, *arguments: str) -> None:
    """`ftjobs ARGUMENTS` in a process that has imported everything already."""
    from ftjobs.__main__ import main

    os.environ.update(environment)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = ["ftjobs", *arguments]
    main()


class Killer:
    """Starts attempts behind a proxy, and kills each at the moment aimed at."""

    def __init__(self, proxy: Proxy, job: Path, store: str, moments: random.Random) -> None:
        self.proxy, self.moments, self.job, self.store = proxy, moments, job, store
        self.forks = multiprocessing.get_context("forkserver")
        stages = [f"ftjobs.stages.{kind}" for kind in ("prepare", "adapt", "classify", "report")]
        self.forks.set_forkserver_preload(["ftjobs.cli", "ftjobs.execution.runner", "ftjobs.storage.s3", *stages])
        self.process: Any = None

    def start(self, log: Path) -> None:
        arguments = (str(log), "run", str(self.job), "--store", self.store)
        self.process = self.forks.Process(target=attempt, args=({**environment(self.proxy.url)}, *arguments))
        log.touch()
        self.process.start()

    def kill(self, kind: str, aim: str, log: Path) -> None:
        """Start an attempt and kill it in its `work`, in its `upload`, or at its commit, carried out or not."""
        met, dead = threading.Event(), threading.Event()
        part = {"work": "/attempts/", "upload": "/attempts/", "saving": "/state/"}.get(aim, "/manifest.json")
        number = 1 if part == "/manifest.json" or aim == "work" else self.moments.randint(1, 5)
        carried_out = aim == "committed" or (aim in ("upload", "saving") and self.moments.random() < 0.5)
        lock, count = threading.Lock(), 0

        def fault(request: Request, forward: Callable[[Request], Answer]) -> Answer | None:
            nonlocal count
            if met.is_set() or request.method != "PUT" or part not in request.path:
                return forward(request)
            with lock:
                count += 1
                mine = count == number
            if not mine:
                return forward(request)
            if carried_out:
                forward(request)
            met.set()  # at work longer than was thought: it ends here, before it publishes
            dead.wait(60)
            return None

        self.proxy.fault = fault
        self.start(log)
        if aim == "work":
            sign = self.moments.choice([b": running", SIGNS[kind], SIGNS[kind]])
            until(lambda: sign in log.read_bytes() or met.is_set(), self.process, 20.0)
            met.wait(self.moments.uniform(0.0, 0.8))
        else:
            until(met.is_set, self.process, 120.0)
            assert met.is_set(), log.read_text()
        self.process.kill()
        self.process.join()
        dead.set()
        assert self.process.exitcode == -9, log.read_text()


def until(condition: Callable[[], Any], process: Any, seconds: float) -> None:
    end = time.monotonic() + seconds
    while not condition() and process.is_alive() and time.monotonic() < end:
        time.sleep(0.01)


#: Lines of the log that say how far a stage is.
SIGNS = {"prepare": b"train: ", "adapt": b"adapting on", "classify": b"newly initialised"}


def aims(moments: random.Random) -> Iterator[tuple[str, str]]:
    """Thirty moments, in the order of the pipeline: the stage, and what it is doing."""
    for kind, work, uploads in (("prepare", 4, 1), ("adapt", 5, 2), ("classify", 3, 1), ("classify", 2, 1)):
        saving = ["saving"] * (kind != "prepare")
        publishing = ["upload"] * uploads + ["commit"]
        moments.shuffle(publishing)
        yield from ((kind, aim) for aim in (*saving, *["work"] * work, *publishing, "committed"))


@pytest.mark.slow
def test_thirty_kills_change_nothing(
    s3: S3Server, make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In prepare, in adapt, in classify, in the middle of uploads, at the commit just before and just after it."""
    job, runs = job_at(tmp_path, make_encoder("bert", "mlm"), ["adapt", "behavioural", "adapted-head"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    whole, killed = open_storage(str(tmp_path / "whole")), open_storage(f"s3://{BUCKET}/{tmp_path.name}")
    assert start(job, str(tmp_path / "whole"), tmp_path / "whole.log").wait() == 0
    moments = random.Random(11)
    planned = list(aims(moments))
    reader = Reader(killed, tmp_path / "reader")
    reader.start()
    hit: Counter[str] = Counter()
    resumed = 0
    with fault_proxy.proxy(s3.url) as proxy:
        killer = Killer(proxy, job, f"s3://{BUCKET}/{tmp_path.name}", moments)
        for number, (kind, aim) in enumerate(planned):
            unpublished = next(run for run in runs if artifacts.find(killed, run) is None)
            assert unpublished.kind == kind
            before, log = whole_states(killed, runs), tmp_path / f"attempt-{number}.log"
            proxy.seen = []
            killer.kill(kind, aim, log)
            check_nothing_redone(proxy.seen, runs, before)
            resumed += check_resumed(log, before)
            hit[{"upload": "upload", "commit": "commit", "committed": "commit"}.get(aim, kind)] += 1
            assert (artifacts.find(killed, unpublished) is not None) == (aim == "committed")
        proxy.fault = fault_proxy.none
        before, log = whole_states(killed, runs), tmp_path / "last.log"
        proxy.seen = []
        killer.start(log)
        killer.process.join()
        assert killer.process.exitcode == 0, log.read_text()
        check_nothing_redone(proxy.seen, runs, before)
    assert hit.total() == 30
    assert min(hit[moment] for moment in ("prepare", "adapt", "classify", "upload", "commit")) >= 4, hit
    assert resumed > 8
    reader.ended.set()
    reader.join()
    assert reader.wrong == []
    assert len(reader.seen) == len(runs)
    assert published_models(killed, runs, tmp_path) == published_models(whole, runs, tmp_path)
    # Killed uploads leave attempts, and a kill right after the commit leaves training state: `gc` knows them.
    assert whole_states(killed, runs)
    removed = [artifacts.remove(killed, found) for found in artifacts.dead(killed, timedelta(seconds=-60))]
    assert all(removed)
    assert not whole_states(killed, runs)
    assert [artifacts.verify(killed, run.key) for run in runs] == [[] for _ in runs]
    manifests = [artifacts.require(killed, run) for run in runs]
    named = {f"{one.folder}/{file.path}" for one in manifests for file in one.files}
    stored = {entry.key for entry in killed.list("")}
    assert stored == named | {f"{one.key}/manifest.json" for one in manifests}
