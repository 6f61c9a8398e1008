"""A tracked toy stage, without settings of this machine's tracker."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan, select
from ftjobs.storage import LocalStorage
from ftjobs.tracking import wandb_tracker
from tests.helpers.pipelines import job_fields, write_rows
from tests.helpers.tracking import WANDB


@pytest.fixture(autouse=True)
def isolated_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))  # without a ~/.netrc
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    (tmp_path / "home").mkdir()
    wandb_tracker._server_failed.clear()
    yield
    wandb_tracker._server_failed.clear()


@pytest.fixture
def stage(tmp_path: Path) -> Callable[..., StageRun]:
    """`stage(name)` returns a stage of a tracked toy job."""

    def make(stage: str = "adapt", **changes: Any) -> StageRun:
        write_rows(tmp_path / "rows.csv")
        fields = job_fields(None, **{"tracking": WANDB, **changes})
        (tmp_path / "job.yaml").write_text(json.dumps(fields))
        return select(plan(read(tmp_path / "job.yaml")), stage)

    return make


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(tmp_path / "store")
