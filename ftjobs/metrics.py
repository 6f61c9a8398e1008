"""Metrics of classifiers: pure functions on arrays."""

from __future__ import annotations

import numpy as np


def classification(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Accuracy, F1 and mean cross-entropy.

    F1 is that of class 1 when there are two classes (as scikit-learn's and evaluate's default), else the unweighted
    mean over classes.

    Args:
        logits: float (N, C)
        labels: int (N,)
    """
    from sklearn.metrics import accuracy_score, f1_score

    predictions = logits.argmax(axis=1)
    average = "binary" if logits.shape[1] == 2 else "macro"
    return {
        "accuracy": float(accuracy_score(labels, predictions)),
        "f1": float(f1_score(labels, predictions, average=average, zero_division=0.0)),
        "loss": float(-log_softmax(logits)[np.arange(len(labels)), labels].mean()),
    }


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """Log-probabilities in float64: (N, C) from logits (N, C)."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))  # type: ignore[no-any-return]
