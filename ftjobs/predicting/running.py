"""Predictions for the rows of a file, and how right they are where the labels are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ftjobs.data.readers.columns import RequiredColumn, RequiredColumns
from ftjobs.errors import UserError
from ftjobs.predicting.classifier import Classifier
from ftjobs.predicting.reading import chunks
from ftjobs.predicting.writing import writer
from ftjobs.statistics import Interval
from ftjobs.tasks.cells import TextCell

#: Of the bootstrap.
_SEED = 0


@dataclass(frozen=True)
class Evaluated:
    """Metrics of a classifier on labelled rows."""

    rows: int
    truncated: int
    """Rows that were longer than the model takes and were cut."""
    metrics: dict[str, float]
    """As `metrics.of` has them for the type of label, the first the one that strategies are compared by."""
    interval: Interval
    """Of that one, 95 %: Wilson's of accuracy, a bootstrap's of the mean squared error."""

    def as_json(self) -> dict[str, Any]:
        """What `--json` prints."""
        (first, value), *others = self.metrics.items()
        interval = {"low": self.interval.low, "high": self.interval.high}
        return {"rows": self.rows, "truncated": self.truncated, first: value, "interval": interval, **dict(others)}


@dataclass(frozen=True)
class Prediction:
    """The prediction for one text, or one pair of texts."""

    label: Any
    """A class name; a number for a model of numbers; a list of names for a model of several labels."""
    probabilities: dict[str, float]
    """Probability of every class; empty for a model of numbers."""


def predict_texts(classifier: Classifier, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Prediction]:
    """Predict the labels of texts (N), or of pairs of texts (N), in memory.

    Raises:
        UserError: the model was trained on pairs and an entry is no pair, or the other way round.
    """
    expected = len(classifier.text_columns or ()) or None
    rows = [(row,) if isinstance(row, str) else tuple(row) for row in texts]
    for number, row in enumerate(rows):
        if len(row) != (expected or len(rows[0])) or len(row) > 2:
            wants = {1: "one text", 2: "a pair of texts"}.get(expected or len(rows[0]), "a text or a pair of texts")
            raise UserError(f"texts[{number}]: has {len(row)} texts; the model takes {wants} in each entry")
    if not rows:
        return []
    outputs, _ = classifier.outputs(*(list(column) for column in zip(*rows, strict=True)))
    labels, probabilities = _decoded(classifier, outputs)
    return [
        Prediction(label, dict(zip(classifier.classes, row, strict=True)) if row else {})
        for label, row in zip(labels, probabilities.tolist(), strict=True)
    ]


def predict(classifier: Classifier, source: str, text: list[str] | None, out: Path) -> tuple[int, int]:
    """Write the predictions for every row of `source` to `out`.

    Args:
        classifier: the model.
        source: a file, a glob or a folder.
        text: its text columns; those that the model was trained on unless given.
        out: a csv, jsonl or parquet file.

    Returns:
        How many rows there were, and how many of them were cut.

    Raises:
        UserError: the input is not what the model takes, or `out` cannot be written.
    """
    done = cut = 0
    with writer(out, classifier.classes, classifier.task, classifier.label_separator) as write:
        texts = _texts(classifier, text)
        for chunk in chunks(source, texts, classifier.label_separator):
            outputs, truncated = classifier.outputs(*(chunk[name] for name in texts))
            write(done, *_decoded(classifier, outputs))
            done, cut = done + len(outputs), cut + truncated
    return done, cut


def evaluate(classifier: Classifier, source: str, text: list[str] | None, label: list[str] | None) -> Evaluated:
    """Compare the predictions for every row of `source` with its label.

    Args:
        classifier: the model.
        source: a file, a glob or a folder.
        text: its text columns; those that the model was trained on unless given.
        label: its columns of labels; those of the model's training unless given.

    Raises:
        UserError: the input is not what the model takes, or has a label that is none of the model's classes.
    """
    columns = label or classifier.label_columns
    if columns is None:
        raise UserError("the model does not say which column held the label; name it with --label")
    several = classifier.task.several_columns and len(columns) > 1
    if len(columns) != (len(classifier.classes) if several else 1):
        given = " ".join(f"--label {column}" for column in columns)
        raise UserError(f"{given}: the model takes one column of labels" + _or_each(classifier))
    texts = _texts(classifier, text)
    labelled = dict.fromkeys(columns, RequiredColumn(classifier.task.cell_type(several), "--label"))
    outputs: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    cut = 0
    for chunk in chunks(source, texts | labelled, classifier.label_separator):
        found, truncated = classifier.outputs(*(chunk[name] for name in texts))
        outputs.append(found)
        cells = [chunk[name] for name in columns]
        labels.append(classifier.task.encode(cells, classifier.classes, f"{source}: column {columns[0]!r}"))
        cut += truncated
    logits, true = np.concatenate(outputs), np.concatenate(labels)
    interval = classifier.task.interval(classifier.task.predict(logits)[None], true, seed=_SEED)
    return Evaluated(len(true), cut, classifier.task.compute_metrics(logits, true), interval)


def _decoded(classifier: Classifier, logits: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Return predictions (N) as class names, numbers or lists of names, and probabilities (N, C)."""
    task = classifier.task
    return task.decode(task.predict(logits), classifier.classes).to_pylist(), task.probabilities(logits)


def _or_each(classifier: Classifier) -> str:
    return f", or one for each of its {len(classifier.classes)} labels" if classifier.task.several_columns else ""


def _texts(classifier: Classifier, given: list[str] | None) -> RequiredColumns:
    columns = given or classifier.text_columns
    if columns is None:
        raise UserError("the model does not say which columns held the texts; name them with --text, once or twice")
    if len(columns) > 2 or len(set(columns)) < len(columns):
        raise UserError(f"--text {' --text '.join(columns)}: a model takes one text column, or two different ones")
    return dict.fromkeys(columns, RequiredColumn(TextCell(), "--text"))
