"""Predict the labels of texts and files, and evaluate predictions on labeled files."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from ftjobs.data.readers.columns import RequiredColumn, RequiredColumns
from ftjobs.data.readers.files import read_file
from ftjobs.errors import UserError
from ftjobs.jobfile import local_files
from ftjobs.predicting.classifier import Classifier
from ftjobs.predicting.prediction_files import open_writer
from ftjobs.statistics import Interval
from ftjobs.tasks.cells import TextCell

#: Random draws of intervals.
_SEED = 0
#: Size of a chunk: many rows, so that batches can group texts of similar length.
_CHUNK_ROWS, _CHUNK_BYTES = 4_096, 2**26


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of a classifier on labeled rows."""

    rows: int
    truncated: int
    """Rows that were truncated to the maximum input length."""
    metrics: dict[str, float]
    """Metrics of the task by key; the first is the default metric."""
    interval: Interval
    """95 % interval of the default metric."""

    def as_json(self) -> dict[str, Any]:
        """Return the output of `ftjobs evaluate --json`."""
        (first, value), *others = self.metrics.items()
        interval = {"low": self.interval.low, "high": self.interval.high}
        return {"rows": self.rows, "truncated": self.truncated, first: value, "interval": interval, **dict(others)}


@dataclass(frozen=True)
class Prediction:
    """The prediction for one text, or one pair of texts."""

    label: Any
    """A class name, a number, or a list of label names, by task."""
    probabilities: dict[str, float]
    """Probability of every class or label; empty for tasks without probabilities."""


def predict_texts(classifier: Classifier, texts: Sequence[str] | Sequence[tuple[str, str]]) -> list[Prediction]:
    """Predict the labels of texts (N), or of pairs of texts (N), in memory.

    Raises:
        UserError: an entry does not have the number of texts that the model was trained on.
    """
    expected = len(classifier.text_columns or ()) or None
    rows = [(row,) if isinstance(row, str) else tuple(row) for row in texts]
    for number, row in enumerate(rows):
        if len(row) != (expected or len(rows[0])) or len(row) > 2:
            entry = {1: "one text", 2: "a pair of texts"}.get(expected or len(rows[0]), "a text or a pair of texts")
            raise UserError(f"texts[{number}]: has {len(row)} texts; give {entry} in each entry")
    if not rows:
        return []
    outputs, _ = classifier.outputs(*(list(column) for column in zip(*rows, strict=True)))
    labels, probabilities = _decode(classifier, outputs)
    return [
        Prediction(label, dict(zip(classifier.classes, row, strict=True)) if row else {})
        for label, row in zip(labels, probabilities.tolist(), strict=True)
    ]


def predict(classifier: Classifier, source: str, text: list[str] | None, out: Path) -> tuple[int, int]:
    """Write the predictions for every row of `source` to `out`.

    Args:
        classifier: the model.
        source: a file, a glob or a folder.
        text: its text columns; by default those of the training data.
        out: a new csv, jsonl or parquet file.

    Returns:
        The number of rows, and of truncated rows.

    Raises:
        UserError: the input is invalid, or `out` exists or has another format.
    """
    rows = truncated_rows = 0
    with open_writer(out, classifier.classes, classifier.task, classifier.label_separator) as write:
        texts = _text_columns(classifier, text)
        for chunk in _chunks(source, texts, classifier.label_separator):
            outputs, truncated = classifier.outputs(*(chunk[name] for name in texts))
            write(rows, *_decode(classifier, outputs))
            rows, truncated_rows = rows + len(outputs), truncated_rows + truncated
    return rows, truncated_rows


def evaluate(classifier: Classifier, source: str, text: list[str] | None, label: list[str] | None) -> EvaluationResult:
    """Compare the predictions for every row of `source` with the labels.

    Args:
        classifier: the model.
        source: a file, a glob or a folder.
        text: its text columns; by default those of the training data.
        label: its label columns; by default those of the training data.

    Raises:
        UserError: the input is invalid, or has a label that the model does not know.
    """
    columns = label or classifier.label_columns
    if columns is None:
        raise UserError("MODEL: the label column is unknown, as ftjobs.json is missing; give it with --label")
    task = classifier.task
    several = task.several_columns and len(columns) > 1
    if len(columns) != (len(classifier.classes) if several else 1):
        options = " ".join(f"--label {column}" for column in columns)
        alternative = f", or one for each of its {len(classifier.classes)} labels" if task.several_columns else ""
        raise UserError(f"{options}: {len(columns)} columns; give one label column{alternative}")
    texts = _text_columns(classifier, text)
    label_columns = dict.fromkeys(columns, RequiredColumn(task.cell_type(several), "--label"))
    logit_chunks: list[np.ndarray] = []
    label_chunks: list[np.ndarray] = []
    truncated_rows = 0
    for chunk in _chunks(source, texts | label_columns, classifier.label_separator):
        outputs, truncated = classifier.outputs(*(chunk[name] for name in texts))
        logit_chunks.append(outputs)
        cells = [chunk[name] for name in columns]
        label_chunks.append(task.encode(cells, classifier.classes, f"{source}: column {columns[0]!r}"))
        truncated_rows += truncated
    logits, labels = np.concatenate(logit_chunks), np.concatenate(label_chunks)
    interval = task.interval(task.predict(logits)[None], labels, seed=_SEED)
    return EvaluationResult(len(labels), truncated_rows, task.compute_metrics(logits, labels), interval)


def _decode(classifier: Classifier, logits: np.ndarray) -> tuple[list[Any], np.ndarray]:
    """Return predictions (N) as class names, numbers or lists of names, and probabilities (N, C)."""
    task = classifier.task
    return task.decode(task.predict(logits), classifier.classes).to_pylist(), task.probabilities(logits)


def _text_columns(classifier: Classifier, text: list[str] | None) -> RequiredColumns:
    columns = text or classifier.text_columns
    if columns is None:
        raise UserError(
            "MODEL: the text columns are unknown, as ftjobs.json is missing; give them with --text, once or twice"
        )
    if len(columns) > 2 or len(set(columns)) < len(columns):
        raise UserError(
            f"--text {' --text '.join(columns)}: {len(columns)} columns; give one text column, or two different ones"
        )
    return dict.fromkeys(columns, RequiredColumn(TextCell(), "--text"))


def _chunks(source: str, required: RequiredColumns, separator: str) -> Iterator[dict[str, list[Any]]]:
    """Yield the cells of the required columns, in chunks of rows, with the readers of training data.

    Args:
        source: a file, a glob or a folder.
        required: the columns.
        separator: of the names in a column of labels.

    Raises:
        UserError: a file is invalid; possibly after valid chunks.
    """
    for path in local_files.expand(source, "INPUT"):
        tables = read_file(path, local_files.format_of(path, None, None), None, required, separator)
        for table in _concatenated(tables):
            yield {name: table[name].to_pylist() for name in required}


def _concatenated(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """Join tables into chunks."""
    chunk: list[pa.Table] = []
    for table in tables:
        chunk.append(table)
        if sum(map(len, chunk)) >= _CHUNK_ROWS or sum(part.nbytes for part in chunk) >= _CHUNK_BYTES:
            yield pa.concat_tables(chunk)
            chunk = []
    if chunk:
        yield pa.concat_tables(chunk)
