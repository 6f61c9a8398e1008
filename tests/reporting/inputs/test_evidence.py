"""Predictions come out of the report as they went in, one row per example, stage and seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ftjobs.errors import CorruptArtifact
from ftjobs.reporting.inputs.predictions_table import write_predictions
from tests.helpers.published import STAGES, Pipeline, guesses

CLASSES = ("cold", "fever", "rash")
FOUR = dict.fromkeys(STAGES, guesses(0.7, 3))


def test_predictions_of_all_stages_and_seeds_in_one_file(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR, classes=CLASSES, seeds=[4, 5], test=30)
    write_predictions(pipeline.evidence(), tmp_path / "predictions.parquet")
    table = pq.read_table(tmp_path / "predictions.parquet")
    assert table.num_rows == 30 * 4 * 2
    rows = table.to_pylist()
    for stage in ("head", "adapted-behavioural"):
        for seed in (4, 5):
            mine = [row for row in rows if (row["stage"], row["seed"]) == (stage, seed)]
            given = pq.read_table(pipeline.inputs[f"{stage}/seed-{seed}"] / "predictions.parquet").to_pylist()
            for found, expected in zip(mine, given, strict=True):
                np.testing.assert_allclose(found.pop("probabilities"), expected.pop("probabilities"), rtol=1e-6)
                assert found == {**expected, "stage": stage, "seed": seed}


def test_predictions_of_other_rows_are_refused(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR, classes=CLASSES)
    other = Pipeline(tmp_path / "other", FOUR, classes=CLASSES, train=101)
    pipeline.inputs["head/seed-2"] = other.inputs["head/seed-2"]
    with pytest.raises(CorruptArtifact, match=r"head seed 2: predictions\.parquet is not about the test rows"):
        pipeline.evidence()


def test_rows_with_a_text_in_training_are_found_whatever_case_and_white_space(tmp_path: Path) -> None:
    found = Pipeline(tmp_path, FOUR, classes=CLASSES, shared=3, test=20).evidence()
    assert found.in_training.tolist() == [True] * 3 + [False] * 17


def test_lineage_goes_through_every_stage_that_an_encoder_came_from(tmp_path: Path) -> None:
    stages = {
        "adapt": {"kind": "adapt"},
        "first": {"kind": "classify", "encoder": "adapt"},
        "second": {"kind": "classify", "encoder": "first"},
        "plain": {"kind": "classify"},
    }
    found = Pipeline(tmp_path, dict.fromkeys(stages, guesses(0.7, 3)), stages=stages, classes=CLASSES).evidence()
    assert found.lineage("second") == ["first", "adapt"]
    assert [found.is_adapted(one.name) for one in found.strategies] == [True, True, False]
