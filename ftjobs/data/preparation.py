"""Prepare a labeled data set: read, check, split, write and summarize it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ftjobs.data import prepared, splits
from ftjobs.data.overlap import measure_overlap, text_keys
from ftjobs.data.prepared import DataSummary, PreparedData
from ftjobs.data.readers import sources
from ftjobs.data.readers.columns import column_values, iter_tables
from ftjobs.jobfile.fields import Data
from ftjobs.system.progress import LOG
from ftjobs.tasks import DEFAULT_LABEL_TYPE, get_task

_ID = "__row__"


def prepare_data(settings: Data, folder: Path) -> tuple[PreparedData, DataSummary]:
    """Write the rows of `settings` to `folder`, one parquet file per split.

    Returns:
        The rows, to be read from `folder`, and their summary.

    Raises:
        UserError: the data is invalid; contains every problem.
        FtjobsError: the hub is unreachable.
    """
    source = sources.read(settings)
    start = 0
    numbered: dict[str, Dataset] = {}
    for name in (name for name in prepared.SPLITS if name in source.splits):
        rows = source.splits[name]
        numbered[name] = rows.add_column(_ID, np.arange(start, start + len(rows)))
        start += len(rows)
    divided = splits.divide(numbered, settings.split, settings.text_columns)
    classes = _label_names(settings, divided)
    folder.mkdir(parents=True)
    for name, rows in divided.items():
        prepared.write_rows(_prepared_tables(rows, settings, classes), folder, name)
    data = prepared.read_splits(folder, classes, settings.label_type)
    keys = {name: text_keys(rows.columns) for name, rows in data.splits.items()}
    summary = DataSummary(
        rows={name: len(rows) for name, rows in data.splits.items()},
        labels={
            name: data.task.summarize(rows.labels, classes)
            for name, rows in data.splits.items()
            if rows.labels is not None
        },
        overlap={name: measure_overlap(keys["train"], keys[name]) for name in keys if name != "train"},
        text_columns=settings.text_columns,
        split=settings.split.model_dump(),
        provenance=source.provenance,
    )
    if settings.label_type != DEFAULT_LABEL_TYPE:
        summary["label_type"] = settings.label_type
    return data, summary


def log_summary(summary: DataSummary) -> None:
    """Log rows and labels per split, and the overlap of the test split with training."""
    task = get_task(summary.get("label_type", DEFAULT_LABEL_TYPE))
    for name, rows in summary["rows"].items():
        LOG.info("%s: %d rows, %s", name, rows, task.describe_summary(summary["labels"].get(name, {})))
    overlap = summary["overlap"]["test"]
    if overlap["rows_in_training"]:
        LOG.info(
            "%d of %d test rows share a text with the training split; `group_by: connected` prevents that",
            overlap["rows_in_training"], overlap["rows"],
        )  # fmt: skip


def _label_names(settings: Data, splits: dict[str, Dataset]) -> list[str]:
    """Return the names of a classifier's outputs, from all splits, training first; none for data without labels.

    Raises:
        UserError: the training split has nothing to learn.
    """
    if isinstance(settings.label, list):
        return list(settings.label)
    if settings.label is None:
        return []
    columns = (column_values(rows, settings.label) for rows in splits.values())
    return get_task(settings.label_type).label_names(columns, settings.label)


def _prepared_tables(rows: Dataset, settings: Data, classes: list[str]) -> Iterator[pa.Table]:
    """Yield the rows with the columns of the published files, in batches."""
    for table in iter_tables(rows):
        columns = {"id": table[_ID]}
        columns |= {
            name: table[column] for name, column in zip(prepared.TEXT_COLUMNS, settings.text_columns, strict=False)
        }
        if settings.label is not None:
            cells = [table[name].to_pylist() for name in settings.label_columns]
            columns["label"] = prepared.label_array(get_task(settings.label_type).encode(cells, classes))
        yield pa.table(columns)
