"""A new objective is one module, as `ftjobs/README.md` describes: it trains, and appears in schema, report and cards."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests.helpers.documentation import marked
from tests.helpers.pipelines import job_fields, write_rows

#: Runs a command with a further folder of objectives.
COMMAND = """
import sys
import ftjobs.objectives
ftjobs.objectives.__path__.append(sys.argv.pop(1))
from ftjobs.cli import main
sys.argv[0] = "ftjobs"
main()
"""


def ftjobs(folder: Path, *arguments: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", COMMAND, str(folder / "objectives"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_objective_of_the_guide_trains_and_is_described(tmp_path: Path) -> None:
    block = marked(Path("ftjobs/README.md"), "toy objective")
    (tmp_path / "objectives").mkdir()
    (tmp_path / "objectives/smoothed.py").write_text(block.removeprefix("```python\n").removesuffix("\n```") + "\n")
    write_rows(tmp_path / "rows.csv")
    fields = job_fields(None, hypotheses=["adapted > plain"])
    plain = {"kind": "classify", "freeze_encoder": True, "epochs": 1}
    fields["stages"] = {
        "mlm": {"kind": "adapt", "epochs": 1},
        "smoothed": {"kind": "adapt", "epochs": 1, "objective": "smoothed-mlm"},
        "plain": plain,
        "adapted": {**plain, "encoder": "smoothed"},
    }
    (tmp_path / "job.yaml").write_text(json.dumps(fields))

    assert "smoothed-mlm" in ftjobs(tmp_path, "schema")
    ftjobs(tmp_path, "run", "job.yaml", "--store", "store")
    metrics = {
        stage: json.loads(next((tmp_path / "store").glob(f"toy/{stage}/**/metrics.json")).read_text())
        for stage in ("mlm", "smoothed")
    }
    assert metrics["smoothed"]["before"] == metrics["mlm"]["before"]  # the same encoder, masks and measures
    assert metrics["smoothed"]["epochs"][0]["train_loss"] > metrics["mlm"]["epochs"][0]["train_loss"]
    method = "masked language modeling with label smoothing"
    report = json.loads(next((tmp_path / "store").rglob("report.json")).read_text())
    assert {row["stage"]: row["method"] for row in report["adaptation"]} == {
        "mlm": "masked language modeling",
        "smoothed": method,
    }
    assert method in next((tmp_path / "store").rglob("report.md")).read_text()
    assert method in next((tmp_path / "store").glob("toy/smoothed/**/model/README.md")).read_text()
