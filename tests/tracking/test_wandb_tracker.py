"""Stages as runs of Weights & Biases, online with a fake server, and offline."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ftjobs.plan import StageRun
from ftjobs.storage import LocalStorage
from ftjobs.tracking import Tracker, open_tracker
from ftjobs.tracking import wandb_folders as folders
from ftjobs.tracking.wandb_tracker import run_id
from tests.fakes.wandb_server import KEY, WandbServer
from tests.helpers.published import HYPOTHESES, PLOTS, STAGES, STRATEGIES, Pipeline
from tests.helpers.tracking import make_work_folder, read_published_steps, wait_until


@pytest.fixture
def online(wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> WandbServer:
    for name, value in wandb_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        "ftjobs.tracking.wandb_tracker._ONLINE_FINISH_SECONDS", 60.0
    )  # so that a busy machine changes no result
    monkeypatch.setattr("ftjobs.tracking.wandb_tracker._UPLOAD_SECONDS", 50.0)
    return wandb_server


def sync(folder: Path, server: WandbServer, *options: str) -> None:
    """Run `wandb sync`."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *options, str(folder)],  # its script may not be on the PATH
        cwd=folder.parent,  # it writes a log to `wandb` in the working directory
        env={**os.environ, **server.environment()},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr


def log_rows(log: Any, first: int, last: int) -> None:
    for step in range(first, last + 1):
        if step % 10 == 0:
            log({"train/loss": 1.0 / (step + 1)}, step)


def test_run_has_name_settings_axes_and_metrics_of_its_stage(
    stage: Callable[..., StageRun], storage: LocalStorage, online: WandbServer, tmp_path: Path
) -> None:
    run = stage("adapt")
    work, output = make_work_folder(tmp_path / "work")
    with open_tracker(run, storage, work) as tracker:
        tracker.log({"epoch": 0, "mlm/perplexity": 90.0}, 0)
        tracker.start(None)
        log_rows(tracker.log, 1, 20)
        tracker.log({"epoch": 1, "mlm/perplexity": 9.0, "system/examples_per_second": 5.0}, 20)
        log_rows(tracker.log, 21, 30)
        tracker.finish(output, {"best_epoch": 1, "best": {"perplexity": 9.0}})
    assert list(online.runs) == [run_id(run)]
    wandb_run = online.runs[run_id(run)]
    assert run_id(run).startswith(run.identity[:12])
    assert wandb_run.about["displayName"] == f"adapt-seed-1-{run.identity[:8]}"
    assert (wandb_run.about["groupName"], wandb_run.about["jobType"], wandb_run.about["project"]) == (
        "toy",
        "adapt",
        "trials",
    )
    assert wandb_run.config == {
        **run.settings.model_dump(mode="json"),
        "pipeline": "toy",
        "stage": "adapt",
        "kind": "adapt",
        "seed": 1,
        "identity": run.identity,
        "inputs": {"prepare": run.inputs["prepare"].identity, "encoder": run.inputs["encoder"].identity},
    }
    rows = [
        {name: value for name, value in row.items() if name not in ("_runtime", "_timestamp")}
        for row in wandb_run.history
    ]
    assert rows == [
        {"_step": 0, "step": 0, "epoch": 0, "mlm/perplexity": 90.0},
        {"_step": 10, "step": 10, "train/loss": 1 / 11},
        {
            "_step": 20,
            "step": 20,
            "epoch": 1,
            "train/loss": 1 / 21,
            "mlm/perplexity": 9.0,
            "system/examples_per_second": 5.0,
        },
        {"_step": 30, "step": 30, "train/loss": 1 / 31},
    ]
    metrics = json.loads(wandb_run.about["config"])["_wandb"]["value"]["m"]
    names = [metric.get("1") or metric.get("2") for metric in metrics]
    axes = {name: names[metric["5"] - 1] for name, metric in zip(names, metrics, strict=True) if "5" in metric}
    assert axes["train/*"] == "step"
    assert axes["eval/*"] == axes["mlm/*"] == axes["system/*"] == "epoch"
    assert wandb_run.summary["result/best_epoch"] == 1
    assert wandb_run.summary["result/best/perplexity"] == 9.0
    assert wandb_run.exit_code == 0
    assert not (output / "wandb").exists(), "everything is on the server"


def test_artifact_refers_to_storage(
    stage: Callable[..., StageRun], storage: LocalStorage, online: WandbServer, tmp_path: Path
) -> None:
    run = stage("adapt")
    work, output = make_work_folder(tmp_path / "work")
    with open_tracker(run, storage, work) as tracker:
        tracker.finish(output, {})
    wandb_run = online.runs[run_id(run)]
    address = (storage.root / run.key).as_uri()
    assert [(artifact["artifactCollectionName"], artifact["artifactTypeName"]) for artifact in wandb_run.artifacts] == [
        ("toy-adapt-seed-1", "model")
    ]
    metadata = json.loads(wandb_run.artifacts[0]["metadata"])
    assert metadata["identity"] == run.identity
    assert metadata["artifact"] == address
    assert metadata["sha256"] == {"model/model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    assert [entry["ref"] for entry in wandb_run.manifests[0]["contents"].values()] == [f"{address}/manifest.json"]
    assert b"weights" not in b"".join(wandb_run.files.values())


def test_restarted_stage_continues_its_run_with_every_step_once(
    stage: Callable[..., StageRun], storage: LocalStorage, online: WandbServer, tmp_path: Path
) -> None:
    run = stage("adapt")
    state = tmp_path / "state"
    state.mkdir()
    work, output = make_work_folder(tmp_path / "first")
    with pytest.raises(RuntimeError), open_tracker(run, storage, work) as tracker:
        tracker.start(None)
        log_rows(tracker.log, 1, 60)
        tracker.save_state(state)
        log_rows(tracker.log, 61, 90)  # after the last saved state
        raise RuntimeError("the node is gone")
    assert online.runs[run_id(run)].exit_code == 1
    work, output = make_work_folder(tmp_path / "second")
    with open_tracker(run, storage, work) as tracker:
        tracker.start(state)
        log_rows(tracker.log, 61, 120)
        tracker.finish(output, {})
    wandb_run = online.runs[run_id(run)]
    assert wandb_run.opened == 2
    assert [row["_step"] for row in wandb_run.history] == list(range(10, 121, 10))
    assert [row["step"] for row in wandb_run.history] == list(range(10, 121, 10))
    assert not (output / "wandb").exists()


def test_wandb_sync_uploads_offline_segments_as_one_run(
    stage: Callable[..., StageRun], storage: LocalStorage, wandb_server: WandbServer, tmp_path: Path
) -> None:
    """A pod is lost with its disk, another resumes from the training state, and the published folders are synced."""
    run = stage("adapt")
    state = tmp_path / "state"
    state.mkdir()
    work, output = make_work_folder(tmp_path / "first")
    place = work / "tracking/wandb"
    with pytest.raises(RuntimeError), open_tracker(run, storage, work) as tracker:
        (place / f"offline-run-20200101_000000-{run_id(run)}").mkdir(
            parents=True
        )  # of an attempt that was killed at its start
        (place / f"offline-run-20200101_000000-{run_id(run)}/run-{run_id(run)}.wandb").write_bytes(b":W&B\xe1\xbe\x00")
        tracker.start(None)
        log_rows(tracker.log, 1, 60)
        wait_until(
            lambda: [folders.last_step(folder) for folder in folders.find_run_folders(run_id(run), place)][-1] == 50,
            "rows on disk",
        )
        tracker.save_state(state)
        log_rows(tracker.log, 61, 90)
        raise RuntimeError("the node is gone")
    work.rename(tmp_path / "gone")
    work, output = make_work_folder(tmp_path / "second")
    with open_tracker(run, storage, work) as tracker:
        tracker.start(state)
        log_rows(tracker.log, 61, 120)
        tracker.finish(output, {"best_epoch": 3})
    segments = sorted(path.name for path in (output / "wandb").iterdir())
    assert len(segments) == 2
    assert all(name.startswith("offline-run-") and name.endswith(run_id(run)) for name in segments)
    assert read_published_steps(output) == list(range(10, 121, 10)), "each step in one segment"
    assert not any((output / "wandb").rglob("*.log"))
    (tmp_path / "elsewhere").mkdir()
    moved = (output / "wandb").rename(tmp_path / "elsewhere/wandb")
    sync(moved, wandb_server)
    assert list(wandb_server.runs) == [run_id(run)]
    wandb_run = wandb_server.runs[run_id(run)]
    assert [row["_step"] for row in wandb_run.history] == list(range(10, 121, 10))
    assert wandb_run.about["groupName"] == "toy"
    assert wandb_run.summary["result/best_epoch"] == 3
    assert [artifact["artifactCollectionName"] for artifact in wandb_run.artifacts] == ["toy-adapt-seed-1"]


@pytest.mark.slow
def test_wandb_sync_completes_an_interrupted_upload(
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    online: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ftjobs.tracking.wandb_tracker._ONLINE_FINISH_SECONDS", 4.0)
    run = stage("adapt")
    work, output = make_work_folder(tmp_path / "work")
    with open_tracker(run, storage, work) as tracker:
        tracker.start(None)
        log_rows(tracker.log, 1, 60)
        wait_until(lambda: run_id(run) in online.runs and bool(online.runs[run_id(run)].history), "the first rows")
        online.silent.set()
        log_rows(tracker.log, 61, 120)
        tracker.finish(output, {"best_epoch": 3})
    assert read_published_steps(output) == list(range(10, 121, 10))
    assert len(online.runs[run_id(run)].history) < 12
    online.silent.clear()
    sync(output / "wandb", online, "--include-online")
    wandb_run = online.runs[run_id(run)]
    # wandb uploads the whole log of an online run again, so rows on the server come twice with the same `_step`.
    assert {row["_step"]: row["train/loss"] for row in wandb_run.history} == {
        step: 1.0 / (step + 1) for step in range(10, 121, 10)
    }
    assert wandb_run.summary["result/best_epoch"] == 3


def test_report_is_logged_as_tables_plots_and_summary(
    stage: Callable[..., StageRun], storage: LocalStorage, online: WandbServer, tmp_path: Path
) -> None:
    run = stage("report")
    work, output = make_work_folder(tmp_path / "work")
    two = {name: STRATEGIES[name] for name in ("behavioural", "adapted-behavioural")}
    stages = {name: STAGES[name] for name in ("adapt", *two)}
    pipeline = Pipeline(tmp_path / "in", two, stages=stages, hypotheses=HYPOTHESES[1:], seeds=[1, 2], test=60)
    metrics = pipeline.report(output / "report")
    for path in (output / "report").iterdir():
        path.rename(output / path.name)
    with open_tracker(run, storage, work) as tracker:
        tracker.finish(output, metrics)
    wandb_run = online.runs[run_id(run)]
    assert (wandb_run.about["jobType"], wandb_run.about["displayName"]) == ("report", f"report-{run.identity[:8]}")
    media = {
        name.split("/")[1] + "/" + "/".join(name.split("/")[2:]).split("_0_")[0]: content
        for name, content in wandb_run.files.items()
        if name.startswith("media/")
    }
    names = ("results", "adaptation", "hypotheses")
    assert set(media) == {f"table/report/{name}" for name in names} | {f"images/plots/{plot}" for plot in PLOTS}
    report = json.loads((output / "report.json").read_text())
    tables = {name: json.loads(media[f"table/report/{name}"]) for name in names}
    rows = {
        name: [dict(zip(table["columns"], row, strict=True)) for row in table["data"]] for name, table in tables.items()
    }
    for shown, row in zip(rows["results"], report["results"], strict=True):
        assert (shown["stage"], shown["best_epochs"], shown["cost/devices"]) == (row["stage"], "2, 2", "cpu")
        assert [shown["accuracy/mean"], shown["accuracy/sd"]] == [row["accuracy"]["mean"], row["accuracy"]["sd"]]
        assert [shown["accuracy/interval/low"], shown["accuracy/interval/high"]] == row["accuracy"]["interval"]
        assert shown["f1/mean"] == row["f1"]["mean"]
        assert wandb_run.summary[f"{row['stage']}/accuracy/mean"] == row["accuracy"]["mean"]
    for shown, row in zip(rows["adaptation"], report["adaptation"], strict=True):
        assert shown["before/perplexity"] == row["before"]["perplexity"]
        assert shown["after/perplexity/mean"] == wandb_run.summary["adapt/after/perplexity/mean"]
        assert shown["after/perplexity/mean"] == row["after"]["perplexity"]["mean"]
    for shown, row in zip(rows["hypotheses"], report["hypotheses"], strict=True):
        assert [shown[key] for key in ("hypothesis", "verdict")] == [row[key] for key in ("hypothesis", "verdict")]
        assert [shown["interval/low"], shown["interval/high"]] == row["interval"]
        assert shown["adjusted_p_value"] == row["adjusted_p_value"]
    assert wandb_run.summary["result/to_ship/stage"] == report["to_ship"]["stage"]
    assert wandb_run.summary["report/results"]["_type"] == "table-file"
    assert wandb_run.artifacts[-1]["artifactTypeName"] == "report"


def test_api_key_is_never_written(
    stage: Callable[..., StageRun], storage: LocalStorage, online: WandbServer, tmp_path: Path
) -> None:
    run = stage("adapt")
    work, output = make_work_folder(tmp_path / "work")
    with open_tracker(run, storage, work) as tracker:
        tracker.start(None)
        log_rows(tracker.log, 1, 20)
        tracker.save_state(output)
        tracker.finish(output, {})
    for path in work.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("changes", [{"tracking": {}}, {}])
def test_without_tracking_no_files_are_written(
    changes: dict[str, Any],
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not changes:
        monkeypatch.setenv("WANDB_MODE", "disabled")
    work, output = make_work_folder(tmp_path / "work")
    with open_tracker(stage("adapt", **changes), storage, work) as tracker:
        assert type(tracker) is Tracker
        tracker.start(None)
        tracker.log({}, 1)
        tracker.save_state(output)
        tracker.finish(output, {})
    assert sorted(path.name for path in work.rglob("*")) == ["model", "model.safetensors", "output"]


def test_tracking_is_not_part_of_the_identity(stage: Callable[..., StageRun]) -> None:
    assert stage("adapt").identity == stage("adapt", tracking={}).identity


def test_stages_of_equal_identity_have_separate_runs(stage: Callable[..., StageRun]) -> None:
    twins = {"a": {"kind": "classify"}, "b": {"kind": "classify"}}
    a, b = (stage(name, stages=twins, hypotheses=[]) for name in ("a", "b"))
    assert a.identity == b.identity
    assert run_id(a) != run_id(b)
    assert run_id(a) != run_id(stage("a", stages=twins, hypotheses=[], name="other"))
