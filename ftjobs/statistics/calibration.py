"""Calibration of classifiers: agreement of confidence and accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Calibration:
    """Expected calibration error and reliability diagram. Arrays have one entry per bin; means of empty bins are 0."""

    ece: float
    """Expected calibration error."""
    confidence: np.ndarray
    accuracy: np.ndarray
    count: np.ndarray


def calibration(probabilities: np.ndarray, labels: np.ndarray, bins: int = 15) -> Calibration:
    """Compute the reliability diagram over bins of equal width, and the expected calibration error.

    Guo, Pleiss, Sun, Weinberger (2017), On Calibration of Modern Neural Networks, ICML, section 2. Bin m is the
    half-open interval (m / bins, (m + 1) / bins] of the probability of the predicted class.

    Args:
        probabilities: float (N, C), rows that sum to one
        labels: int (N,)

    Raises:
        ValueError: no examples, or the numbers of labels and rows differ
    """
    if probabilities.ndim != 2 or not len(labels) or probabilities.shape[:1] != labels.shape:
        raise ValueError(
            f"needs probabilities (N, C) and labels (N,), N > 0, not {probabilities.shape} and {labels.shape}"
        )
    top = probabilities.max(axis=1).astype(np.float64)
    right = probabilities.argmax(axis=1) == labels
    bin_of_row = (np.searchsorted(np.linspace(0, 1, bins + 1), top, side="left") - 1).clip(0, bins - 1)
    count = np.bincount(bin_of_row, minlength=bins)
    filled = np.maximum(count, 1)
    confidence = np.bincount(bin_of_row, weights=top, minlength=bins) / filled
    accuracy = np.bincount(bin_of_row, weights=right, minlength=bins) / filled
    ece = float((count * np.abs(accuracy - confidence)).sum() / len(labels))
    return Calibration(ece, confidence, accuracy, count)
