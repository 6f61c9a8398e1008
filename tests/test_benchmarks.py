"""The benchmarks run: they time internals of ftjobs, which a change may move."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def run(*arguments: str) -> str:
    command = [sys.executable, "-m", f"tests.benchmarks.{arguments[0]}", *arguments[1:]]
    completed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert completed.returncode == 0, completed.stderr[-3000:]
    return completed.stdout


@pytest.mark.slow
def test_experiment_compares_both_kinds_of_stage_with_the_trainer() -> None:
    data = ["--encoder", "toy", "--data", str(ROOT / "jobs/quickstart.csv")]
    sides = ["--stages", "adapt", "behavioural", "--sides", "plain", "ours"]
    table = run("experiment", *data, *sides, "--steps", "6", "--rounds", "1", "--device", "cpu")
    rows = re.findall(r"^\| (\w+) \| (plain|ours) \| ([\d.]+) \|", table, re.MULTILINE)
    assert [(stage, side) for stage, side, _ in rows] == [
        (stage, side) for stage in ("adapt", "behavioural") for side in ("plain", "ours")
    ]
    assert all(float(milliseconds) > 0 for *_, milliseconds in rows)


@pytest.mark.slow
def test_corpus_measures_prepare_and_adapt() -> None:
    header, _, row = run("corpus", "0.1", "--steps", "2").splitlines()
    assert len(row.split("|")) == len(header.split("|"))


@pytest.mark.slow
def test_training_state_measures_saves() -> None:
    assert re.search(r"one save costs -?[\d.]+ s", run("training_state", "1", "2"))
