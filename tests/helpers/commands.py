"""Run `ftjobs` commands on a small job whose stages are published by hand, without training."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ftjobs import artifacts, cli
from ftjobs.artifacts import Manifest
from ftjobs.jobfile.read import read
from ftjobs.plan import StageRun, plan
from ftjobs.storage import LocalStorage
from ftjobs.system.progress import LOG

JOB = """\
name: small
encoder: {model: me/encoder}
data: {source: me/pairs, text: [a, b], label: same, split: {test_fraction: 0.1}}
seeds: [1, 2]
stages:
  adapt: {kind: adapt, epochs: 2, per_device_batch_size: 16}
  head: {kind: classify, encoder: adapt, epochs: 4}
"""
#: Kind -> metrics of its manifest.
METRICS: dict[str, dict[str, Any]] = {
    "prepare": {"rows": {"train": 100, "test": 12}},
    "adapt": {"before": {"perplexity": 30.0}, "best": {"perplexity": 7.26}, "best_epoch": 2},
    "classify": {"accuracy": 0.75, "f1": 0.5, "best_epoch": 3},
    "report": {"to_ship": {"stage": "head", "seed": 2, "artifact": "small/head/seed-2/0123456789ab"}},
}
#: Kind -> content of its files by path.
FILES: dict[str, dict[str, str]] = {
    "prepare": {"data/summary.json": "{}"},
    "adapt": {"model/config.json": "{}", "metrics.json": "{}"},
    "classify": {"model/config.json": "{}", "model/tokenizer.json": "[]", "predictions.jsonl": ""},
    "report": {"report.md": "# small\n\nhead wins.\n", "report.json": "{}"},
}


class CommandResult(NamedTuple):
    exit_code: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """The error lines. Asserts that stderr contains nothing else and stdout nothing at all."""
        assert self.stdout == ""
        lines = self.stderr.splitlines()
        assert lines
        assert all(line.startswith("error: ") for line in lines), self.stderr
        return [line.removeprefix("error: ") for line in lines]


@pytest.fixture
def job_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with `job.yaml` in it; the store is `runs`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FTJOBS_STORE", raising=False)
    Path("job.yaml").write_text(JOB)
    return tmp_path


@pytest.fixture
def ftjobs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., CommandResult]:
    """`ftjobs(*arguments)` runs a command in this process."""
    for name in ("handlers", "level", "propagate"):  # restored after the test: commands configure the log
        monkeypatch.setattr(LOG, name, getattr(LOG, name))

    def run(*arguments: str) -> CommandResult:
        monkeypatch.setattr(sys, "argv", ["ftjobs", *arguments])
        with pytest.raises(SystemExit) as end:
            cli.main()
            sys.exit(0)
        captured = capsys.readouterr()
        return CommandResult(int(end.value.code or 0), captured.out, captured.err)

    return run


def run_installed(*arguments: str, **environment: str) -> CommandResult:
    """Run the installed command in a subprocess."""
    command = [str(Path(sys.executable).parent / "ftjobs"), *arguments]
    process = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True, check=False)
    return CommandResult(process.returncode, process.stdout, process.stderr)


def plan_job(*overrides: str) -> list[StageRun]:
    """Plan `job.yaml` of the working directory."""
    return plan(read(Path("job.yaml"), overrides))


def publish(*stages: str, store: str = "runs", overrides: Sequence[str] = ()) -> list[Manifest]:
    """Publish small artifacts for stages of `job.yaml`, each for all its seeds."""
    manifests = []
    for run in plan_job(*overrides):
        if run.stage in stages:
            folder = Path("outputs", run.stage, str(run.seed))
            for name, text in FILES[run.kind].items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_text(text)
            manifests.append(artifacts.publish(LocalStorage(Path(store)), run, folder, METRICS[run.kind], {}))
    return manifests


def parse_table(text: str) -> list[list[str]]:
    """Split a printed table into rows of cells; columns are at least two spaces apart."""
    return [[cell.strip() for cell in row.split("  ") if cell.strip()] for row in text.splitlines()]
