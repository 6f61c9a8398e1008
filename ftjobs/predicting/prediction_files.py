"""Write predictions as csv, jsonl or parquet, in chunks; the file is renamed into place when it is complete."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ftjobs.errors import UserError
from ftjobs.tasks import Task

Write = Callable[[int, list[Any], np.ndarray], None]
"""Write a chunk: number of its first row, decoded predictions (N), probabilities (N, C)."""
FORMATS = (".csv", ".jsonl", ".parquet")


@contextmanager
def open_writer(path: Path, classes: list[str], task: Task, separator: str = ",") -> Iterator[Write]:
    """Open a new file with a row per input row: `row` (from 0), `prediction`, and a `probability_<class>` per class.

    Tasks without probabilities have no such columns. Label sets are lists, in csv joined by `separator`.

    Raises:
        UserError: the suffix is not in `FORMATS`, or the file exists.
    """
    if path.suffix.lower() not in FORMATS:
        raise UserError(f"--out {path}: unknown format; end the name in {', '.join(FORMATS)}")
    if os.path.lexists(path):
        raise UserError(f"--out {path}: the file exists; choose another name")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.unfinished"
    names = ["row", "prediction", *(f"probability_{name}" for name in classes if task.has_probabilities)]
    try:
        with ExitStack() as stack:
            match path.suffix.lower():
                case ".csv":
                    yield _csv(temporary, names, separator, stack)
                case ".jsonl":
                    yield _jsonl(temporary, names, stack)
                case _:
                    yield _parquet(temporary, names, task.decoded_type(), stack)
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)


def _csv(path: Path, names: list[str], separator: str, stack: ExitStack) -> Write:
    table = csv.writer(stack.enter_context(path.open("w", newline="", encoding="utf-8")))
    table.writerow(names)

    def write(start: int, predictions: list[Any], probabilities: np.ndarray) -> None:
        for row, (prediction, shares) in enumerate(zip(predictions, probabilities.tolist(), strict=True), start):
            table.writerow([row, separator.join(prediction) if isinstance(prediction, list) else prediction, *shares])

    return write


def _jsonl(path: Path, names: list[str], stack: ExitStack) -> Write:
    file = stack.enter_context(path.open("w", encoding="utf-8"))

    def write(start: int, predictions: list[Any], probabilities: np.ndarray) -> None:
        for row, (prediction, shares) in enumerate(zip(predictions, probabilities.tolist(), strict=True), start):
            record: dict[str, Any] = dict(zip(names, [row, prediction, *shares], strict=True))
            file.write(json.dumps(record, ensure_ascii=False) + "\n")

    return write


def _parquet(path: Path, names: list[str], prediction: pa.DataType, stack: ExitStack) -> Write:
    types = [pa.int64(), prediction, *[pa.float64()] * (len(names) - 2)]
    schema = pa.schema(list(zip(names, types, strict=True)))
    file = stack.enter_context(pq.ParquetWriter(path, schema))

    def write(start: int, predictions: list[Any], probabilities: np.ndarray) -> None:
        rows = pa.array(range(start, start + len(predictions)), pa.int64())
        columns = [rows, pa.array(predictions, prediction), *(pa.array(column) for column in probabilities.T)]
        file.write_table(pa.Table.from_arrays(columns, schema=schema))

    return write
