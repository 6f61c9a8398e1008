"""The example of `ftjobs/README.md`, "How to add a task", is a label type in a single module that every command accepts."""

from __future__ import annotations

import csv
import json
import random
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

import ftjobs
from tests.helpers.families import WORDS
from tests.helpers.messages import mentions
from tests.helpers.pipelines import job_fields

README = Path(ftjobs.__file__).with_name("README.md")
#: Adds a folder of modules to `ftjobs.tasks`, then runs the command line. Arguments: the folder, then the command.
COMMAND = """
import sys
import ftjobs.tasks
ftjobs.tasks.__path__.append(sys.argv.pop(1))
from ftjobs.cli import main
sys.argv[0] = "ftjobs"
main()
"""


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the module of the README in `tasks/`, data with counts in `rows.csv`, and `job.yaml`."""
    folder = tmp_path_factory.mktemp("count")
    example = re.search(r"<!-- toy task -->\n```python\n(.*?)```\n<!-- end -->", README.read_text(), re.DOTALL)
    assert example is not None
    (folder / "tasks").mkdir()
    (folder / "tasks" / "count.py").write_text(example[1])
    generator = random.Random(3)
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["text", "colds"])
        for row in range(60):
            words = ["cold"] * (row % 4) + generator.choices([word for word in WORDS if word != "cold"], k=4)
            writer.writerow([f"{' '.join(words)} {row}", row % 4])
    data = {"source": "rows.csv", "text": "text", "label": "colds", "label_type": "count"}
    stages = {"full": {"kind": "classify", "epochs": 3}, "head": {"kind": "classify", "freeze_encoder": True}}
    fields = job_fields(None, hypotheses=["full > head by 2.5"], stages=stages)
    fields["data"] = {**data, "split": {"test_fraction": 0.2}}
    (folder / "job.yaml").write_text(json.dumps(fields))
    return folder


def command(workspace: Path, *arguments: str, code: int = 0) -> str:
    """Run a command with the new task, check its exit code and return its output."""
    completed = subprocess.run(
        [sys.executable, "-c", COMMAND, str(workspace / "tasks"), *arguments],
        cwd=workspace, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert completed.returncode == code, completed.stderr
    return completed.stdout + completed.stderr


@pytest.fixture(scope="module")
def model(workspace: Path) -> Path:
    """The workspace after running the job, with the model of `full` pulled to `model/`."""
    command(workspace, "run", "job.yaml")
    command(workspace, "pull", "job.yaml", "full", "model", "--all")
    return workspace / "model"


def metrics_of(model: Path) -> dict[str, Any]:
    metrics: dict[str, Any] = json.loads((model / "metrics.json").read_text())
    return metrics


def test_schema_lists_the_new_label_type(workspace: Path) -> None:
    label_type = json.loads(command(workspace, "schema"))["$defs"]["Data"]["properties"]["label_type"]
    assert label_type["enum"] == ["class", "count", "float", "multi"]
    assert "Poisson" in label_type["description"]


def test_cells_are_checked_by_the_new_task(workspace: Path) -> None:
    (workspace / "wrong.csv").write_text("text,colds\na b,1\nc d,1.5\ne f,0\n")
    output = command(workspace, "run", "job.yaml", "--set", "data.source=wrong.csv", "--store", "wrong", code=2)
    assert "line 3" in output
    assert "'1.5'" in output
    assert "label_type: count" in output


def test_settings_of_other_tasks_are_rejected(workspace: Path) -> None:
    output = command(workspace, "plan", "job.yaml", "--set", "stages.full.class_weights=balanced", code=2)
    assert "stages.full.class_weights" in output
    assert "label_type: count" in output


def test_model_is_trained_and_selected_by_the_metrics_of_the_task(model: Path) -> None:
    metrics = metrics_of(model)
    assert {"mse", "pearson", "spearman", "loss"} <= metrics.keys()
    selected = [record["test"]["mse"] for record in metrics["epochs"]]
    assert metrics["best_epoch"] == selected.index(min(selected)) + 1
    config = json.loads((model / "model" / "config.json").read_text())
    assert (config["label_type"], config["problem_type"], config["id2label"]) == ("count", "regression", {"0": "colds"})
    predictions = pq.read_table(model / "predictions.parquet")
    assert predictions.schema.names == ["id", "label", "prediction"]
    assert min(predictions["prediction"].to_pylist()) > 0


def test_report_and_card_have_the_wording_of_the_task(workspace: Path, model: Path) -> None:
    command(workspace, "report", "job.yaml", "--out", "report")
    report = (workspace / "report" / "report.md").read_text()
    assert "are counts" in report
    assert "mean squared error" in report
    card = (model / "model" / "README.md").read_text()
    assert mentions(card, "regression model", "`colds`")
    assert f"| mean squared error | {metrics_of(model)['mse']:.4g} |" in card


def test_predict_and_evaluate_use_the_new_task(workspace: Path, model: Path) -> None:
    command(workspace, "predict", str(model / "model"), "rows.csv", "--out", "predictions.parquet")
    written = pq.read_table(workspace / "predictions.parquet")["prediction"].to_pylist()
    published = pq.read_table(model / "predictions.parquet").to_pydict()
    assert [written[row] for row in published["id"]] == pytest.approx(published["prediction"], rel=1e-3)
    with (workspace / "rows.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    with (workspace / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows([rows[0], *(rows[1 + row] for row in published["id"])])
    evaluated = json.loads(command(workspace, "evaluate", str(model / "model"), "test.csv", "--json"))
    assert evaluated["mse"] == pytest.approx(metrics_of(model)["mse"], rel=1e-3)
