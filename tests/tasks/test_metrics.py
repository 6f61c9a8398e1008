"""Metrics against scipy's, scikit-learn's and PyTorch's own."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error

from ftjobs.tasks import metrics


def test_regression_is_that_of_scipy_and_sklearn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(3, 2, 200)
    outputs = (labels + rng.normal(0, 1, 200)).astype(np.float32)[:, None]
    found = metrics.of("float")(outputs, labels)
    predicted = outputs[:, 0].astype(np.float64)
    assert found["mse"] == pytest.approx(mean_squared_error(labels, predicted))
    assert found["loss"] == found["mse"]
    assert found["pearson"] == pytest.approx(stats.pearsonr(predicted, labels).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(predicted, labels).statistic)


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (np.full((9, 1), 0.5), np.arange(9.0)),
        (np.arange(9.0)[:, None], np.ones(9)),
        (np.ones((1, 1)), np.zeros(1)),
        (np.full((9, 1), np.inf), np.arange(9.0)),
    ],
)
def test_what_tells_no_rows_apart_has_no_correlation(outputs: np.ndarray, labels: np.ndarray) -> None:
    found = metrics.regression(outputs, labels)
    assert (found["pearson"], found["spearman"]) == (0.0, 0.0)
    assert found["mse"] == ((outputs[:, 0] - labels) ** 2).mean()


def test_nearly_constant_predictions_have_defined_correlations() -> None:
    outputs = np.full((50, 1), 1e8) + np.eye(50, 1) * 1e-7
    found = metrics.regression(outputs, np.arange(50.0))
    assert all(np.isfinite(value) for value in found.values())


def test_several_labels_are_those_of_sklearn_and_torch() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random((80, 4)) < [0.5, 0.2, 0.05, 0.7]).astype(np.uint8)
    logits = (rng.normal(0, 2, (80, 4)) + 2 * labels - 1).astype(np.float32)
    predicted = torch.sigmoid(torch.from_numpy(logits)).numpy() >= 0.5
    found = metrics.of("multi")(logits, labels)
    assert found["accuracy"] == accuracy_score(labels, predicted)  # scikit-learn's subset accuracy
    assert found["f1"] == pytest.approx(f1_score(labels, predicted, average="micro"))
    assert found["f1_macro"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    loss = torch.nn.BCEWithLogitsLoss()(torch.from_numpy(logits), torch.from_numpy(labels).float())
    assert found["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_no_label_predicted_is_no_error() -> None:
    found = metrics.multilabel(np.full((3, 2), -50.0, np.float32), np.array([[0, 1], [0, 0], [1, 0]]))
    assert found["accuracy"] == pytest.approx(1 / 3)
    assert (found["f1"], found["f1_macro"]) == (0.0, 0.0)
    assert found["loss"] == pytest.approx(50 * 2 / 6)


def test_probabilities_of_several_labels_are_each_by_themselves() -> None:
    logits = np.array([[0.0, 3.0, -3.0]], np.float32)
    assert metrics.probabilities(logits, "multi")[0] == pytest.approx(1 / (1 + np.exp(-logits[0].astype(float))))
    assert metrics.probabilities(logits, "class").sum() == pytest.approx(1)
