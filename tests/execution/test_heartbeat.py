"""What `status` can tell of a stage that runs, failed, or vanished, from storage alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftjobs.errors import FtjobsError, PeerLost, UserError
from ftjobs.execution import heartbeat
from ftjobs.execution.heartbeat import Heartbeat, attempt_seconds
from ftjobs.execution.status import describe, is_silent, remaining, states
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


def row(runs: list[StageRun], storage: Storage, stage: str) -> dict[str, Any]:
    return next(found for found in states(runs, storage) if found["stage"] == stage)


def keys(storage: Storage) -> list[str]:
    return [stored[0] for stored in storage.list("")]


def test_a_running_stage_says_how_far_it_is(
    runs: list[StageRun], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heartbeat, "_SECONDS_BETWEEN_SIGNS", 0.01)
    now = [5000.0]
    monkeypatch.setattr(heartbeat.time, "time", lambda: now[0])
    with Heartbeat(storage, select(runs, "head", 2)) as alive:
        alive.step, alive.total = 1200, 2840
        while True:
            found = next(one for one in states(runs, storage) if one["stage"] == "head" and one["seed"] == 2)
            if found.get("step"):
                break
        now[0] += 30.0
        assert found["state"] == "running"
        assert (found["step"], found["total"]) == (1200, 2840)
        assert describe({**found, "age": 30.0}) == "step 1,200 of 2,840, last sign of life 30 s ago"
    assert row(runs, storage, "head")["state"] == "waiting"
    assert keys(storage) == []


def test_signs_tell_the_rate_and_the_newest_figures(
    runs: list[StageRun], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(heartbeat.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(heartbeat.time, "time", lambda: 1000.0 + now[0])
    alive = Heartbeat(storage, select(runs, "adapt", 1))
    alive.total = 1000

    def sign(step: int, at: float) -> dict[str, Any]:
        alive.step, now[0] = step, at
        alive._sign()
        return row(runs, storage, "adapt")

    assert sign(0, 101.0)["rate"] is None
    assert sign(500, 105.0)["rate"] is None  # resumed there: the first step seen is no rate yet
    alive.hear({"train/loss": 0.75, "epoch": 3, "mlm/perplexity": float("inf")})
    found = sign(520, 109.0)
    assert (found["rate"], found["elapsed"]) == (5.0, 9.0)
    assert found["figures"] == {"train/loss": 0.75, "epoch": 3.0}
    assert remaining(found) == pytest.approx(480 / 5)
    now[0] += 6.0
    assert remaining(row(runs, storage, "adapt")) == pytest.approx(480 / 5 - 6)
    now[0] += 60.0
    silent = row(runs, storage, "adapt")
    assert is_silent(silent)
    assert remaining(silent) is None


def test_a_vanished_machine_leaves_its_last_sign(
    runs: list[StageRun], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = select(runs, "adapt", 1)
    monkeypatch.setattr(heartbeat.time, "time", lambda: 1000.0)
    Heartbeat(storage, run)._sign()
    monkeypatch.setattr(heartbeat.time, "time", lambda: 4600.0)
    assert describe(row(runs, storage, "adapt")) == "last sign of life 3600 s ago"


def test_a_failed_stage_says_why_until_it_is_tried_again(runs: list[StageRun], storage: Storage) -> None:
    run = select(runs, "adapt", 1)
    with pytest.raises(FtjobsError), Heartbeat(storage, run):
        raise FtjobsError("the loss is nan")
    found = row(runs, storage, "adapt")
    assert found["state"] == "failed"
    assert describe(found) == "the loss is nan"
    with pytest.raises(ZeroDivisionError), Heartbeat(storage, run):
        _ = 1 / 0
    assert row(runs, storage, "adapt")["error"] == "ZeroDivisionError: division by zero"
    with Heartbeat(storage, run):
        pass
    assert row(runs, storage, "adapt")["state"] == "waiting"
    assert keys(storage) == []


def test_being_stopped_is_no_failure(runs: list[StageRun], storage: Storage) -> None:
    with pytest.raises(KeyboardInterrupt), Heartbeat(storage, select(runs, "adapt", 1)):
        raise KeyboardInterrupt
    assert row(runs, storage, "adapt")["state"] == "waiting"


def test_having_to_begin_again_is_no_failure(runs: list[StageRun], storage: Storage) -> None:
    with pytest.raises(PeerLost), Heartbeat(storage, select(runs, "adapt", 1)):
        raise PeerLost("machine 1 has ended")
    assert row(runs, storage, "adapt")["state"] == "waiting"
    assert keys(storage) == []


def test_the_first_of_several_machines_speaks_for_all(runs: list[StageRun], storage: Storage) -> None:
    run, second = select(runs, "adapt", 1), Topology(processes=2, machines=2, rank=1, address="here")
    with pytest.raises(FtjobsError), Heartbeat(storage, run, machines=second) as alive:
        alive._sign()
        assert attempt_seconds(storage, run, 1) is not None
        assert attempt_seconds(storage, run, 0) is None
        assert row(runs, storage, "adapt")["state"] == "waiting"
        raise FtjobsError("the disk is full")
    assert row(runs, storage, "adapt")["error"] == "the disk is full"
    with Heartbeat(storage, run, machines=second) as alive:
        alive._sign()
    assert row(runs, storage, "adapt")["state"] == "failed"  # until the first one runs
    assert [key.rpartition("/")[2] for key in keys(storage)] == ["failed.json"]


def test_bad_input_leaves_nothing_in_the_store(runs: list[StageRun], storage: Storage, tmp_path: Path) -> None:
    with pytest.raises(UserError), Heartbeat(storage, runs[0]):
        raise UserError("no such column")
    assert keys(storage) == []
    assert not (tmp_path / "store").exists()


def test_bad_input_of_a_pod_is_left_for_who_asks_later(runs: list[StageRun], storage: Storage) -> None:
    with pytest.raises(UserError), Heartbeat(storage, runs[0], interactive=False):
        raise UserError("no such column")
    assert describe(row(runs, storage, "prepare")) == "no such column"
    with Heartbeat(storage, runs[0], interactive=False):
        pass
    assert keys(storage) == []


@pytest.mark.parametrize(
    "content",
    ["", "{", "[]", "{}", '{"at": "x"}', '{"at": null}', '{"at": 1, "figures": {"a": "b"}}', '{"at": 1, "step": "2"}'],
)
def test_a_broken_sign_is_no_sign(runs: list[StageRun], storage: Storage, tmp_path: Path, content: str) -> None:
    (tmp_path / "sign").write_text(content)
    storage.put(tmp_path / "sign", f"{runs[0].key}/running.json")
    assert row(runs, storage, "prepare")["state"] == "ready"


def test_a_store_that_does_not_answer_does_not_stop_the_stage(
    runs: list[StageRun], storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise FtjobsError("down")

    monkeypatch.setattr(storage, "put", fails)
    monkeypatch.setattr(storage, "delete", fails)
    with Heartbeat(storage, select(runs, "adapt", 1)):
        done = json.dumps("work")
    assert done
