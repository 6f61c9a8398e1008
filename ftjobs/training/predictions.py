"""What a trained classifier predicts for the test rows: `predictions.parquet`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ftjobs.data.prepared import PreparedData
from ftjobs.tasks import metrics as measure


def write(data: PreparedData, outputs: np.ndarray, path: Path) -> None:
    """One row per test example: `id`, `label`, `prediction`, and unless they are numbers `probabilities` (float64, C).

    Labels and predictions are names of classes, numbers (float64), or lists of names.

    Args:
        data: what the model was trained on.
        outputs: of the model for the test rows: float32 (N, C)
        path: of the file.
    """
    rows = data.splits["test"]
    assert rows.labels is not None, "only data with labels trains a classifier"
    table: dict[str, Any] = {"id": pa.array(rows.ids)}
    if data.label_type == "float":
        table |= {"label": pa.array(rows.labels), "prediction": pa.array(outputs[:, 0].astype(np.float64))}
    elif data.label_type == "multi":
        table |= {"label": sets(rows.labels, data.classes), "prediction": sets(measure.chosen(outputs), data.classes)}
    else:
        names = np.array(data.classes)
        table |= {"label": pa.array(names[rows.labels]), "prediction": pa.array(names[outputs.argmax(axis=1)])}
    if data.label_type != "float":
        table["probabilities"] = pa.array(list(measure.probabilities(outputs, data.label_type)))
    pq.write_table(pa.table(table), path)


def sets(flags: np.ndarray, names: list[str]) -> pa.Array:
    """Flags (N, C) as lists of the names they stand for."""
    rows, columns = np.nonzero(flags)
    offsets = np.searchsorted(rows, np.arange(len(flags) + 1)).astype(np.int32)
    return pa.ListArray.from_arrays(pa.array(offsets), pa.array(np.array(names, dtype=object)[columns], pa.string()))
