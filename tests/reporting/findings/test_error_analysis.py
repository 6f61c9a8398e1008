"""Confusion matrices and calibration are those of the published predictions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import confusion_matrix

from ftjobs.reporting.findings.error_analysis import calibration_results, confusion_matrices
from tests.helpers.published import Pipeline, always, guesses

STAGES = {"one": {"kind": "classify"}, "two": {"kind": "classify"}}
CLASSES = ("a", "b", "c")


def test_confusion_matrix_equals_scikit_learn_over_all_seeds(tmp_path: Path) -> None:
    classifiers = {"one": guesses(0.6, 3), "two": always(1, 3)}
    evidence = Pipeline(tmp_path, classifiers, stages=STAGES, classes=CLASSES, test=90).evidence()
    matrices = confusion_matrices(evidence)
    for matrix, strategy in zip(matrices, evidence.strategies, strict=True):
        labels = np.tile(strategy.labels, 3)
        assert matrix.stage == strategy.name
        assert matrix.counts == confusion_matrix(labels, strategy.predictions.reshape(-1)).tolist()
    assert matrices[1].counts == [[0, 90, 0]] * 3  # true classes outside, predicted classes inside


def test_calibration_of_constant_and_varying_confidence(tmp_path: Path) -> None:
    evidence = Pipeline(tmp_path, {"one": always(0), "two": guesses(0.7)}, stages=STAGES, test=200).evidence()
    constant, varying = calibration_results(evidence)
    confidence = math.e / (1 + math.e)
    assert constant.stage == "one"
    assert constant.ece.mean == pytest.approx(confidence - 0.5, abs=1e-6)
    assert constant.ece.sd == pytest.approx(0, abs=1e-9)
    assert (constant.confidence, constant.accuracy) == ([pytest.approx(confidence, abs=1e-6)], [0.5])
    assert constant.count == [600]
    assert sum(varying.count) == 600
    assert len(varying.count) == len(varying.accuracy) == len(varying.confidence) > 1
    right = sum(count * accuracy for count, accuracy in zip(varying.count, varying.accuracy, strict=True))
    assert right == pytest.approx(evidence.strategy("two").right.sum())
