"""Heartbeats in storage: progress of running stages, errors of failed ones, and `stage_statuses` that reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftjobs.errors import FtjobsError, PeerLost, UserError
from ftjobs.execution import heartbeat
from ftjobs.execution.heartbeat import FAILED, RUNNING, Heartbeat, elapsed_seconds
from ftjobs.execution.status import StageStatus, stage_statuses
from ftjobs.execution.topology import Topology
from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan, select
from ftjobs.storage import Storage, open_storage
from tests.fakes.s3_server import BUCKET

JOB = Path(__file__).parents[2] / "jobs/quickstart.yaml"


@pytest.fixture(params=["folder", "s3"])
def storage(tmp_path: Path, request: pytest.FixtureRequest) -> Storage:
    if request.param == "folder":
        return open_storage(str(tmp_path / "store"))
    request.getfixturevalue("s3")
    return open_storage(f"s3://{BUCKET}/{tmp_path.name}")


@pytest.fixture
def runs() -> list[StageRun]:
    return plan(read(JOB))


def status_of(runs: list[StageRun], storage: Storage, stage: str, seed: int | None = None) -> StageStatus:
    """The status of a stage, of its first seed unless one is given."""
    return next(
        status
        for status in stage_statuses(runs, storage)
        if status.stage == stage and (seed is None or status.seed == seed)
    )


def keys(storage: Storage) -> list[str]:
    return [stored[0] for stored in storage.list("")]


def test_heartbeat_stores_progress_of_running_stage(
    runs: list[StageRun], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "HEARTBEAT_INTERVAL_SECONDS", 0.01)
    now = [5000.0]
    monkeypatch.setattr(heartbeat.time, "time", lambda: now[0])
    with Heartbeat(storage, select(runs, "head", 2)) as beating:
        beating.step, beating.total = 1200, 2840
        while True:
            status = status_of(runs, storage, "head", 2)
            if status.running and status.running.step:
                break
        now[0] += 30.0
        assert status.state == "running"
        assert (status.running.step, status.running.total) == (1200, 2840)
        assert "1,200 of 2,840" in status.description
    assert status_of(runs, storage, "head").state == "waiting"
    assert keys(storage) == []


def test_heartbeat_stores_speed_and_latest_metrics(
    runs: list[StageRun], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heartbeat.time, "time", lambda: 1000.0 + now[0])
    beating = Heartbeat(storage, select(runs, "adapt", 1))
    beating.total = 1000

    def beat(step: int, at: float) -> StageStatus:
        beating.step, now[0] = step, at
        beating._beat()
        return status_of(runs, storage, "adapt")

    assert beat(0, 101.0).running.rate is None
    assert beat(500, 105.0).running.rate is None  # resumed at step 500: one observation gives no rate
    beating.record_metrics({"train/loss": 0.75, "epoch": 3, "mlm/perplexity": float("inf")})
    status = beat(520, 109.0)
    assert (status.running.rate, status.running.elapsed) == (5.0, 9.0)
    assert status.running.figures == {"train/loss": 0.75, "epoch": 3.0}
    assert status.remaining_seconds == pytest.approx(480 / 5)
    now[0] += 6.0
    assert status_of(runs, storage, "adapt").remaining_seconds == pytest.approx(480 / 5 - 6)
    now[0] += 60.0
    stale = status_of(runs, storage, "adapt")
    assert stale.is_stale
    assert stale.remaining_seconds is None


def test_status_json_has_fields_of_heartbeat_at_top_level(
    runs: list[StageRun], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat.time, "time", lambda: 1000.0)
    run = select(runs, "adapt", 1)
    fields = {"stage", "seed", "state", "waits_for", "identity", "result", "accuracy", "perplexity"}
    assert status_of(runs, storage, "adapt").as_json().keys() == fields
    Heartbeat(storage, run)._beat()
    running = status_of(runs, storage, "adapt").as_json()
    assert running.keys() == fields | {"step", "total", "rate", "elapsed", "figures", "age"}
    assert (running["state"], running["step"], running["rate"], running["age"]) == ("running", 0, None, 0.0)
    with pytest.raises(FtjobsError), Heartbeat(storage, run):
        raise FtjobsError("the loss is nan")
    failed = status_of(runs, storage, "adapt").as_json()
    assert failed.keys() == fields | {"age", "error"}
    assert (failed["state"], failed["error"]) == ("failed", "the loss is nan")


def test_vanished_node_leaves_its_last_heartbeat(
    runs: list[StageRun], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = select(runs, "adapt", 1)
    monkeypatch.setattr(heartbeat.time, "time", lambda: 1000.0)
    Heartbeat(storage, run)._beat()
    monkeypatch.setattr(heartbeat.time, "time", lambda: 4600.0)
    status = status_of(runs, storage, "adapt")
    assert (status.state, status.running.age, status.is_stale) == ("running", 3600.0, True)
    assert "3600 s" in status.description


def test_error_of_failed_stage_is_stored_until_next_attempt(runs: list[StageRun], storage: Storage) -> None:
    run = select(runs, "adapt", 1)
    with pytest.raises(FtjobsError), Heartbeat(storage, run):
        raise FtjobsError("the loss is nan")
    status = status_of(runs, storage, "adapt")
    assert status.state == "failed"
    assert status.description == "the loss is nan"
    with pytest.raises(ZeroDivisionError), Heartbeat(storage, run):
        _ = 1 / 0
    assert status_of(runs, storage, "adapt").failed.error == "ZeroDivisionError: division by zero"
    with Heartbeat(storage, run):
        pass
    assert status_of(runs, storage, "adapt").state == "waiting"
    assert keys(storage) == []


def test_stopped_stage_is_no_failure(runs: list[StageRun], storage: Storage) -> None:
    with pytest.raises(KeyboardInterrupt), Heartbeat(storage, select(runs, "adapt", 1)):
        raise KeyboardInterrupt
    assert status_of(runs, storage, "adapt").state == "waiting"


def test_lost_peer_is_no_failure(runs: list[StageRun], storage: Storage) -> None:
    with pytest.raises(PeerLost), Heartbeat(storage, select(runs, "adapt", 1)):
        raise PeerLost("node 1 has ended")
    assert status_of(runs, storage, "adapt").state == "waiting"
    assert keys(storage) == []


def test_status_follows_rank_0_of_several_nodes(runs: list[StageRun], storage: Storage) -> None:
    run, rank_1 = select(runs, "adapt", 1), Topology(processes=2, nodes=2, rank=1, address="here")
    with pytest.raises(FtjobsError), Heartbeat(storage, run, topology=rank_1) as beating:
        beating._beat()
        assert elapsed_seconds(storage, run, 1) is not None
        assert elapsed_seconds(storage, run, 0) is None
        assert status_of(runs, storage, "adapt").state == "waiting"
        raise FtjobsError("the disk is full")
    assert status_of(runs, storage, "adapt").failed.error == "the disk is full"
    with Heartbeat(storage, run, topology=rank_1) as beating:
        beating._beat()
    assert status_of(runs, storage, "adapt").state == "failed"  # until rank 0 runs again
    assert [key.rpartition("/")[2] for key in keys(storage)] == [FAILED]


def test_interactive_user_error_leaves_store_empty(runs: list[StageRun], storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(UserError), Heartbeat(storage, runs[0]):
        raise UserError("no such column")
    assert keys(storage) == []
    assert not (tmp_path / "store").exists()


def test_user_error_of_pod_is_stored(runs: list[StageRun], storage: Storage) -> None:
    with pytest.raises(UserError), Heartbeat(storage, runs[0], interactive=False):
        raise UserError("no such column")
    assert status_of(runs, storage, "prepare").description == "no such column"
    with Heartbeat(storage, runs[0], interactive=False):
        pass
    assert keys(storage) == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"at": "x"}', '{"at": null}', '{"at": 1, "figures": {"a": "b"}}', '{"at": 1, "step": "2"}'],
)
def test_damaged_heartbeat_is_ignored(runs: list[StageRun], storage: Storage, tmp_path: Path, content: str) -> None:
    (tmp_path / "record").write_text(content)
    storage.put(tmp_path / "record", f"{runs[0].key}/{RUNNING}")
    assert status_of(runs, storage, "prepare").state == "ready"


def test_stage_continues_if_store_does_not_answer_heartbeats(
    runs: list[StageRun], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> None:
        raise FtjobsError("down")

    monkeypatch.setattr(storage, "put", fail)
    monkeypatch.setattr(storage, "delete", fail)
    with Heartbeat(storage, select(runs, "adapt", 1)):
        done = json.dumps("work")
    assert done
