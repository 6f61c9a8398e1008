"""A labelled data set on its way from the source to the files that later stages read: checked, split, counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ftjobs.data import prepared
from ftjobs.data.labels import encoding
from ftjobs.data.overlap import overlap, text_keys
from ftjobs.data.prepared import PreparedData
from ftjobs.data.readers import sources
from ftjobs.data.readers.columns import in_batches
from ftjobs.data.splits import split
from ftjobs.jobfile.fields import Data
from ftjobs.system.progress import LOG

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
    classes = encoding.names(settings, splits)
    folder.mkdir(parents=True)
    for name, rows in splits.items():
        prepared.write_rows(_tables(rows, settings, classes), folder, name)
    data = prepared.read_splits(folder, classes, settings.label_type)
    keys = {name: text_keys(rows.columns) for name, rows in data.splits.items()}
    return data, {
        "rows": {name: len(rows) for name, rows in data.splits.items()},
        "labels": {
            name: encoding.summary(rows, classes, settings.label_type) for name, rows in data.splits.items() if classes
        },
        "overlap": {name: overlap(keys["train"], keys[name]) for name in keys if name != "train"},
        "text_columns": settings.text_columns,
        "split": settings.split.model_dump(),
        "provenance": source.provenance,
        **({} if settings.label_type == "class" else {"label_type": settings.label_type}),
    }


def tell(found: dict[str, Any]) -> None:
    """Log what was found out about the rows."""
    for name, rows in found["rows"].items():
        words = encoding.in_words(found["labels"].get(name, {}), found.get("label_type", "class"))
        LOG.info("%s: %d rows, %s", name, rows, words)
    leaked = found["overlap"]["test"]
    if leaked["rows_in_training"]:
        LOG.info(
            "%d of %d test rows have a text that also stands in training; `group_by: connected` keeps them apart",
            leaked["rows_in_training"], leaked["rows"],
        )  # fmt: skip


def _tables(rows: Dataset, settings: Data, classes: list[str]) -> Iterator[pa.Table]:
    """The rows as they are published, a few at a time."""
    for table in in_batches(rows):
        columns = {"id": table[_ID]}
        columns |= {name: table[column] for name, column in zip(prepared.TEXTS, settings.text_columns, strict=False)}
        if settings.label is not None:
            columns["label"] = encoding.encoded(table, settings, classes)
        yield pa.table(columns)
