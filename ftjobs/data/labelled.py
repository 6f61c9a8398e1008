"""A labelled data set on its way from the source to the files that later stages read: checked, split, counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ftjobs.data import prepared
from ftjobs.data.overlap import overlap, text_keys
from ftjobs.data.prepared import PreparedData
from ftjobs.data.readers import sources
from ftjobs.data.readers.columns import column_of, in_batches
from ftjobs.data.splits import split
from ftjobs.jobfile.fields import Data
from ftjobs.system.progress import LOG
from ftjobs.tasks import DEFAULT_LABEL_TYPE, get_task

_ID = "__row__"


def bring(settings: Data, folder: Path) -> tuple[PreparedData, dict[str, Any]]:
    """Put the rows into `folder`; returns them, to be read from there, and what was found out about them.

    Raises:
        UserError: the data cannot be used; every problem of it at once.
        FtjobsError: the hub does not answer.
    """
    source = sources.read(settings)
    start = 0
    numbered: dict[str, Dataset] = {}
    for name in (name for name in prepared.SPLITS if name in source.splits):
        rows = source.splits[name]
        numbered[name] = rows.add_column(_ID, np.arange(start, start + len(rows)))
        start += len(rows)
    splits = split(numbered, settings.split, settings.text_columns)
    classes = _label_names(settings, splits)
    folder.mkdir(parents=True)
    for name, rows in splits.items():
        prepared.write_rows(_tables(rows, settings, classes), folder, name)
    data = prepared.read_splits(folder, classes, settings.label_type)
    keys = {name: text_keys(rows.columns) for name, rows in data.splits.items()}
    return data, {
        "rows": {name: len(rows) for name, rows in data.splits.items()},
        "labels": {
            name: data.task.summarize(rows.labels, classes)
            for name, rows in data.splits.items()
            if rows.labels is not None
        },
        "overlap": {name: overlap(keys["train"], keys[name]) for name in keys if name != "train"},
        "text_columns": settings.text_columns,
        "split": settings.split.model_dump(),
        "provenance": source.provenance,
        **({} if settings.label_type == DEFAULT_LABEL_TYPE else {"label_type": settings.label_type}),
    }


def tell(found: dict[str, Any]) -> None:
    """Log what was found out about the rows."""
    for name, rows in found["rows"].items():
        task = get_task(found.get("label_type", DEFAULT_LABEL_TYPE))
        words = task.describe_summary(found["labels"].get(name, {}))
        LOG.info("%s: %d rows, %s", name, rows, words)
    leaked = found["overlap"]["test"]
    if leaked["rows_in_training"]:
        LOG.info(
            "%d of %d test rows have a text that also stands in training; `group_by: connected` keeps them apart",
            leaked["rows_in_training"], leaked["rows"],
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
    columns = (column_of(rows, settings.label) for rows in splits.values())
    return get_task(settings.label_type).label_names(columns, settings.label)


def _tables(rows: Dataset, settings: Data, classes: list[str]) -> Iterator[pa.Table]:
    """The rows as they are published, a few at a time."""
    for table in in_batches(rows):
        columns = {"id": table[_ID]}
        columns |= {name: table[column] for name, column in zip(prepared.TEXTS, settings.text_columns, strict=False)}
        if settings.label is not None:
            cells = [table[name].to_pylist() for name in settings.label_columns]
            columns["label"] = prepared.label_array(get_task(settings.label_type).encode(cells, classes))
        yield pa.table(columns)
