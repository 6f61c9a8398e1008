"""What accuracy does not show: which classes are taken for which, and whether probabilities mean what they say."""

from __future__ import annotations

from typing import Any

import numpy as np

from ftjobs import statistics
from ftjobs.reporting.evidence import Evidence
from ftjobs.reporting.results import spread
from ftjobs.reporting.runs import Strategy

BINS = 15


def confusion(evidence: Evidence) -> list[dict[str, Any]]:
    """Per strategy `counts`: rows by true class (outer) and predicted class (inner), all seeds together.

    Nothing where labels are numbers, or several at once.
    """
    if evidence.label_type != "class":
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
    return [_calibration(one) for one in evidence.strategies if one.label_type == "class"]


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
