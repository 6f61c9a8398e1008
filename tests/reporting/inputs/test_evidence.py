"""Evidence is read from the artifacts, and checked against the test split."""

from __future__ import annotations

from pathlib import Path

import pytest

from ftjobs.errors import CorruptArtifact
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
