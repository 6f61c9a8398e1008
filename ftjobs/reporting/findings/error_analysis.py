"""Confusion matrices, calibration, and precision and recall per label."""

from __future__ import annotations

from typing import Any

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.findings.classifiers import spread
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Strategy

BINS = 15


def confusion(evidence: Evidence) -> list[dict[str, Any]]:
    """Per strategy `counts`: rows by true class (outer) and predicted class (inner), all seeds together.

    Nothing where labels are numbers, or several at once.
    """
    if not evidence.task.single_class:
        return []
    size = len(evidence.data.classes)
    return [
        {
            "stage": one.name,
            "counts": np.bincount((one.labels * size + one.predictions).reshape(-1), minlength=size * size)
            .reshape(size, size)
            .tolist(),
        }
        for one in evidence.strategies
    ]


def calibration(evidence: Evidence) -> list[dict[str, Any]]:
    """Per strategy the expected calibration error over seeds, and the bins of all seeds together.

    `confidence` and `accuracy` are means of the bins that hold any prediction, `count` is how many each holds.
    """
    return [_calibration(one) for one in evidence.strategies if one.task.single_class]


def _calibration(strategy: Strategy) -> dict[str, Any]:
    errors, count = [], np.zeros(BINS)
    confidence, accuracy = np.zeros(BINS), np.zeros(BINS)
    for probabilities in strategy.probabilities():
        found = statistics.calibration(probabilities, strategy.labels, bins=BINS)
        errors.append(found.ece)
        held = found.count > 0
        count += found.count
        confidence[held] += (found.confidence * found.count)[held]
        accuracy[held] += (found.accuracy * found.count)[held]
    held = count > 0
    return {
        "stage": strategy.name,
        "ece": spread(errors),
        "confidence": (confidence[held] / count[held]).tolist(),
        "accuracy": (accuracy[held] / count[held]).tolist(),
        "count": count[held].astype(int).tolist(),
    }


def by_label(evidence: Evidence) -> list[dict[str, Any]]:
    """One entry per label, the most frequent first: rows that have it, and per strategy precision, recall and F1.

    Each is the mean over seeds, and 0 where nothing was predicted or nothing was there.
    """
    if not evidence.task.label_sets:
        return []
    train, test = (np.asarray(evidence.data.splits[name].labels).sum(axis=0) for name in ("train", "test"))
    figures = {one.name: _label_figures(one) for one in evidence.strategies}
    return [
        {
            "label": evidence.data.classes[label],
            "rows": {"train": int(train[label]), "test": int(test[label])},
            "strategies": {
                name: {key: spread(found[:, label].tolist()) for key, found in of_one.items()}
                for name, of_one in figures.items()
            },
        }
        for label in np.argsort(-test.astype(np.int64), kind="stable")
    ]


def _label_figures(one: Strategy) -> dict[str, np.ndarray]:
    """float64 (S, C) each."""
    predicted, true = one.predictions.astype(bool), one.labels.astype(bool)
    both = (predicted & true).sum(axis=1)
    said, there = predicted.sum(axis=1), np.broadcast_to(true.sum(axis=0), both.shape)
    return {
        "precision": both / np.maximum(said, 1),
        "recall": both / np.maximum(there, 1),
        "f1": 2 * both / np.maximum(said + there, 1),
    }
