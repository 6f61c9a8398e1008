from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import pytest

from ftjobs.doctor import services
from ftjobs.storage import LocalStorage
from tests.fakes.hub import Hub
from tests.fakes.s3_server import BUCKET, S3Server
from tests.fakes.wandb_server import WandbServer

JOB = Path(__file__).parents[2] / "jobs" / "medical-questions.yaml"


def test_job_is_checked_against_the_hub(hub: Hub) -> None:
    hub.add("main", "c" * 40, {"config.json": b"{}"})
    findings = {
        finding.about: (finding.state, finding.found)
        for finding in services.check_job(JOB, ["encoder.model=me/bert", "data.source=me/none"])
    }
    assert findings["job"] == ("ok", f"{JOB}: 7 runs of 7 stages")
    assert findings["encoder"] == ("ok", "me/bert: on the Hub, at commit cccccccccccc")
    state, text = findings["data"]
    assert state == "problem"
    assert text.startswith("me/none at revision main: not found on the Hub")
    assert text.endswith(f"(looked at {Path('me/none').absolute()})")
    (encoder, data) = list(
        services.check_job(JOB, ["encoder.model=me/bert", "encoder.revision=v9", "data.source=me/pairs"])
    )[1:]
    assert encoder.state == "problem"
    assert encoder.found.startswith("me/bert at revision v9: no such revision")
    assert (data.state, data.found) == ("ok", "me/pairs: on the Hub, at commit cccccccccccc")
    hub.failing = True
    assert [finding.state for finding in services.check_job(JOB, [])] == ["ok", "warning", "warning"]


def test_invalid_job_has_a_finding_per_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    findings = list(services.check_job(JOB, ["stages.head.epoch=3", "stages.head.epochs=0"]))
    assert [finding.state for finding in findings] == ["problem"] * 2


def test_hub_reachable_failing_and_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN", raising=False)
    finding = services._check_hub()
    assert (finding.state, finding.found.startswith(f"{hub.url}: ")) == ("ok", True)
    hub.failing = True
    assert services._check_hub().state == "warning"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    assert services._check_hub().state == "ok"


def test_tracking_with_and_without_a_valid_key(wandb_server: WandbServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert "offline by WANDB_MODE" in services._check_wandb().found
    monkeypatch.delenv("WANDB_MODE")
    for name, value in wandb_server.environment().items():
        monkeypatch.setenv(name, value)
    assert services._check_wandb().found == "Weights & Biases: logged in"
    monkeypatch.setenv("WANDB_API_KEY", "short")
    wrong = services._check_wandb()
    assert wrong.state == "warning"
    assert "short" not in wrong.found
    monkeypatch.delenv("WANDB_API_KEY")
    assert "no API key" in services._check_wandb().found


def test_missing_wandb_is_a_problem_only_for_a_job_that_tracks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    finding = services._check_wandb()
    assert (finding.state, "pip install 'ftjobs[wandb]'" in finding.found) == ("ok", True)
    assert [finding.state for finding in services.check_job(JOB, [])] == ["ok"]
    _, finding = services.check_job(JOB, ["tracking.wandb.project=trials"])
    assert (finding.about, finding.state) == ("tracking", "problem")
    assert "pip install 'ftjobs[wandb]'" in finding.remedy


def states(address: Any) -> dict[str, str]:
    return {finding.about: finding.state for finding in services.check_store(str(address))}


def test_local_store_is_left_unchanged(tmp_path: Path) -> None:
    for existed in (False, True):
        if existed:
            (tmp_path / "store").mkdir()
        assert states(tmp_path / "store") == {"store": "ok", "publishing": "ok", "store's disk": "ok"}
        assert list(tmp_path.rglob("*")) == ([tmp_path / "store"] if existed else [])


def test_object_storage_is_left_unchanged(s3: S3Server, tmp_path: Path) -> None:
    address = f"s3://{BUCKET}/{tmp_path.name}"
    assert states(address) == {"store": "ok", "publishing": "ok"}
    assert list(services.open_storage(address).list("")) == []


def test_unusable_store_is_a_problem_with_a_remedy(s3: S3Server, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for address in (tmp_path / "file", "s3://no-such-bucket/x", "gs://bucket"):
        (finding,) = services.check_store(str(address))
        assert (finding.about, finding.state) == ("store", "problem")
        assert str(address).split("/x")[0] in finding.remedy


@pytest.mark.parametrize(
    ("verb", "change", "about", "state"),
    [
        ("get", lambda real: lambda *args: real(*args) + "x", "store", "problem"),
        ("list", lambda real: lambda *_: iter(()), "store", "problem"),
        ("put_if_absent", lambda real: lambda *_: True, "publishing", "problem"),
        (
            "list",
            lambda real: (
                lambda *args: (entry._replace(modified=entry.modified - timedelta(seconds=60)) for entry in real(*args))
            ),
            "clock",
            "warning",
        ),
    ],
)
def test_fault_of_a_store_is_reported(
    verb: str,
    change: Callable[[Any], Any],
    about: str,
    state: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    storage = LocalStorage(tmp_path / "store")
    monkeypatch.setattr(storage, verb, change(getattr(storage, verb)))
    monkeypatch.setattr(services, "open_storage", lambda _: storage)
    if verb == "put_if_absent":  # like a store that ignores the condition
        monkeypatch.setattr(storage, "read", lambda _: b"second")
    assert states("any")[about] == state
