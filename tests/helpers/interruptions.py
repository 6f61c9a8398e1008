"""Start pipelines that are interrupted, and inspect what they leave in storage."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ftjobs import artifacts
from ftjobs.plan import StageRun
from ftjobs.storage import Storage


def start_run(job: Path, store: str, log: Path) -> subprocess.Popen[bytes]:
    """Start `ftjobs run` on one thread, with its log appended to a file."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with log.open("ab") as output:
        command = [sys.executable, "-m", "ftjobs", "run", str(job), "--store", store]
        return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=output, env=environment)


def run_command(environment: dict[str, str], log: str, *arguments: str) -> None:
    """Run `ftjobs ARGUMENTS` in this process, a fork of `preloaded_forkserver`, with its output in a file."""
    from ftjobs.__main__ import main

    os.environ.update(environment)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.argv = ["ftjobs", *arguments]
    main()


def preloaded_forkserver() -> Any:
    """A multiprocessing context whose processes have imported everything that stages need."""
    context = multiprocessing.get_context("forkserver")
    stages = [f"ftjobs.stages.{kind}" for kind in ("prepare", "adapt", "classify", "report")]
    context.set_forkserver_preload(["ftjobs.cli", "ftjobs.execution.runner", "ftjobs.storage.s3", *stages])
    return context


def saved_steps(storage: Storage, runs: list[StageRun]) -> dict[str, int]:
    """Return the step of the latest complete training state by title of the stage."""
    steps: dict[str, int] = {}
    for run in runs:
        for key in (stored[0] for stored in storage.list(f"{run.key}/state")):
            match = re.search(r"/state/(\d+)-[0-9a-f]+/whole\.json$", key)
            if match:
                steps[run.title] = max(steps.get(run.title, 0), int(match[1]))
    return steps


def saved_steps_in(store: Path) -> set[int]:
    """Return the steps of all complete training states in a local store."""
    return {json.loads(path.read_text())["step"] for path in store.rglob("state/*/whole.json")}


def wait_for_state(store: Path, processes: list[subprocess.Popen[str]], after: int = 0) -> None:
    """Wait until a local store has a training state of a step later than `after`."""
    while max(saved_steps_in(store), default=0) <= after:
        for process in processes:
            assert process.poll() is None, process.communicate()
        time.sleep(0.05)


def published_models(storage: Storage, runs: list[StageRun], folder: Path) -> dict[str, bytes]:
    """Fetch published artifacts and return the bytes of their weights by title of the stage."""
    models = {}
    for run in runs:
        path = artifacts.fetch(storage, artifacts.require_manifest(storage, run), folder)
        if run.kind != "report":
            models[run.title] = (path / "model/model.safetensors").read_bytes()
    return models
