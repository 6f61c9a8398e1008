"""A toy stage to track, and no tracker's settings but those of the test."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan, select
from ftjobs.storage import LocalStorage
from ftjobs.tracking import tracked
from ftjobs.tracking.folders import steps_logged
from tests.helpers.pipelines import job_fields, write_rows

WANDB = {"wandb": {"project": "trials"}}


@pytest.fixture(autouse=True)
def nobodys_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # nobody's ~/.netrc
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    (tmp_path / "home").mkdir()
    tracked._gave_up.clear()
    yield
    tracked._gave_up.clear()


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., StageRun]:
    """`stage(which)`: a stage of a toy job that is tracked."""

    def make(stage: str = "adapt", **changes: Any) -> StageRun:
        write_rows(tmp_path / "rows.csv")
        fields = job_fields(None, **{"tracking": WANDB, **changes})
        (tmp_path / "job.yaml").write_text(json.dumps(fields))
        return select(plan(read(tmp_path / "job.yaml")), stage)

    return make


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")


def work_folder(path: Path) -> tuple[Path, Path]:
    """A stage's work folder and its output, with something in it."""
    output = path / "output"
    (output / "model").mkdir(parents=True)
    (output / "model/model.safetensors").write_bytes(b"weights")
    return path, output


def until(state: Callable[[], bool], what: str) -> None:
    """Wait for a state, however busy the machine is."""
    deadline = time.monotonic() + 120
    while not state():
        assert time.monotonic() < deadline, what
        time.sleep(0.05)


def published_steps(output: Path) -> list[int]:
    """The steps in all run folders of an output folder, in the order in which they would be uploaded."""
    logs = sorted((output / "wandb").glob("*/run-*.wandb"), key=lambda path: path.parent.name.removeprefix("offline-"))
    return [step for path in logs for step in steps_logged(path)]
