"""Confusion matrices and calibration, from predictions that stand in the artifacts."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from ftjobs.reporting.findings import error_analysis
from tests.helpers.published import Pipeline, always, guesses

STAGES = {"one": {"kind": "classify"}, "two": {"kind": "classify"}}
CLASSES = ("a", "b", "c")


def test_confusion_is_that_of_scikit_learn_over_all_seeds(tmp_path: Path) -> None:
    classifiers = {"one": guesses(0.6, 3), "two": always(1, 3)}
    evidence = Pipeline(tmp_path, classifiers, stages=STAGES, classes=CLASSES, test=90).evidence()
    for found, strategy in zip(error_analysis.confusion(evidence), evidence.strategies, strict=True):
        labels = np.tile(strategy.labels, 3)
        assert found["stage"] == strategy.name
        assert found["counts"] == confusion_matrix(labels, strategy.predictions.reshape(-1)).tolist()
    assert error_analysis.confusion(evidence)[1]["counts"] == [[0, 90, 0]] * 3  # true classes outside, predicted inside


def test_calibration_of_a_model_that_is_as_sure_of_every_row(tmp_path: Path) -> None:
    evidence = Pipeline(tmp_path, {"one": always(0), "two": guesses(0.7)}, stages=STAGES, test=200).evidence()
    same, other = error_analysis.calibration(evidence)
    sure = math.e / (1 + math.e)
    assert same["stage"] == "one"
    assert same["ece"] == {"mean": pytest.approx(sure - 0.5, abs=1e-6), "sd": pytest.approx(0, abs=1e-9)}
    assert (same["confidence"], same["accuracy"]) == ([pytest.approx(sure, abs=1e-6)], [0.5])
    assert same["count"] == [600]
    assert sum(other["count"]) == 600
    assert len(other["count"]) == len(other["accuracy"]) == len(other["confidence"]) > 1
    right = sum(count * accuracy for count, accuracy in zip(other["count"], other["accuracy"], strict=True))
    assert right == pytest.approx(evidence.strategy("two").right.sum())
