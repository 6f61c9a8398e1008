"""Seeds that stopped after different epochs stand side by side in one report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ftjobs.reporting.figures.charts import _side_by_side
from tests.helpers.published import Pipeline, guesses


def test_a_report_on_seeds_of_different_length(tmp_path: Path) -> None:
    stages = {
        "adapt": {"kind": "adapt", "epochs": 5, "early_stopping": 1},
        "tuned": {"kind": "classify", "epochs": 6, "early_stopping": 2},
    }
    made = Pipeline(tmp_path / "in", {"tuned": guesses(0.8)}, stages=stages)
    for (role, folder), run in zip(list(made.inputs.items())[1:], (2, 5, 3, 4, 6, 4), strict=True):
        content = json.loads((folder / "metrics.json").read_text())
        content |= {"epochs": content["epochs"][:run], "epochs_run": run, "best_epoch": 2}
        (folder / "metrics.json").write_text(json.dumps(content))
        assert role.startswith("adapt" if run in (2, 5, 3) else "tuned")
    found = made.report(tmp_path / "out")
    assert set(found["stages"]) == {"tuned"}
    text = (tmp_path / "out/report.md").read_text()
    assert "training ended for `tuned` after epoch 4, 6 and 4 of 6." in text
    assert "training ended for `adapt` after epoch 2, 5 and 3 of 5." in text


def test_curves_are_compared_at_the_same_epochs() -> None:
    at, values = _side_by_side([[4.0, 2.0], [6.0, 5.0, 4.0]], [[1, 2], [1, 2, 3]])
    assert list(at) == [1, 2, 3]
    np.testing.assert_array_equal(values, [[4.0, 2.0, np.nan], [6.0, 5.0, 4.0]])
    at, values = _side_by_side([[4.0, 2.0], [6.0, 5.0, 4.0]], [[0.5, 1.5], [0.5, 1.0, 2.0]])
    np.testing.assert_array_equal(values, [[4.0, 3.0, np.nan], [6.0, 5.0, 4.0]])
