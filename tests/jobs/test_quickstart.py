"""The quickstart: its data is reproducible, adaptation pays for every seed, and the README shows its results."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from statistics import mean

import pytest

from ftjobs.artifacts import read_text
from ftjobs.execution import runner
from ftjobs.jobfile.read import read
from ftjobs.plan import plan
from ftjobs.storage import open_storage
from tests.helpers import quickstart_data
from tests.helpers.documentation import marked

JOBS = Path(__file__).parents[2] / "jobs"
#: `| head | 49.60 ± 0.00 | 46.0 to 53.2 | ...` in the README.
ROW = re.compile(r"^\| \**([a-z-]+)\** \| \**([\d.]+) ± [\d.]+\** \| \**([\d.]+) to ([\d.]+)\** \|", re.MULTILINE)


def test_quickstart_data_is_that_of_its_generator() -> None:
    with (JOBS / "quickstart.csv").open(newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["question_1", "question_2", "label"]
    assert [tuple(row) for row in rows] == quickstart_data.rows()


@pytest.mark.slow
def test_adaptation_pays_for_every_seed_and_the_readme_agrees(tmp_path: Path) -> None:
    """The shipped job with its own seeds and two more. Margins are half of the measured ones."""
    job = read(JOBS / "quickstart.yaml", ["seeds=[1, 2, 3, 4, 5]"])
    storage = open_storage(str(tmp_path / "store"))
    accuracy: dict[str, dict[int, float]] = {}
    manifests = runner.run_all(plan(job), storage)
    for manifest in manifests:
        if manifest.kind == "classify":
            accuracy.setdefault(manifest.stage, {})[manifest.seed] = manifest.metrics["accuracy"]
    for seed in job.seeds:
        assert accuracy["adapted-head"][seed] - accuracy["head"][seed] > 0.10
        assert accuracy["adapted-behavioural"][seed] - accuracy["behavioural"][seed] > 0.05
        assert accuracy["adapted-behavioural"][seed] < 0.98  # six labels in a hundred are wrong
    headers = [cell.strip() for cell in _readme_table().splitlines()[2].strip("|").split("|")]
    lines = [
        line for line in read_text(storage, manifests[-1], "report.md").splitlines() if line.startswith("| strategy")
    ]
    assert [cell.strip() for cell in lines[0].strip("|").split("|")][: len(headers)] == headers
    documented = {stage: (float(low), float(high)) for stage, _, low, high in ROW.findall(_readme_table())}
    assert documented.keys() == accuracy.keys()
    for stage, (low, high) in documented.items():
        assert low <= 100 * mean(accuracy[stage][seed] for seed in (1, 2, 3)) <= high, stage


def test_readme_table_has_every_strategy_inside_its_interval() -> None:
    rows = ROW.findall(_readme_table())
    strategies = [name for name, stage in read(JOBS / "quickstart.yaml").stages.items() if stage.kind == "classify"]
    assert [stage for stage, *_ in rows] == strategies
    for _, value, low, high in rows:
        assert float(low) <= float(value) <= float(high)


def _readme_table() -> str:
    return marked(Path("README.md"), "quickstart output")
