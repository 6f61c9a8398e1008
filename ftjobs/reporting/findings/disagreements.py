"""The test rows that strategies disagree on most: what a person who knows the domain should read."""

from __future__ import annotations

from typing import Any

import numpy as np

from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Strategy

#: Rows shown; texts are cut to this many characters.
ROWS, CHARACTERS = 20, 600


def disagreements(evidence: Evidence) -> dict[str, Any]:
    """The rows on which strategies disagree most, and how many there are on which they disagree at all.

    Strategies disagree on a row when their most frequent predictions over seeds differ. How much they do is the
    Jensen-Shannon divergence of their mean probabilities, a committee's disagreement as in McCallum and Nigam 1998
    ("Employing EM and pool-based active learning for text classification", section 4). Many rows divide the strategies
    in the same way, so each way of dividing them gives its first row before any gives its second.

    With a single strategy the rows are those that it gets wrong with most confidence.
    """
    if not evidence.strategies:
        return {"kind": "none", "rows": 0, "examples": []}
    if evidence.task.numeric:
        return _of_numbers(evidence)
    if evidence.task.label_sets:
        return _of_sets(evidence)
    means = [_mean_probabilities(one) for one in evidence.strategies]
    if len(means) == 1:
        wrong = np.logical_not(evidence.strategies[0].right.any(axis=0))
        label_probability = np.take_along_axis(means[0], evidence.strategies[0].labels[:, None], axis=1)[:, 0]
        return _chosen(evidence, "errors", wrong, 1 - label_probability, evidence.strategies[0].labels, means)
    votes = np.stack([_majority(one, len(evidence.data.classes)) for one in evidence.strategies])
    differing = (votes != votes[0]).any(axis=0)
    patterns = np.unique(votes, axis=1, return_inverse=True)[1].reshape(-1)
    return _chosen(evidence, "disagreements", differing, _divergence(means), patterns, means)


def _chosen(
    evidence: Evidence,
    kind: str,
    eligible: np.ndarray,
    score: np.ndarray,
    patterns: np.ndarray,
    means: list[np.ndarray],
) -> dict[str, Any]:
    """The rows to show: of each pattern the highest score, then of each the second, and so on."""
    rows = np.flatnonzero(eligible)
    by_pattern = rows[np.lexsort((rows, -score[rows], patterns[rows]))]
    _, starts, sizes = np.unique(patterns[by_pattern], return_index=True, return_counts=True)
    turn = np.arange(len(by_pattern)) - np.repeat(starts, sizes)
    shown = by_pattern[np.lexsort((by_pattern, -score[by_pattern], turn))][:ROWS]
    return {"kind": kind, "rows": len(rows), "examples": [_example(evidence, int(row), means) for row in shown]}


def _example(evidence: Evidence, row: int, means: list[np.ndarray]) -> dict[str, Any]:
    test, classes = evidence.data.splits["test"], evidence.data.classes
    assert test.labels is not None
    label = int(test.labels[row])
    return {
        **_row(evidence, row, classes[label]),
        "strategies": [
            {
                "stage": one.name,
                "predictions": [classes[predicted] for predicted in one.predictions[:, row]],
                "right": int(one.right[:, row].sum()),
                "label_probability": round(float(mean[row, label]), 4),
            }
            for one, mean in zip(evidence.strategies, means, strict=True)
        ],
    }


def _row(evidence: Evidence, row: int, label: str) -> dict[str, Any]:
    """What there is to say of a test row before any strategy has its say."""
    test = evidence.data.splits["test"]
    texts = [test.texts[row]] if test.pairs is None else [test.texts[row], test.pairs[row]]
    return {
        "id": int(test.ids[row]),
        "texts": [text[:CHARACTERS] for text in texts],
        "characters": [len(text) for text in texts],
        "label": label,
        "in_training": bool(evidence.in_training[row]),
    }


def _of_numbers(evidence: Evidence) -> dict[str, Any]:
    """The rows on which mean predictions are furthest apart; with a single strategy those with the largest error."""
    labels = evidence.strategies[0].labels
    means = np.stack([one.predictions.mean(axis=0) for one in evidence.strategies])
    kind = "disagreements" if len(means) > 1 else "errors"
    apart = np.ptp(means, axis=0) if len(means) > 1 else np.abs(means[0] - labels)
    rows = np.argsort(-apart, kind="stable")[:ROWS]
    examples = [
        {
            **_row(evidence, int(row), f"{labels[row]:.4g}"),
            "strategies": [
                {
                    "stage": one.name,
                    "predictions": [f"{value:.4g}" for value in one.predictions[:, row]],
                    "right": None,
                    "error": round(float(np.abs(one.predictions[:, row] - labels[row]).mean()), 4),
                }
                for one in evidence.strategies
            ],
        }
        for row in rows
    ]
    return {"kind": kind, "rows": len(labels), "examples": examples}


def _of_sets(evidence: Evidence) -> dict[str, Any]:
    """The rows on which strategies predict other labels, those with most labels apart first; with a single strategy
    those that it gets wrong with every seed."""
    strategies, classes = evidence.strategies, evidence.data.classes
    shares = np.stack([one.predictions.mean(axis=0) for one in strategies])  # (strategies, N, C), of seeds
    votes = shares >= 0.5
    wrong = np.abs(shares - strategies[0].labels).sum(axis=(0, 2))
    if len(strategies) > 1:
        kind, apart = "disagreements", (votes != votes[0]).any(axis=0).sum(axis=1).astype(np.float64)
    else:
        kind, apart = "errors", np.where(strategies[0].right.any(axis=0), 0.0, wrong)
    order = np.lexsort((-wrong, -apart))
    rows = [int(row) for row in order if apart[row] > 0]

    def names(flags: np.ndarray) -> str:
        return ", ".join(name for name, flag in zip(classes, flags, strict=True) if flag) or "no label"

    examples = []
    for row in rows[:ROWS]:
        said = [
            {
                "stage": one.name,
                "predictions": [names(flags) for flags in one.predictions[:, row]],
                "right": int(one.right[:, row].sum()),
                "labels_right": round(float((one.predictions[:, row] == one.labels[row]).mean()), 4),
            }
            for one in strategies
        ]
        examples.append({**_row(evidence, row, names(strategies[0].labels[row])), "strategies": said})
    return {"kind": kind, "rows": len(rows), "examples": examples}


def _mean_probabilities(strategy: Strategy) -> np.ndarray:
    """float32 (N, C): mean over seeds."""
    total = np.zeros((len(strategy.labels), len(strategy.classes)), np.float32)
    for probabilities in strategy.probabilities():
        total += probabilities
    return total / len(strategy.runs)


def _majority(strategy: Strategy, classes: int) -> np.ndarray:
    """int64 (N,): the most frequent prediction over seeds; of several the class that comes first."""
    rows = strategy.predictions.shape[1]
    votes = np.zeros((rows, classes), np.int16)
    for predictions in strategy.predictions:
        votes[np.arange(rows), predictions] += 1
    return np.asarray(votes.argmax(axis=1))


def _divergence(means: list[np.ndarray]) -> np.ndarray:
    """float64 (N,): entropy of the mean distribution less the mean entropy, in nats."""
    mixture = np.mean(means, axis=0)
    return np.asarray(_entropy(mixture) - np.mean([_entropy(one) for one in means], axis=0))


def _entropy(distribution: np.ndarray) -> np.ndarray:
    logs = np.log(distribution, out=np.zeros_like(distribution), where=distribution > 0)
    return np.asarray(-(distribution * logs).sum(axis=1), dtype=np.float64)
