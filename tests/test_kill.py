"""A machine may vanish at any moment: kill -9 again and again, and the pipeline still ends in the same bytes."""

from __future__ import annotations

import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ftjobs import artifacts
from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan
from ftjobs.storage import Storage, open_storage
from tests.s3_server import BUCKET
from tests.stages.test_pipeline import job_fields, write_rows

KILLS = 15  # on each kind of store


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
        while not self.ended.wait(0.05):
            try:
                for manifest in artifacts.listing(self.storage):
                    artifacts.fetch(self.storage, manifest, self.folder / f"{time.monotonic_ns()}")
                    self.seen.add(manifest.identity)
            except Exception as error:
                self.wrong.append(repr(error))


def await_moment(process: subprocess.Popen[bytes], log: Path, moments: random.Random) -> None:
    """Wait until a random moment: in the imports, as a stage loads its inputs, or well into its training and after."""
    started = time.monotonic()
    sign, longest = moments.choice([(b"", 3.0), (b": running", 4.0), (b"adapting on", 4.0), (b"newly init", 4.0)])
    while sign not in log.read_bytes() and process.poll() is None and time.monotonic() - started < 20.0:
        time.sleep(0.02)
    time.sleep(moments.uniform(0.0, longest))


def published_models(storage: Storage, runs: list[StageRun], folder: Path) -> dict[str, bytes]:
    found = {}
    for run in runs:
        path = artifacts.fetch(storage, artifacts.require(storage, run), folder)
        if run.kind != "report":
            found[run.title] = (path / "model/model.safetensors").read_bytes()
    return found


def test_two_at_once_end_well_and_publish_once(make_encoder: Callable[..., Path], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv")
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[])
    fields["defaults"] = {
        kind: {"epochs": 10, "learning_rate": 1e-3, "save_every": 3} for kind in ("adapt", "classify")
    }
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(fields))
    logs = [tmp_path / "one.log", tmp_path / "two.log"]
    processes = [start(job, str(tmp_path / "store"), log) for log in logs]
    assert [process.wait() for process in processes] == [0, 0], [log.read_text() for log in logs]
    runs, storage = plan(read(job)), open_storage(str(tmp_path / "store"))
    assert sum(stored[0].endswith("/manifest.json") for stored in storage.list("toy")) == len(runs)
    whole = open_storage(str(tmp_path / "whole"))
    assert start(job, str(tmp_path / "whole"), tmp_path / "whole.log").wait() == 0
    assert published_models(storage, runs, tmp_path) == published_models(whole, runs, tmp_path)
    left = {stored[0].split("/")[4] for stored in storage.list("toy")}
    assert left <= {"manifest.json", "attempts"}, left


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "s3"])
def test_kills_change_nothing(
    make_encoder: Callable[..., Path], tmp_path: Path, kind: str, request: pytest.FixtureRequest
) -> None:
    write_rows(tmp_path / "rows.csv")
    fields = job_fields(make_encoder("bert", "mlm"), hypotheses=[])
    fields["defaults"] = {
        kind: {"epochs": 60, "learning_rate": 1e-3, "save_every": 4} for kind in ("adapt", "classify")
    }
    fields["seeds"] = [1, 2]
    job = tmp_path / "job.yaml"
    job.write_text(json.dumps(fields))
    runs = plan(read(job))
    if kind == "s3":
        request.getfixturevalue("s3")
    store = f"s3://{BUCKET}/{tmp_path.name}" if kind == "s3" else str(tmp_path / "killed")
    whole, killed = open_storage(str(tmp_path / "whole")), open_storage(store)
    assert start(job, str(tmp_path / "whole"), tmp_path / "whole.log").wait() == 0

    moments = random.Random(11)
    reader = Reader(killed, tmp_path / "reader")
    reader.start()
    kills = resumed = 0
    while True:
        before = whole_states(killed, runs)
        log = tmp_path / f"attempt-{kills}.log"
        process = start(job, store, log)
        if kills == KILLS:
            assert process.wait() == 0, log.read_text()
        else:
            await_moment(process, log, moments)
            process.kill()
            process.wait()
        for match in re.finditer(r"\] (.+): running\n(?:.*\n)*?.*resuming after step (\d+) of", log.read_text()):
            assert int(match[2]) == before[match[1]], "more was done again than the steps since the last state"
            resumed += 1
        if kills == KILLS:
            break
        kills += 1
    reader.ended.set()
    reader.join()
    assert reader.wrong == []
    assert reader.seen
    assert resumed > 0
    assert published_models(killed, runs, tmp_path) == published_models(whole, runs, tmp_path)
    assert not whole_states(killed, runs)
