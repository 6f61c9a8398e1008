import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from ftjobs.cli import app
from ftjobs.doctor import Finding, services


@pytest.fixture(autouse=True)
def no_services(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(services, "check_accounts", lambda: iter([Finding("hub", "slow", "warning", "wait")]))


def test_warnings_exit_with_0_and_remedies_follow_findings(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["doctor", "--store", str(tmp_path / "store")])
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[-2:] == ["warning  hub           slow", f"{'':22} -> wait"]
    assert [line.split()[0] for line in lines if "->" not in line].count("problem") == 0
    assert not (tmp_path / "store").exists()


def test_problems_exit_with_1(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    result = CliRunner().invoke(app, ["doctor", "--store", str(tmp_path / "file"), "--json"])
    assert result.exit_code == 1
    by_subject = {finding["about"]: finding for finding in json.loads(result.stdout)}
    assert by_subject["store"]["state"] == "problem"
    assert by_subject["hub"] == {"about": "hub", "found": "slow", "state": "warning", "remedy": "wait"}
