"""Evidence is read from the artifacts and checked against the test split; the table of predictions repeats it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from ftjobs.errors import CorruptArtifact
from ftjobs.reporting.inputs.evidence import write_predictions
from tests.helpers.published import STAGES, Pipeline, guesses

CLASSES = ("cold", "fever", "rash")
FOUR = dict.fromkeys(STAGES, guesses(0.7, 3))


def test_predictions_for_other_rows_are_refused(tmp_path: Path) -> None:
    pipeline = Pipeline(tmp_path, FOUR, classes=CLASSES)
    other = Pipeline(tmp_path / "other", FOUR, classes=CLASSES, train=101)
    pipeline.inputs["head/seed-2"] = other.inputs["head/seed-2"]
    with pytest.raises(CorruptArtifact, match=r"head seed 2: predictions\.parquet .*`ftjobs verify`"):
        pipeline.evidence()


def test_shared_texts_are_found_in_any_case_and_white_space(tmp_path: Path) -> None:
    evidence = Pipeline(tmp_path, FOUR, classes=CLASSES, shared=3, test=20).evidence()
    assert evidence.in_training.tolist() == [True] * 3 + [False] * 17


def test_lineage_contains_every_ancestor(tmp_path: Path) -> None:
    stages = {
        "adapt": {"kind": "adapt"},
        "first": {"kind": "classify", "encoder": "adapt"},
        "second": {"kind": "classify", "encoder": "first"},
        "plain": {"kind": "classify"},
    }
    classifiers = dict.fromkeys(stages, guesses(0.7, 3))
    evidence = Pipeline(tmp_path, classifiers, stages=stages, classes=CLASSES).evidence()
    assert evidence.lineage("second") == ["first", "adapt"]
    assert [evidence.is_adapted(strategy.name) for strategy in evidence.strategies] == [True, True, False]


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
