"""The last line of a stage, and its error, as a pod's termination message; and stages by the index of their seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftjobs import artifacts, cli
from ftjobs.cli.termination import leave_message
from ftjobs.errors import UserError
from ftjobs.jobfile.read import read
from ftjobs.plan import plan, select, select_index
from ftjobs.storage import LocalStorage
from tests.cli.test_cli import JOB

MOST = 4096


@pytest.fixture
def message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "termination-log"
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTJOBS_TERMINATION_LOG", str(path))
    monkeypatch.delenv("FTJOBS_STORE", raising=False)
    (tmp_path / "job.yaml").write_text(JOB)
    return path


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["ftjobs", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_metrics_of_a_stage(message: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    """A stage that is published says what it was published with."""
    prepare = plan(read(tmp_path / "job.yaml"))[0]
    output = tmp_path / "output"
    output.mkdir()
    artifacts.publish(LocalStorage(tmp_path / "runs"), prepare, output, {"rows": {"train": 3}}, {})
    assert run(monkeypatch, "stage", "job.yaml", "prepare", "--seed-index", "0") == 0
    assert json.loads(message.read_text()) == json.loads(capsys.readouterr().out) == {"rows": {"train": 3}}


def test_the_error_of_a_stage(message: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    assert run(monkeypatch, "stage", "job.yaml", "head", "--seed-index", "1") == 75
    assert message.read_text() == capsys.readouterr().err.strip()
    assert message.read_text().startswith("error: ")
    assert run(monkeypatch, "stage", "nowhere.yaml", "head") == 2
    assert "nowhere.yaml" in message.read_text()
    monkeypatch.setenv("FTJOBS_STORE", "job.yaml/runs")
    assert run(monkeypatch, "stage", "job.yaml", "prepare") == 2


def test_it_is_cut_between_characters(message: Path):
    for text in ("x" * 5000, "é" * 5000, "a" + "😀" * 3000, "\udcff" * 5000):
        leave_message(text)
        written = message.read_bytes()
        assert MOST - 4 <= len(written) < MOST
        written.decode()
    leave_message("short")
    assert message.read_text() == "short"


def test_without_a_place_for_it_nothing_happens(message: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FTJOBS_TERMINATION_LOG", str(message / "no" / "folder"))
    leave_message("text")
    monkeypatch.delenv("FTJOBS_TERMINATION_LOG")
    leave_message("text")
    assert not message.exists()


def test_stages_by_the_position_of_their_seed(tmp_path: Path):
    (tmp_path / "job.yaml").write_text(JOB.replace("[1, 2]", "[7, 3, 5]"))
    runs = plan(read(tmp_path / "job.yaml"))
    assert [select_index(runs, "head", index).seed for index in range(3)] == [7, 3, 5]
    assert select_index(runs, "report", 0) == select(runs, "report")
    for stage, index in (("head", 3), ("head", -1), ("prepare", 1)):
        with pytest.raises(UserError, match="has no seed number"):
            select_index(runs, stage, index)
    with pytest.raises(UserError, match="there is no stage `tail`"):
        select_index(runs, "tail", 0)


def test_one_of_seed_and_index(message: Path, monkeypatch: pytest.MonkeyPatch):
    assert run(monkeypatch, "stage", "job.yaml", "head", "--seed", "1", "--seed-index", "0") == 2
    assert "give one of the two" in message.read_text()
