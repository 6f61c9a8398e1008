"""Predictions for the rows of a file, and how right they are where the labels are known."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ftjobs import metrics as measure
from ftjobs.data import labels as label_names
from ftjobs.errors import UserError
from ftjobs.predicting.classifier import Classifier
from ftjobs.predicting.reading import chunks
from ftjobs.predicting.writing import writer
from ftjobs.statistics import Interval, proportion_interval


@dataclass(frozen=True)
class Evaluated:
    """Metrics of a classifier on labelled rows."""

    rows: int
    truncated: int
    """Rows that were longer than the model takes and were cut."""
    accuracy: float
    interval: Interval
    """Of accuracy, 95 %: Wilson's."""
    f1: float
    """Of class 1 where there are two classes, else the mean over classes."""
    loss: float
    """Mean cross-entropy."""


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
    with writer(out, classifier.classes) as write:
        for texts, _ in chunks(source, _texts(classifier, source, text), {}):
            logits, truncated = classifier.logits(texts[0], texts[1] if len(texts) == 2 else None)
            names = [classifier.classes[index] for index in logits.argmax(axis=1)]
            write(done, names, np.exp(measure.log_softmax(logits)))
            done, cut = done + len(names), cut + truncated
        if not done:
            raise UserError(f"{source}: has no rows; give a file with texts")
    return done, cut


def evaluate(classifier: Classifier, source: str, text: list[str] | None, label: str | None) -> Evaluated:
    """Compare the predictions for every row of `source` with its label.

    Args:
        classifier: the model.
        source: a file, a glob or a folder.
        text: its text columns; those that the model was trained on unless given.
        label: its column of classes; that of the model's training unless given.

    Raises:
        UserError: the input is not what the model takes, or has a label that is none of the model's classes.
    """
    column = label or classifier.label_column
    if column is None:
        raise UserError("the model does not say which column held the label; name it with --label")
    logits: list[np.ndarray] = []
    labels: list[np.ndarray] = []
    cut = 0
    for texts, values in chunks(source, _texts(classifier, source, text), {column: "--label"}):
        found, truncated = classifier.logits(texts[0], texts[1] if len(texts) == 2 else None)
        logits.append(found)
        labels.append(label_names.encode(values, classifier.classes))
        cut += truncated
    if not logits:
        raise UserError(f"{source}: has no rows; give a file with texts and labels")
    found, right = np.concatenate(logits), np.concatenate(labels)
    metrics = measure.classification(found, right)
    interval = proportion_interval(int((found.argmax(axis=1) == right).sum()), len(right))
    return Evaluated(len(right), cut, metrics["accuracy"], interval, metrics["f1"], metrics["loss"])


def _texts(classifier: Classifier, source: str, given: list[str] | None) -> dict[str, str]:
    columns = given or classifier.text_columns
    if columns is None:
        raise UserError("the model does not say which columns held the texts; name them with --text, once or twice")
    if len(columns) > 2 or len(set(columns)) < len(columns):
        raise UserError(f"--text {' --text '.join(columns)}: a model takes one text column, or two different ones")
    return dict.fromkeys(columns, "--text")
