"""The quickstart: its data is what its generator makes, and its effect is there for every seed."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from ftjobs.execution import runner
from ftjobs.jobfile.read import read
from ftjobs.plan import plan
from ftjobs.storage import open_storage
from tests.helpers import quickstart_data

JOBS = Path(__file__).parents[2] / "jobs"


def test_the_data_is_what_its_generator_makes() -> None:
    with (JOBS / "quickstart.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["question_1", "question_2", "label"]
    assert [tuple(row) for row in rows] == quickstart_data.rows()


@pytest.mark.slow
def test_adaptation_pays_for_every_seed(tmp_path: Path) -> None:
    """The shipped job with its own seeds and two others; half the margin that was measured."""
    job = read(JOBS / "quickstart.yaml", ["seeds=[1, 2, 3, 4, 5]"])
    storage = open_storage(str(tmp_path / "store"))
    accuracy: dict[str, dict[int, float]] = {}
    for manifest in runner.run_all(plan(job), storage):
        if manifest.kind == "classify":
            accuracy.setdefault(manifest.stage, {})[manifest.seed] = manifest.metrics["accuracy"]
    for seed in job.seeds:
        assert accuracy["adapted-head"][seed] - accuracy["head"][seed] > 0.10
        assert accuracy["adapted-behavioural"][seed] - accuracy["behavioural"][seed] > 0.05
        assert accuracy["adapted-behavioural"][seed] < 0.98  # six labels in a hundred are wrong
