"""Several labels at once: what a confusion matrix is for single classes, label by label."""

from __future__ import annotations

from typing import Any

import numpy as np

from ftjobs.reporting.evidence import Evidence
from ftjobs.reporting.results import spread
from ftjobs.reporting.runs import Strategy


def by_label(evidence: Evidence) -> list[dict[str, Any]]:
    """One entry per label, the most frequent first: rows that have it, and per strategy precision, recall and F1.

    Each is the mean over seeds, and 0 where nothing was predicted or nothing was there.
    """
    if evidence.label_type != "multi":
        return []
    train, test = (np.asarray(evidence.data.splits[name].labels).sum(axis=0) for name in ("train", "test"))
    figures = {one.name: _figures(one) for one in evidence.strategies}
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


def _figures(one: Strategy) -> dict[str, np.ndarray]:
    """float64 (S, C) each."""
    predicted, true = one.predictions.astype(bool), one.labels.astype(bool)
    both = (predicted & true).sum(axis=1)
    said, there = predicted.sum(axis=1), np.broadcast_to(true.sum(axis=0), both.shape)
    return {
        "precision": both / np.maximum(said, 1),
        "recall": both / np.maximum(there, 1),
        "f1": 2 * both / np.maximum(said + there, 1),
    }
