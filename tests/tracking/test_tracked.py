"""A stage as a run of Weights & Biases, with a stand-in for its server, and without one."""

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
from ftjobs.tracking import Tracker, folders, tracker
from ftjobs.tracking.tracked import run_id
from tests.fakes.wandb_server import KEY, WandbServer
from tests.helpers.published import HYPOTHESES, PLOTS, STAGES, STRATEGIES, Pipeline
from tests.tracking.conftest import published_steps, until, work_folder


@pytest.fixture
def online(wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> WandbServer:
    for name, value in wandb_server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr("ftjobs.tracking.tracked._SECONDS_ONLINE", 60.0)  # a busy machine changes no result
    monkeypatch.setattr("ftjobs.tracking.tracked._SECONDS_TO_UPLOAD", 50.0)
    return wandb_server


def sync(folder: Path, server: WandbServer, *options: str) -> None:
    """`wandb sync`, the real one."""
    done = subprocess.run(
        [sys.executable, "-m", "wandb", "sync", *options, str(folder)],  # its script need not be on the PATH
        cwd=folder.parent,  # it keeps a log of its own in `wandb`, where it is started
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


def test_a_run_has_the_name_the_settings_the_axes_and_the_figures_of_its_stage(
    stage: Callable[..., StageRun], storage: LocalStorage, online: WandbServer, tmp_path: Path
) -> None:
    run = stage("adapt")
    work, output = work_folder(tmp_path / "work")
    with tracker(run, storage, work) as tracked:
        tracked.log({"epoch": 0, "mlm/perplexity": 90.0}, 0)
        tracked.begin(None)
        log_rows(tracked.log, 1, 20)
        tracked.log({"epoch": 1, "mlm/perplexity": 9.0, "system/examples_per_second": 5.0}, 20)
        log_rows(tracked.log, 21, 30)
        tracked.conclude(output, {"best_epoch": 1, "best": {"perplexity": 9.0}})
    assert list(online.runs) == [run_id(run)]
    found = online.runs[run_id(run)]
    assert run_id(run).startswith(run.identity[:12])
    assert found.about["displayName"] == f"adapt-seed-1-{run.identity[:8]}"
    assert (found.about["groupName"], found.about["jobType"], found.about["project"]) == ("toy", "adapt", "trials")
    assert found.config == {
        **run.settings.model_dump(mode="json"),
        "pipeline": "toy",
        "stage": "adapt",
        "kind": "adapt",
        "seed": 1,
        "identity": run.identity,
        "inputs": {"prepare": run.inputs["prepare"].identity, "encoder": run.inputs["encoder"].identity},
    }
    rows = [
        {name: value for name, value in row.items() if name not in ("_runtime", "_timestamp")} for row in found.history
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
    metrics = json.loads(found.about["config"])["_wandb"]["value"]["m"]
    names = [metric.get("1") or metric.get("2") for metric in metrics]
    axes = {name: names[metric["5"] - 1] for name, metric in zip(names, metrics, strict=True) if "5" in metric}
    assert axes["train/*"] == "step"
    assert axes["eval/*"] == axes["mlm/*"] == axes["system/*"] == "epoch"
    assert found.summary["result/best_epoch"] == 1
    assert found.summary["result/best/perplexity"] == 9.0
    assert found.exit_code == 0
    assert not (output / "wandb").exists(), "all is on the server"


def test_the_checkpoint_is_an_artifact_that_points_to_storage(
    stage: Callable[..., StageRun], storage: LocalStorage, online: WandbServer, tmp_path: Path
) -> None:
    run = stage("adapt")
    work, output = work_folder(tmp_path / "work")
    with tracker(run, storage, work) as tracked:
        tracked.conclude(output, {})
    found = online.runs[run_id(run)]
    address = (storage.root / run.key).as_uri()
    assert [(one["artifactCollectionName"], one["artifactTypeName"]) for one in found.artifacts] == [
        ("toy-adapt-seed-1", "model")
    ]
    metadata = json.loads(found.artifacts[0]["metadata"])
    assert metadata["identity"] == run.identity
    assert metadata["artifact"] == address
    assert metadata["sha256"] == {"model/model.safetensors": hashlib.sha256(b"weights").hexdigest()}
    assert [entry["ref"] for entry in found.manifests[0]["contents"].values()] == [f"{address}/manifest.json"]
    assert b"weights" not in b"".join(found.files.values())


def test_a_restarted_stage_goes_on_in_its_run_and_no_step_is_lost_or_doubled(
    stage: Callable[..., StageRun], storage: LocalStorage, online: WandbServer, tmp_path: Path
) -> None:
    run = stage("adapt")
    state = tmp_path / "state"
    state.mkdir()
    work, output = work_folder(tmp_path / "first")
    with pytest.raises(RuntimeError), tracker(run, storage, work) as tracked:
        tracked.begin(None)
        log_rows(tracked.log, 1, 60)
        tracked.keep(state)
        log_rows(tracked.log, 61, 90)  # of these the new attempt will know nothing
        raise RuntimeError("the node is gone")
    assert online.runs[run_id(run)].exit_code == 1
    work, output = work_folder(tmp_path / "second")
    with tracker(run, storage, work) as tracked:
        tracked.begin(state)
        log_rows(tracked.log, 61, 120)
        tracked.conclude(output, {})
    found = online.runs[run_id(run)]
    assert found.opened == 2
    assert [row["_step"] for row in found.history] == list(range(10, 121, 10))
    assert [row["step"] for row in found.history] == list(range(10, 121, 10))
    assert not (output / "wandb").exists()


def test_offline_segments_are_one_run_that_wandb_sync_uploads(
    stage: Callable[..., StageRun], storage: LocalStorage, wandb_server: WandbServer, tmp_path: Path
) -> None:
    """A pod is gone with its disk and another goes on from the training state; then somebody syncs what is published."""
    run = stage("adapt")
    state = tmp_path / "state"
    state.mkdir()
    work, output = work_folder(tmp_path / "first")
    place = work / "tracking/wandb"
    with pytest.raises(RuntimeError), tracker(run, storage, work) as tracked:
        (place / f"offline-run-20200101_000000-{run_id(run)}").mkdir(parents=True)  # of one that was killed at once
        (place / f"offline-run-20200101_000000-{run_id(run)}/run-{run_id(run)}.wandb").write_bytes(b":W&B\xe1\xbe\x00")
        tracked.begin(None)
        log_rows(tracked.log, 1, 60)
        until(lambda: [folders.last_step(one) for one in folders.of_run(run_id(run), place)][-1] == 50, "rows on disk")
        tracked.keep(state)
        log_rows(tracked.log, 61, 90)
        raise RuntimeError("the node is gone")
    work.rename(tmp_path / "gone")
    work, output = work_folder(tmp_path / "second")
    with tracker(run, storage, work) as tracked:
        tracked.begin(state)
        log_rows(tracked.log, 61, 120)
        tracked.conclude(output, {"best_epoch": 3})
    segments = sorted(path.name for path in (output / "wandb").iterdir())
    assert len(segments) == 2
    assert all(name.startswith("offline-run-") and name.endswith(run_id(run)) for name in segments)
    assert published_steps(output) == list(range(10, 121, 10)), "each step in one segment"
    assert not any((output / "wandb").rglob("*.log"))
    (tmp_path / "elsewhere").mkdir()
    moved = (output / "wandb").rename(tmp_path / "elsewhere/wandb")
    sync(moved, wandb_server)
    assert list(wandb_server.runs) == [run_id(run)]
    found = wandb_server.runs[run_id(run)]
    assert [row["_step"] for row in found.history] == list(range(10, 121, 10))
    assert found.about["groupName"] == "toy"
    assert found.summary["result/best_epoch"] == 3
    assert [one["artifactCollectionName"] for one in found.artifacts] == ["toy-adapt-seed-1"]


@pytest.mark.slow
def test_an_upload_that_stops_in_the_middle_is_completed_by_wandb_sync(
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    online: WandbServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("ftjobs.tracking.tracked._SECONDS_ONLINE", 4.0)
    run = stage("adapt")
    work, output = work_folder(tmp_path / "work")
    with tracker(run, storage, work) as tracked:
        tracked.begin(None)
        log_rows(tracked.log, 1, 60)
        until(lambda: run_id(run) in online.runs and bool(online.runs[run_id(run)].history), "the first rows")
        online.silent.set()
        log_rows(tracked.log, 61, 120)
        tracked.conclude(output, {"best_epoch": 3})
    assert published_steps(output) == list(range(10, 121, 10))
    assert len(online.runs[run_id(run)].history) < 12
    online.silent.clear()
    sync(output / "wandb", online, "--include-online")
    found = online.runs[run_id(run)]
    # wandb sends the whole log of a run that was online again, so rows that were there come twice with one `_step`.
    assert {row["_step"]: row["train/loss"] for row in found.history} == {
        step: 1.0 / (step + 1) for step in range(10, 121, 10)
    }
    assert found.summary["result/best_epoch"] == 3


def test_the_report_is_logged_as_tables_plots_and_summary(
    stage: Callable[..., StageRun], storage: LocalStorage, online: WandbServer, tmp_path: Path
) -> None:
    """The report as it is written, not as it was when this was."""
    run = stage("report")
    work, output = work_folder(tmp_path / "work")
    two = {name: STRATEGIES[name] for name in ("behavioural", "adapted-behavioural")}
    stages = {name: STAGES[name] for name in ("adapt", *two)}
    pipeline = Pipeline(tmp_path / "in", two, stages=stages, hypotheses=HYPOTHESES[1:], seeds=[1, 2], test=60)
    metrics = pipeline.report(output / "report")
    for path in (output / "report").iterdir():
        path.rename(output / path.name)
    with tracker(run, storage, work) as tracked:
        tracked.conclude(output, metrics)
    found = online.runs[run_id(run)]
    assert (found.about["jobType"], found.about["displayName"]) == ("report", f"report-{run.identity[:8]}")
    media = {
        name.split("/")[1] + "/" + "/".join(name.split("/")[2:]).split("_0_")[0]: content
        for name, content in found.files.items()
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
        assert found.summary[f"{row['stage']}/accuracy/mean"] == row["accuracy"]["mean"]
    for shown, row in zip(rows["adaptation"], report["adaptation"], strict=True):
        assert shown["before/perplexity"] == row["before"]["perplexity"]
        assert shown["after/perplexity/mean"] == found.summary["adapt/after/perplexity/mean"]
        assert shown["after/perplexity/mean"] == row["after"]["perplexity"]["mean"]
    for shown, row in zip(rows["hypotheses"], report["hypotheses"], strict=True):
        assert [shown[key] for key in ("hypothesis", "verdict")] == [row[key] for key in ("hypothesis", "verdict")]
        assert [shown["interval/low"], shown["interval/high"]] == row["interval"]
        assert shown["adjusted_p_value"] == row["adjusted_p_value"]
    assert found.summary["result/to_ship/stage"] == report["to_ship"]["stage"]
    assert found.summary["report/results"]["_type"] == "table-file"
    assert found.artifacts[-1]["artifactTypeName"] == "report"


def test_no_key_is_written_anywhere(
    stage: Callable[..., StageRun], storage: LocalStorage, online: WandbServer, tmp_path: Path
) -> None:
    run = stage("adapt")
    work, output = work_folder(tmp_path / "work")
    with tracker(run, storage, work) as tracked:
        tracked.begin(None)
        log_rows(tracked.log, 1, 20)
        tracked.keep(output)
        tracked.conclude(output, {})
    for path in work.rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path


@pytest.mark.parametrize("changes", [{"tracking": {}}, {}])
def test_without_tracking_nothing_is_there(
    changes: dict[str, Any],
    stage: Callable[..., StageRun],
    storage: LocalStorage,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not changes:
        monkeypatch.setenv("WANDB_MODE", "disabled")
    work, output = work_folder(tmp_path / "work")
    with tracker(stage("adapt", **changes), storage, work) as tracked:
        assert type(tracked) is Tracker
        tracked.begin(None)
        tracked.log({}, 1)
        tracked.keep(output)
        tracked.conclude(output, {})
    assert sorted(path.name for path in work.rglob("*")) == ["model", "model.safetensors", "output"]


def test_tracking_is_no_part_of_the_identity(stage: Callable[..., StageRun]) -> None:
    assert stage("adapt").identity == stage("adapt", tracking={}).identity


def test_stages_of_one_identity_have_runs_of_their_own(stage: Callable[..., StageRun]) -> None:
    twins = {"a": {"kind": "classify"}, "b": {"kind": "classify"}}
    a, b = (stage(name, stages=twins, hypotheses=[]) for name in ("a", "b"))
    assert a.identity == b.identity
    assert run_id(a) != run_id(b)
    assert run_id(a) != run_id(stage("a", stages=twins, hypotheses=[], name="other"))
