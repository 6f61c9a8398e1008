"""The termination message of a container: metrics or error of its stage."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftjobs import artifacts, cli
from ftjobs.cli.app import MAX_TERMINATION_MESSAGE_BYTES, write_termination_message
from ftjobs.jobfile.read import read
from ftjobs.plan import plan
from ftjobs.storage import LocalStorage
from tests.helpers.commands import JOB


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


def test_message_of_published_stage_is_its_metrics(
    message: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    prepare = plan(read(tmp_path / "job.yaml"))[0]
    output = tmp_path / "output"
    output.mkdir()
    artifacts.publish(LocalStorage(tmp_path / "runs"), prepare, output, {"rows": {"train": 3}}, {})
    assert run(monkeypatch, "stage", "job.yaml", "prepare", "--seed-index", "0") == 0
    assert json.loads(message.read_text()) == json.loads(capsys.readouterr().out) == {"rows": {"train": 3}}


def test_message_of_failed_stage_is_its_error(message: Path, monkeypatch: pytest.MonkeyPatch, capsys):
    assert run(monkeypatch, "stage", "job.yaml", "head", "--seed-index", "1") == 75
    assert message.read_text() == capsys.readouterr().err.strip()
    assert message.read_text().startswith("error: ")
    assert run(monkeypatch, "stage", "nowhere.yaml", "head") == 2
    assert "nowhere.yaml" in message.read_text()
    monkeypatch.setenv("FTJOBS_STORE", "job.yaml/runs")
    assert run(monkeypatch, "stage", "job.yaml", "prepare") == 2


def test_message_is_truncated_between_characters(message: Path):
    for text in ("x" * 5000, "é" * 5000, "a" + "😀" * 3000, "\udcff" * 5000):
        write_termination_message(text)
        written = message.read_bytes()
        assert MAX_TERMINATION_MESSAGE_BYTES - 4 <= len(written) < MAX_TERMINATION_MESSAGE_BYTES == 4096
        written.decode()
    write_termination_message("short")
    assert message.read_text() == "short"


def test_message_without_writable_file_is_dropped(message: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FTJOBS_TERMINATION_LOG", str(message / "no" / "folder"))
    write_termination_message("text")
    monkeypatch.delenv("FTJOBS_TERMINATION_LOG")
    write_termination_message("text")
    assert not message.exists()


def test_seed_and_seed_index_exclude_each_other(message: Path, monkeypatch: pytest.MonkeyPatch):
    assert run(monkeypatch, "stage", "job.yaml", "head", "--seed", "1", "--seed-index", "0") == 2
    assert message.read_text().startswith("error: --seed 1 --seed-index 0: ")
