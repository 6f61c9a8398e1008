"""Confusion matrices, calibration, and precision and recall per label."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.finding import Finding, Spread, spread
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Strategy

BINS = 15


@dataclass(frozen=True, kw_only=True)
class ConfusionMatrix(Finding):
    """Test rows of one strategy by true class (outer) and predicted class (inner), summed over seeds."""

    stage: str
    counts: list[list[int]]


@dataclass(frozen=True, kw_only=True)
class CalibrationResult(Finding):
    """Calibration of one strategy. Lists have one entry per non-empty bin, pooled over seeds."""

    stage: str
    ece: Spread
    """Expected calibration error."""
    confidence: list[float]
    """Mean probability of the predicted class."""
    accuracy: list[float]
    count: list[int]


@dataclass(frozen=True, kw_only=True)
class LabelScores(Finding):
    """Scores of one strategy on one label, over seeds; 0 where the denominator is 0."""

    precision: Spread
    recall: Spread
    f1: Spread


@dataclass(frozen=True, kw_only=True)
class LabelResult(Finding):
    """One label of a multi-label task."""

    label: str
    rows: dict[str, int]
    """Rows with this label in `train` and `test`."""
    strategies: dict[str, LabelScores]


def confusion_matrices(evidence: Evidence) -> list[ConfusionMatrix]:
    """Return one matrix per strategy; empty unless each row has exactly one class."""
    if not evidence.task.single_class:
        return []
    size = len(evidence.data.classes)
    return [
        ConfusionMatrix(
            stage=strategy.name,
            counts=np.bincount((strategy.labels * size + strategy.predictions).reshape(-1), minlength=size * size)
            .reshape(size, size)
            .tolist(),
        )
        for strategy in evidence.strategies
    ]


def calibration_results(evidence: Evidence) -> list[CalibrationResult]:
    """Return one result per strategy; empty unless each row has exactly one class."""
    return [_calibration(strategy) for strategy in evidence.strategies if strategy.task.single_class]


def _calibration(strategy: Strategy) -> CalibrationResult:
    errors, count = [], np.zeros(BINS)
    confidence, accuracy = np.zeros(BINS), np.zeros(BINS)  # sums over rows until the division below
    for probabilities in strategy.probabilities():
        of_seed = statistics.calibration(probabilities, strategy.labels, bins=BINS)
        errors.append(of_seed.ece)
        filled = of_seed.count > 0
        count += of_seed.count
        confidence[filled] += (of_seed.confidence * of_seed.count)[filled]
        accuracy[filled] += (of_seed.accuracy * of_seed.count)[filled]
    filled = count > 0
    return CalibrationResult(
        stage=strategy.name,
        ece=spread(errors),
        confidence=(confidence[filled] / count[filled]).tolist(),
        accuracy=(accuracy[filled] / count[filled]).tolist(),
        count=count[filled].astype(int).tolist(),
    )


def label_results(evidence: Evidence) -> list[LabelResult]:
    """Return one result per label of a multi-label task, the most frequent label in the test split first."""
    if not evidence.task.label_sets:
        return []
    train, test = (np.asarray(evidence.data.splits[name].labels).sum(axis=0) for name in ("train", "test"))
    scores = {strategy.name: _label_scores(strategy) for strategy in evidence.strategies}
    return [
        LabelResult(
            label=evidence.data.classes[label],
            rows={"train": int(train[label]), "test": int(test[label])},
            strategies={
                name: LabelScores(**{key: spread(values[:, label].tolist()) for key, values in by_metric.items()})
                for name, by_metric in scores.items()
            },
        )
        for label in np.argsort(-test.astype(np.int64), kind="stable")
    ]


def _label_scores(strategy: Strategy) -> dict[str, np.ndarray]:
    """Return precision, recall and F1 of every label: float64 (S, C) each."""
    predicted, true = strategy.predictions.astype(bool), strategy.labels.astype(bool)
    hits = (predicted & true).sum(axis=1)
    positives, relevant = predicted.sum(axis=1), np.broadcast_to(true.sum(axis=0), hits.shape)
    return {
        "precision": hits / np.maximum(positives, 1),
        "recall": hits / np.maximum(relevant, 1),
        "f1": 2 * hits / np.maximum(positives + relevant, 1),
    }
