"""Metrics of classifiers, by type of label: pure functions on arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np

from ftjobs.tasks.label_types import LabelType


def of(label_type: LabelType) -> Callable[[np.ndarray, np.ndarray], dict[str, float]]:
    """The function from a model's outputs (N, C) and labels to metrics by name."""
    return {"class": classification, "float": regression, "multi": multilabel}[label_type]


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


def regression(outputs: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean squared error (`mse`, which is the loss), Pearson's and Spearman's correlation.

    Correlations are 0 where predictions or labels are all the same, or predictions are not finite: such a model tells
    no rows apart.

    Args:
        outputs: float (N, 1) or (N,)
        labels: float (N,)
    """
    predicted = outputs.reshape(-1).astype(np.float64)
    error = float(((predicted - labels) ** 2).mean())
    return {
        "mse": error,
        "pearson": _correlation("pearsonr", predicted, labels),
        "spearman": _correlation("spearmanr", predicted, labels),
        "loss": error,
    }


def _correlation(name: str, first: np.ndarray, second: np.ndarray) -> float:
    from scipy import stats

    if len(first) < 2 or not np.isfinite(first).all() or np.ptp(first) == 0 or np.ptp(second) == 0:
        return 0.0
    with warnings.catch_warnings():  # of values that are nearly all the same
        warnings.simplefilter("ignore")
        found = float(getattr(stats, name)(first, second).statistic)
    return found if np.isfinite(found) else 0.0


def multilabel(logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Share of rows with every label right (subset accuracy), micro and macro F1, mean binary cross-entropy.

    Args:
        logits: float (N, C)
        labels: 0 or 1 (N, C)
    """
    from sklearn.metrics import f1_score

    predicted = chosen(logits)
    wide = logits.astype(np.float64)
    entropy = np.maximum(wide, 0) - wide * labels + np.log1p(np.exp(-np.abs(wide)))
    return {
        "accuracy": float((predicted == labels).all(axis=1).mean()),
        "f1": float(f1_score(labels, predicted, average="micro", zero_division=0.0)),
        "f1_macro": float(f1_score(labels, predicted, average="macro", zero_division=0.0)),
        "loss": float(entropy.mean()),
    }


def chosen(logits: np.ndarray) -> np.ndarray:
    """The labels that are predicted, those with a probability of 0.5 or more: uint8 (N, C)."""
    return (logits >= 0).astype(np.uint8)


def probabilities(logits: np.ndarray, label_type: LabelType) -> np.ndarray:
    """float64 (N, C): of each class, adding up to one, or of each label by itself."""
    if label_type == "class":
        return np.asarray(np.exp(log_softmax(logits)))
    from scipy.special import expit

    return np.asarray(expit(logits.astype(np.float64)))
