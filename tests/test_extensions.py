"""A task and an objective that `ftjobs/README.md` adds, each in a module of its own, work in the same job."""

from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from pathlib import Path

from tests.helpers.documentation import marked
from tests.helpers.families import WORDS
from tests.helpers.pipelines import job_fields

#: Adds a folder of tasks and a folder of objectives, then runs the command line.
COMMAND = """
import sys
import ftjobs.objectives, ftjobs.tasks
ftjobs.tasks.__path__.append("tasks")
ftjobs.objectives.__path__.append("objectives")
from ftjobs.cli import main
sys.argv[0] = "ftjobs"
main()
"""
GUIDE = Path(__file__).parents[1] / "ftjobs" / "README.md"


def test_job_with_new_task_and_new_objective_runs_to_its_report(tmp_path: Path) -> None:
    for package, block, module in (("tasks", "toy task", "count"), ("objectives", "toy objective", "smoothed")):
        (tmp_path / package).mkdir()
        code = marked(GUIDE, block).removeprefix("```python\n").removesuffix("\n```")
        (tmp_path / package / f"{module}.py").write_text(code + "\n")
    generator = random.Random(3)
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        rows = [(f"{row} {' '.join(generator.choices(WORDS, k=5))}", row % 4) for row in range(60)]
        csv.writer(file).writerows([("text", "count"), *rows])
    stages = {
        "adapt": {"kind": "adapt", "objective": "smoothed-mlm", "epochs": 1},
        "adapted": {"kind": "classify", "encoder": "adapt", "epochs": 1},
    }
    fields = job_fields(None, hypotheses=[], stages=stages)
    fields["data"] = {
        "source": "rows.csv",
        "text": "text",
        "label": "count",
        "label_type": "count",
        "split": {"test_fraction": 0.2},
    }
    (tmp_path / "job.yaml").write_text(json.dumps(fields))

    completed = subprocess.run(
        [sys.executable, "-c", COMMAND, "run", "job.yaml", "--store", "store"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert completed.returncode == 0, completed.stderr
    report = json.loads(next((tmp_path / "store").rglob("report.json")).read_text())
    assert report["data"]["label_type"] == "count"
    assert report["adaptation"][0]["method"] == "masked language modeling with label smoothing"
    assert [row["stage"] for row in report["results"]] == ["adapted"]
    assert report["results"][0]["mse"]["mean"] > 0
