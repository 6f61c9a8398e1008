"""Weights & Biases gets every stage and seed as a run of its own, and can never stop training."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import accelerate.tracking
import pytest

from ftjobs import runner
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select
from ftjobs.storage import open_storage
from tests.stages.test_pipeline import job_fields, run_job, write_rows


class FakeTracker:
    """Notes what accelerate's tracker for Weights & Biases is told."""

    made: list[FakeTracker]

    def __init__(self, project: str, **settings: Any) -> None:
        self.project, self.settings = project, settings
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.state = "made"
        FakeTracker.made.append(self)

    def start(self) -> None:
        self.state = "started"

    def log(self, metrics: dict[str, Any], step: int) -> None:
        self.logged.append((step, metrics))

    def finish(self) -> None:
        self.state = "finished"


@pytest.fixture
def fields(make_encoder: Callable[..., Path]) -> dict[str, Any]:
    tracked = job_fields(make_encoder("bert", "mlm"), hypotheses=[], tracking={"wandb": {"project": "trials"}})
    tracked["stages"] = {name: tracked["stages"][name] for name in ("adapt", "adapted-head")}
    return tracked


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeTracker]:
    FakeTracker.made = []
    monkeypatch.setattr(accelerate.tracking, "WandBTracker", FakeTracker)
    return FakeTracker


def test_one_run_per_stage_and_seed(fields: dict[str, Any], fake: type[FakeTracker], tmp_path: Path) -> None:
    run_job(tmp_path, fields, tmp_path / "store")
    runs = [run for run in plan(read(tmp_path / "job.yaml")) if run.has_seed]
    assert [made.project for made in fake.made] == ["trials", "trials"]
    for made, run in zip(fake.made, runs, strict=True):
        assert made.state == "finished"
        assert made.settings["id"] == run.identity[:16]
        assert made.settings["resume"] == "allow"
        assert (made.settings["group"], made.settings["job_type"]) == ("toy", run.kind)
        assert made.settings["name"] == f"{run.stage}-seed-1"
        assert made.settings["config"]["learning_rate"] == 1e-3
        steps = [step for step, metrics in made.logged if "train/loss" in metrics]
        assert steps
        assert all(step % 10 == 0 for step in steps)
        assert [metrics["epoch"] for _, metrics in made.logged if "epoch" in metrics] == [1, 2]
    adapted, classified = (made.logged[-1][1] for made in fake.made)
    assert {"mlm/loss", "mlm/perplexity", "mlm/accuracy", "train/epoch_loss"} <= set(adapted)
    assert {"eval/test/accuracy", "eval/test/f1", "eval/test/loss"} <= set(classified)


@pytest.mark.parametrize("broken", ["start", "log", "finish"])
def test_a_tracker_that_fails_does_not_stop_training(
    fields: dict[str, Any], fake: type[FakeTracker], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken: str
) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route to host")

    monkeypatch.setattr(fake, broken, fails)
    _, manifests = run_job(tmp_path, fields, tmp_path / "store")
    assert len(manifests) == 4


def test_without_a_key_runs_are_kept_for_later(
    fields: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real thing, offline, in a process of its own."""
    write_rows(tmp_path / "rows.csv")
    (tmp_path / "job.yaml").write_text(json.dumps(fields))
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))  # nobody's ~/.netrc
    storage = open_storage(str(tmp_path / "store"))
    runs = plan(read(tmp_path / "job.yaml"))
    runner.run_stage(runs[0], storage)
    command = [sys.executable, "-m", "ftjobs", "stage", "job.yaml", "adapt", "--store", "store"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert "no key for Weights & Biases, logging to ./wandb" in done.stderr
    identity = select(runs, "adapt").identity[:16]
    kept = list((tmp_path / "wandb").glob(f"offline-run-*-{identity}/run-{identity}.wandb"))
    assert len(kept) == 1
    content = kept[0].read_bytes()
    for expected in (b"trials", b"mlm/perplexity", b"train/learning_rate"):
        assert expected in content


def test_without_tracking_it_is_not_even_imported(fields: dict[str, Any], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv")
    (tmp_path / "job.yaml").write_text(json.dumps({**fields, "tracking": {}}))
    code = (
        "import sys; sys.argv = ['ftjobs', 'run', 'job.yaml', '--store', 'store']\nfrom ftjobs import cli\ncli.main()\n"
    )
    code += "assert 'wandb' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
