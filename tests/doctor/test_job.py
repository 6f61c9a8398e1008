from pathlib import Path

import pytest

from ftjobs.doctor import job
from tests.fakes.hub import Hub

JOB = Path(__file__).parents[2] / "jobs" / "medical-questions.yaml"


def test_what_the_hub_has_and_what_it_has_not(hub: Hub) -> None:
    hub.add("main", "c" * 40, {"config.json": b"{}"})
    found = {
        finding.about: (finding.state, finding.found)
        for finding in job.check(JOB, ["encoder.model=me/bert", "data.source=me/none"])
    }
    assert found["job"] == ("ok", f"{JOB}: 7 runs of 7 stages")
    assert found["encoder"] == ("ok", "me/bert: on the hub, at commit cccccccccccc")
    state, text = found["data"]
    assert state == "problem"
    assert text.startswith("me/none at revision main: not found on the Hub")
    assert text.endswith(f"(looked at {Path('me/none').absolute()})")
    (encoder, data) = list(job.check(JOB, ["encoder.model=me/bert", "encoder.revision=v9", "data.source=me/pairs"]))[1:]
    assert encoder.state == "problem"
    assert encoder.found.startswith("me/bert at revision v9: no such revision")
    assert (data.state, data.found) == ("ok", "me/pairs: on the hub, at commit cccccccccccc")
    hub.failing = True
    assert [finding.state for finding in job.check(JOB, [])] == ["ok", "warning", "warning"]


def test_a_job_that_is_wrong_has_a_line_for_each_mistake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = list(job.check(JOB, ["stages.head.epoch=3", "stages.head.epochs=0"]))
    assert [finding.state for finding in found] == ["problem"] * 2
