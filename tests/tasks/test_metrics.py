"""Metrics match those of SciPy, scikit-learn and PyTorch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from sklearn.metrics import accuracy_score, f1_score, mean_squared_error

from ftjobs.tasks import get_task


def test_regression_metrics_match_scipy_and_sklearn() -> None:
    rng = np.random.default_rng(0)
    labels = rng.normal(3, 2, 200)
    outputs = (labels + rng.normal(0, 1, 200)).astype(np.float32)[:, None]
    metrics = get_task("float").compute_metrics(outputs, labels)
    predicted = outputs[:, 0].astype(np.float64)
    assert metrics["mse"] == pytest.approx(mean_squared_error(labels, predicted))
    assert metrics["loss"] == metrics["mse"]
    assert metrics["pearson"] == pytest.approx(stats.pearsonr(predicted, labels).statistic)
    assert metrics["spearman"] == pytest.approx(stats.spearmanr(predicted, labels).statistic)


@pytest.mark.parametrize(
    ("outputs", "labels"),
    [
        (np.full((9, 1), 0.5), np.arange(9.0)),
        (np.arange(9.0)[:, None], np.ones(9)),
        (np.ones((1, 1)), np.zeros(1)),
        (np.full((9, 1), np.inf), np.arange(9.0)),
    ],
)
def test_correlations_are_zero_for_constant_or_infinite_predictions(outputs: np.ndarray, labels: np.ndarray) -> None:
    metrics = get_task("float").compute_metrics(outputs, labels)
    assert (metrics["pearson"], metrics["spearman"]) == (0.0, 0.0)
    assert metrics["mse"] == ((outputs[:, 0] - labels) ** 2).mean()


def test_correlations_are_finite_for_nearly_constant_predictions() -> None:
    outputs = np.full((50, 1), 1e8) + np.eye(50, 1) * 1e-7
    metrics = get_task("float").compute_metrics(outputs, np.arange(50.0))
    assert all(np.isfinite(value) for value in metrics.values())


def test_multilabel_metrics_match_sklearn_and_torch() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random((80, 4)) < [0.5, 0.2, 0.05, 0.7]).astype(np.uint8)
    logits = (rng.normal(0, 2, (80, 4)) + 2 * labels - 1).astype(np.float32)
    predicted = torch.sigmoid(torch.from_numpy(logits)).numpy() >= 0.5
    metrics = get_task("multi").compute_metrics(logits, labels)
    assert metrics["accuracy"] == accuracy_score(labels, predicted)  # scikit-learn's subset accuracy
    assert metrics["f1"] == pytest.approx(f1_score(labels, predicted, average="micro"))
    assert metrics["f1_macro"] == pytest.approx(f1_score(labels, predicted, average="macro"))
    loss = torch.nn.BCEWithLogitsLoss()(torch.from_numpy(logits), torch.from_numpy(labels).float())
    assert metrics["loss"] == pytest.approx(float(loss), rel=1e-5)


def test_multilabel_f1_is_zero_if_no_label_is_predicted() -> None:
    metrics = get_task("multi").compute_metrics(np.full((3, 2), -50.0, np.float32), np.array([[0, 1], [0, 0], [1, 0]]))
    assert metrics["accuracy"] == pytest.approx(1 / 3)
    assert (metrics["f1"], metrics["f1_macro"]) == (0.0, 0.0)
    assert metrics["loss"] == pytest.approx(50 * 2 / 6)


def test_multilabel_probabilities_are_independent() -> None:
    logits = np.array([[0.0, 3.0, -3.0]], np.float32)
    assert get_task("multi").probabilities(logits)[0] == pytest.approx(1 / (1 + np.exp(-logits[0].astype(float))))
    assert get_task("class").probabilities(logits).sum() == pytest.approx(1)
