"""A pipeline that is killed (SIGKILL) at any moment, again and again, still ends in the same bytes."""

from __future__ import annotations

import json
import math
import random
import re
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
from tests.fakes.fault_proxy import Proxy, Request, Response
from tests.fakes.s3_server import BUCKET, S3Server, environment
from tests.helpers.interruptions import preloaded_forkserver, published_models, run_command, saved_steps, start_run
from tests.helpers.pipelines import job_fields, write_rows


class Reader(threading.Thread):
    """Fetches all published artifacts again and again, as another pod would, and records every failure."""

    def __init__(self, storage: Storage, folder: Path) -> None:
        super().__init__(daemon=True)
        self.storage, self.folder, self.ended = storage, folder, threading.Event()
        self.seen: set[str] = set()
        self.wrong: list[str] = []

    def run(self) -> None:
        last = False
        while not last:
            last = self.ended.wait(0.2)  # one more round for what was published last
            try:
                for manifest in artifacts.list_manifests(self.storage):
                    artifacts.fetch(self.storage, manifest, self.folder / f"{time.monotonic_ns()}")
                    self.seen.add(manifest.identity)
            except Exception as error:
                self.wrong.append(repr(error))


def job_at(folder: Path, encoder: Path, stages: list[str]) -> tuple[Path, list[StageRun]]:
    """Write a job of these stages, which train for some seconds and save their state every few steps."""
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
    """Assert that no state was stored for a step before the saved one, as an attempt that starts over would."""
    for run in runs:
        stored = re.compile(rf"/{re.escape(run.key)}/state/(\d+)-[0-9a-f]+/")
        puts = [request.path for request in requests if request.method == "PUT"]
        steps = [int(match[1]) for path in puts if (match := stored.search(path))]
        assert min(steps, default=math.inf) > before.get(run.title, 0), run.title


def check_resumed(log: Path, before: dict[str, int]) -> int:
    """Assert that stages resumed from the last saved step; returns the number of resumed stages."""
    resumed = re.findall(r"\] (.+): running\n(?:.*\n)*?.*resuming after step (\d+) of", log.read_text())
    for title, step in resumed:
        assert int(step) == before[title]
    return len(resumed)


@pytest.mark.parametrize("kind", ["folder", pytest.param("s3", marks=pytest.mark.slow)])
def test_concurrent_runs_succeed_and_publish_once(
    make_encoder: Callable[..., Path], tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    """The second attempt finds the artifact published: before it begins, while it trains, or when it publishes."""
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
    logs = [tmp_path / "first.log", tmp_path / "second.log"]
    processes = [start_run(job, store, log) for log in logs]
    assert [process.wait() for process in processes] == [0, 0], [log.read_text() for log in logs]
    runs, storage = plan(read(job)), open_storage(store)
    assert sum(stored[0].endswith("/manifest.json") for stored in storage.list("toy")) == len(runs)
    complete = open_storage(str(tmp_path / "whole"))
    assert start_run(job, str(tmp_path / "whole"), tmp_path / "whole.log").wait() == 0
    assert published_models(storage, runs, tmp_path) == published_models(complete, runs, tmp_path)
    left = {stored[0].split("/")[4] for stored in storage.list("toy")}
    assert left <= {"manifest.json", "attempts"}, left


@pytest.mark.slow
def test_kills_during_startup_change_no_bytes(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    """On a local store, with cold processes: kills hit imports and the time between two stages too."""
    job, runs = job_at(tmp_path, make_encoder("bert", "mlm"), ["adapt", "adapted-head"])
    complete, killed = open_storage(str(tmp_path / "whole")), open_storage(str(tmp_path / "killed"))
    assert start_run(job, str(tmp_path / "whole"), tmp_path / "whole.log").wait() == 0
    moments = random.Random(11)
    for number in range(6):
        before, log = saved_steps(killed, runs), tmp_path / f"attempt-{number}.log"
        process = start_run(job, str(tmp_path / "killed"), log)
        time.sleep(moments.uniform(0.0, 12.0))
        process.kill()
        process.wait()
        check_resumed(log, before)
    assert start_run(job, str(tmp_path / "killed"), tmp_path / "last.log").wait() == 0
    assert published_models(killed, runs, tmp_path) == published_models(complete, runs, tmp_path)
    assert not saved_steps(killed, runs)


# ---------------------------------------------------------------- 30 kills at chosen moments


class Killer:
    """Starts attempts behind a proxy and kills each at a chosen moment."""

    def __init__(self, proxy: Proxy, job: Path, store: str, moments: random.Random) -> None:
        self.proxy, self.moments, self.job, self.store = proxy, moments, job, store
        self.forks = preloaded_forkserver()
        self.process: Any = None

    def start(self, log: Path) -> None:
        arguments = (str(log), "run", str(self.job), "--store", self.store)
        self.process = self.forks.Process(target=run_command, args=({**environment(self.proxy.url)}, *arguments))
        log.touch()
        self.process.start()

    def kill(self, kind: str, aim: str, log: Path) -> None:
        """Start an attempt and kill it during `work`, `upload` or `saving`, before its `commit`, or once `committed`."""
        met, dead = threading.Event(), threading.Event()
        part = {"work": "/attempts/", "upload": "/attempts/", "saving": "/state/"}.get(aim, "/manifest.json")
        number = 1 if part == "/manifest.json" or aim == "work" else self.moments.randint(1, 5)
        carried_out = aim == "committed" or (aim in ("upload", "saving") and self.moments.random() < 0.5)
        lock, count = threading.Lock(), 0

        def fault(request: Request, forward: Callable[[Request], Response]) -> Response | None:
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
            met.set()  # aiming at work, but it took longer: killed before it publishes
            dead.wait(60)
            return None

        self.proxy.fault = fault
        self.start(log)
        if aim == "work":
            line = self.moments.choice([b": running", LOG_LINES[kind], LOG_LINES[kind]])
            until(lambda: line in log.read_bytes() or met.is_set(), self.process, 20.0)
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


#: Kind -> a log line during its work.
LOG_LINES = {"prepare": b"train: ", "adapt": b"adapting on", "classify": b"newly initialised"}


def aims(moments: random.Random) -> Iterator[tuple[str, str]]:
    """Thirty moments in the order of the pipeline: kind of the stage and its activity."""
    for kind, work, uploads in (("prepare", 4, 1), ("adapt", 5, 2), ("classify", 3, 1), ("classify", 2, 1)):
        saving = ["saving"] * (kind != "prepare")
        publishing = ["upload"] * uploads + ["commit"]
        moments.shuffle(publishing)
        yield from ((kind, aim) for aim in (*saving, *["work"] * work, *publishing, "committed"))


@pytest.mark.slow
def test_thirty_kills_change_no_bytes(
    s3: S3Server, make_encoder: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Kills in prepare, adapt and classify, during uploads, and just before and after the commit."""
    job, runs = job_at(tmp_path, make_encoder("bert", "mlm"), ["adapt", "behavioural", "adapted-head"])
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    complete, killed = open_storage(str(tmp_path / "whole")), open_storage(f"s3://{BUCKET}/{tmp_path.name}")
    assert start_run(job, str(tmp_path / "whole"), tmp_path / "whole.log").wait() == 0
    moments = random.Random(11)
    planned = list(aims(moments))
    reader = Reader(killed, tmp_path / "reader")
    reader.start()
    hit: Counter[str] = Counter()
    resumed = 0
    with fault_proxy.proxy(s3.url) as proxy:
        killer = Killer(proxy, job, f"s3://{BUCKET}/{tmp_path.name}", moments)
        for number, (kind, aim) in enumerate(planned):
            unpublished = next(run for run in runs if artifacts.find_manifest(killed, run) is None)
            assert unpublished.kind == kind
            before, log = saved_steps(killed, runs), tmp_path / f"attempt-{number}.log"
            proxy.requests = []
            killer.kill(kind, aim, log)
            check_nothing_redone(proxy.requests, runs, before)
            resumed += check_resumed(log, before)
            hit[{"upload": "upload", "commit": "commit", "committed": "commit"}.get(aim, kind)] += 1
            assert (artifacts.find_manifest(killed, unpublished) is not None) == (aim == "committed")
        proxy.fault = fault_proxy.no_fault
        before, log = saved_steps(killed, runs), tmp_path / "last.log"
        proxy.requests = []
        killer.start(log)
        killer.process.join()
        assert killer.process.exitcode == 0, log.read_text()
        check_nothing_redone(proxy.requests, runs, before)
    assert hit.total() == 30
    assert min(hit[moment] for moment in ("prepare", "adapt", "classify", "upload", "commit")) >= 4, hit
    assert resumed > 8
    reader.ended.set()
    reader.join()
    assert reader.wrong == []
    assert len(reader.seen) == len(runs)
    assert published_models(killed, runs, tmp_path) == published_models(complete, runs, tmp_path)
    # Killed uploads leave attempts, and a kill right after the commit leaves training state; `gc` removes both.
    assert saved_steps(killed, runs)
    removed = [
        artifacts.remove_garbage(killed, garbage) for garbage in artifacts.find_garbage(killed, timedelta(seconds=-60))
    ]
    assert all(removed)
    assert not saved_steps(killed, runs)
    assert [artifacts.verify(killed, run.key) for run in runs] == [[] for _ in runs]
    manifests = [artifacts.require_manifest(killed, run) for run in runs]
    named = {f"{manifest.folder}/{file.path}" for manifest in manifests for file in manifest.files}
    stored = {entry.key for entry in killed.list("")}
    assert stored == named | {f"{manifest.key}/manifest.json" for manifest in manifests}
