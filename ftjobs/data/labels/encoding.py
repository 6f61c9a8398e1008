"""Labels of every type on their way into the prepared files: what they are called, their values, their summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ftjobs.data.labels import class_names
from ftjobs.data.prepared import Rows, label_array
from ftjobs.data.readers.columns import column_of
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Data


def names(settings: Data, splits: dict[str, Dataset]) -> list[str]:
    """What the outputs of a classifier are called: classes, labels, or the column of a number. Training comes first.

    Raises:
        UserError: there is nothing to learn from the training split.
    """
    if isinstance(settings.label, list):
        return list(settings.label)
    if settings.label is None:
        return []
    columns = (column_of(rows, settings.label) for rows in splits.values())
    if settings.label_type == "multi":
        return class_names.label_names(*columns)
    if settings.label_type == "class":
        return class_names.class_names(*columns)
    found = np.fromiter(next(columns), dtype=np.float64)
    if len(found) and np.ptp(found) == 0:
        raise UserError(
            f"data.label: column {settings.label!r} is {found[0]:g} in all {len(found)} training rows, so there is "
            "nothing to learn; check data.label and the data"
        )
    return [settings.label]


def encoded(table: pa.Table, settings: Data, classes: list[str]) -> pa.Array:
    """The label column of some rows."""
    if isinstance(settings.label, list):
        return label_array(np.stack([table[name].to_numpy() for name in settings.label], axis=1).astype(np.uint8))
    values = table[settings.label]
    if settings.label_type == "multi":
        return label_array(class_names.encode_sets(values.to_pylist(), classes))
    if settings.label_type == "float":
        return label_array(values.to_numpy())
    return label_array(class_names.encode(values.to_pylist(), classes))


def summary(rows: Rows, classes: list[str], label_type: str) -> dict[str, Any]:
    """How the labels of a split are distributed: rows by class, rows by label, or the numbers' range and moments."""
    found = np.asarray(rows.labels)
    if label_type == "multi":
        return dict(zip(classes, found.sum(axis=0, dtype=np.int64).tolist(), strict=True))
    if label_type == "class":
        return dict(zip(classes, np.bincount(found, minlength=len(classes)).tolist(), strict=True))
    low, middle, high = np.percentile(found, [0, 50, 100]).tolist()
    return {"mean": float(found.mean()), "sd": float(found.std()), "min": low, "median": middle, "max": high}


def in_words(found: dict[str, Any], label_type: str) -> str:
    """The same in a few words, for a log."""
    if label_type == "float" and found:
        return f"labels from {found['min']:g} to {found['max']:g}, mean {found['mean']:.4g}, s.d. {found['sd']:.4g}"
    return ", ".join(f"{count} x {name}" for name, count in found.items()) or "no labels"
