"""The report's predictions are those of the artifacts, one row per example, stage and seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from ftjobs.reporting.inputs.predictions_table import write_predictions
from tests.helpers.published import STAGES, Pipeline, guesses


def test_table_holds_predictions_of_all_stages_and_seeds(tmp_path: Path) -> None:
    classifiers = dict.fromkeys(STAGES, guesses(0.7, 3))
    pipeline = Pipeline(tmp_path, classifiers, classes=("cold", "fever", "rash"), seeds=[4, 5], test=30)
    write_predictions(pipeline.evidence(), tmp_path / "predictions.parquet")
    rows = pq.read_table(tmp_path / "predictions.parquet").to_pylist()
    assert len(rows) == 30 * 4 * 2
    for stage in ("head", "adapted-behavioural"):
        for seed in (4, 5):
            written = [row for row in rows if (row["stage"], row["seed"]) == (stage, seed)]
            published = pq.read_table(pipeline.inputs[f"{stage}/seed-{seed}"] / "predictions.parquet").to_pylist()
            for row, expected in zip(written, published, strict=True):
                np.testing.assert_allclose(row.pop("probabilities"), expected.pop("probabilities"), rtol=1e-6)
                assert row == {**expected, "stage": stage, "seed": seed}
