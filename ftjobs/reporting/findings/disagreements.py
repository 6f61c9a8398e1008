"""Test rows on which the strategies disagree most, for review by a domain expert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ftjobs.reporting.finding import OPTIONAL, Finding
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Strategy

#: Rows in a report, and characters of each text.
MAX_ROWS, MAX_CHARACTERS = 20, 600


@dataclass(frozen=True, kw_only=True)
class StrategyVotes(Finding):
    """Predictions of one strategy for one row."""

    stage: str
    predictions: list[str]
    """By seed."""
    right: int | None
    """Seeds with the right prediction; None for numbers."""
    label_probability: float | None = field(default=None, metadata=OPTIONAL)
    """Mean probability of the true class over seeds."""
    error: float | None = field(default=None, metadata=OPTIONAL)
    """Mean absolute error over seeds, for numbers."""
    labels_right: float | None = field(default=None, metadata=OPTIONAL)
    """Share of all labels predicted right over seeds, for label sets."""


@dataclass(frozen=True, kw_only=True)
class ExampleRow(Finding):
    """One test row."""

    id: int
    texts: list[str]
    """One or two, shortened to `MAX_CHARACTERS`."""
    characters: list[int]
    """Full lengths of the texts."""
    label: str
    in_training: bool
    """The row shares a text with the training split."""
    strategies: list[StrategyVotes]


@dataclass(frozen=True, kw_only=True)
class Disagreements(Finding):
    """Rows on which strategies disagree, or the errors of a single strategy."""

    kind: Literal["disagreements", "errors", "none"]
    rows: int
    """Rows that qualify, of which `examples` are a selection."""
    examples: list[ExampleRow]


def disagreements(evidence: Evidence) -> Disagreements:
    """Select the rows on which the strategies disagree most.

    Strategies disagree on a row when their most frequent predictions over seeds differ. The degree is the
    Jensen-Shannon divergence of their mean probabilities, the disagreement of a committee (McCallum and Nigam 1998,
    Employing EM and pool-based active learning for text classification, section 4). Many rows split the strategies in
    the same way, so every such pattern contributes its first row before any contributes a second.

    With a single strategy, the rows are its most confident errors.
    """
    strategies = evidence.strategies
    if not strategies:
        return Disagreements(kind="none", rows=0, examples=[])
    if evidence.task.numeric:
        return _numbers(evidence)
    if evidence.task.label_sets:
        return _label_sets(evidence)
    means = [_mean_probabilities(strategy) for strategy in strategies]
    labels = strategies[0].labels
    if len(strategies) == 1:
        wrong = np.logical_not(strategies[0].right.any(axis=0))
        label_probability = np.take_along_axis(means[0], labels[:, None], axis=1)[:, 0]
        rows = _by_pattern(wrong, 1 - label_probability, labels)
        return _selection(evidence, "errors", rows, means)
    votes = np.stack([_majority(strategy, len(evidence.data.classes)) for strategy in strategies])
    differing = (votes != votes[0]).any(axis=0)
    patterns = np.unique(votes, axis=1, return_inverse=True)[1].reshape(-1)
    return _selection(evidence, "disagreements", _by_pattern(differing, _divergence(means), patterns), means)


def _by_pattern(eligible: np.ndarray, score: np.ndarray, patterns: np.ndarray) -> np.ndarray:
    """Order eligible rows: the highest score of each pattern, then the second highest of each, and so on."""
    rows = np.flatnonzero(eligible)
    by_pattern = rows[np.lexsort((rows, -score[rows], patterns[rows]))]
    _, starts, sizes = np.unique(patterns[by_pattern], return_index=True, return_counts=True)
    rank_in_pattern = np.arange(len(by_pattern)) - np.repeat(starts, sizes)
    return by_pattern[np.lexsort((by_pattern, -score[by_pattern], rank_in_pattern))]


def _selection(
    evidence: Evidence, kind: Literal["disagreements", "errors"], rows: np.ndarray, means: list[np.ndarray]
) -> Disagreements:
    classes, labels = evidence.data.classes, evidence.strategies[0].labels

    def votes(row: int) -> list[StrategyVotes]:
        return [
            StrategyVotes(
                stage=strategy.name,
                predictions=[classes[predicted] for predicted in strategy.predictions[:, row]],
                right=int(strategy.right[:, row].sum()),
                label_probability=round(float(mean[row, labels[row]]), 4),
            )
            for strategy, mean in zip(evidence.strategies, means, strict=True)
        ]

    examples = _examples(evidence, rows, lambda row: classes[labels[row]], votes)
    return Disagreements(kind=kind, rows=len(rows), examples=examples)


def _examples(
    evidence: Evidence, rows: np.ndarray, label: Callable[[int], str], votes: Callable[[int], list[StrategyVotes]]
) -> list[ExampleRow]:
    test = evidence.data.splits["test"]
    columns = [test.texts] if test.pairs is None else [test.texts, test.pairs]
    return [
        ExampleRow(
            id=int(test.ids[row]),
            texts=[column[row][:MAX_CHARACTERS] for column in columns],
            characters=[len(column[row]) for column in columns],
            label=label(row),
            in_training=bool(evidence.in_training[row]),
            strategies=votes(row),
        )
        for row in map(int, rows[:MAX_ROWS])
    ]


def _numbers(evidence: Evidence) -> Disagreements:
    """Select the rows with the largest range of mean predictions; for a single strategy those with the largest
    error."""
    strategies, labels = evidence.strategies, evidence.strategies[0].labels
    means = np.stack([strategy.predictions.mean(axis=0) for strategy in strategies])
    distance = np.ptp(means, axis=0) if len(means) > 1 else np.abs(means[0] - labels)

    def votes(row: int) -> list[StrategyVotes]:
        return [
            StrategyVotes(
                stage=strategy.name,
                predictions=[f"{value:.4g}" for value in strategy.predictions[:, row]],
                right=None,
                error=round(float(np.abs(strategy.predictions[:, row] - labels[row]).mean()), 4),
            )
            for strategy in strategies
        ]

    rows = np.argsort(-distance, kind="stable")
    examples = _examples(evidence, rows, lambda row: f"{labels[row]:.4g}", votes)
    return Disagreements(kind="disagreements" if len(means) > 1 else "errors", rows=len(labels), examples=examples)


def _label_sets(evidence: Evidence) -> Disagreements:
    """Select the rows with most differing labels; for a single strategy those that every seed gets wrong."""
    strategies, classes = evidence.strategies, evidence.data.classes
    shares = np.stack([strategy.predictions.mean(axis=0) for strategy in strategies])  # of seeds: (strategies, N, C)
    votes_by_label = shares >= 0.5
    wrong = np.abs(shares - strategies[0].labels).sum(axis=(0, 2))
    if len(strategies) > 1:
        score = (votes_by_label != votes_by_label[0]).any(axis=0).sum(axis=1).astype(np.float64)
    else:
        score = np.where(strategies[0].right.any(axis=0), 0.0, wrong)
    order = np.lexsort((-wrong, -score))
    rows = order[score[order] > 0]

    def names(flags: np.ndarray) -> str:
        return ", ".join(name for name, flag in zip(classes, flags, strict=True) if flag) or "no label"

    def votes(row: int) -> list[StrategyVotes]:
        return [
            StrategyVotes(
                stage=strategy.name,
                predictions=[names(flags) for flags in strategy.predictions[:, row]],
                right=int(strategy.right[:, row].sum()),
                labels_right=round(float((strategy.predictions[:, row] == strategy.labels[row]).mean()), 4),
            )
            for strategy in strategies
        ]

    examples = _examples(evidence, rows, lambda row: names(strategies[0].labels[row]), votes)
    return Disagreements(kind="disagreements" if len(strategies) > 1 else "errors", rows=len(rows), examples=examples)


def _mean_probabilities(strategy: Strategy) -> np.ndarray:
    """Return the mean over seeds: float32 (N, C)."""
    total = np.zeros((len(strategy.labels), len(strategy.classes)), np.float32)
    for probabilities in strategy.probabilities():
        total += probabilities
    return total / len(strategy.runs)


def _majority(strategy: Strategy, classes: int) -> np.ndarray:
    """Return the most frequent prediction over seeds, the first class of a tie: int64 (N,)."""
    rows = strategy.predictions.shape[1]
    votes = np.zeros((rows, classes), np.int16)
    for predictions in strategy.predictions:
        votes[np.arange(rows), predictions] += 1
    return np.asarray(votes.argmax(axis=1))


def _divergence(means: list[np.ndarray]) -> np.ndarray:
    """Return the entropy of the mean distribution less the mean entropy, in nats: float64 (N,)."""
    mixture = np.mean(means, axis=0)
    return np.asarray(_entropy(mixture) - np.mean([_entropy(mean) for mean in means], axis=0))


def _entropy(distribution: np.ndarray) -> np.ndarray:
    logs = np.log(distribution, out=np.zeros_like(distribution), where=distribution > 0)
    return np.asarray(-(distribution * logs).sum(axis=1), dtype=np.float64)
