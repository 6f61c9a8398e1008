"""`prepare`: fetch the data and the encoder once, check and split the data, and publish both for every later stage."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ftjobs.data import labels, prepared, sources
from ftjobs.data.columns import column_of, in_batches
from ftjobs.data.prepared import PreparedData, Rows
from ftjobs.data.splits import overlap, split, text_keys
from ftjobs.data.tokenization import count_tokens
from ftjobs.jobfile import localfiles
from ftjobs.jobfile.fields import Data, Encoder
from ftjobs.models import checkpoints, heads, scratch
from ftjobs.plan import Prepare
from ftjobs.progress import LOG

_ID = "__row__"


def run(settings: Prepare, seed: int, inputs: dict[str, Path], output: Path) -> dict[str, Any]:
    """Publish the job's data and encoder.

    Writes `data/` (a parquet file per split, and `data.json`: classes, counts, label balance, lengths in tokens, test
    texts that also stand in training, where the data came from) and `model/` (the encoder with its tokenizer).

    Raises:
        UserError: the data or the encoder cannot be used; every problem of the data at once.
        FtjobsError: the hub does not answer.
    """
    folder = output / "data"
    data, found = _bring_data(settings.data, folder)
    origin = _bring_encoder(settings.encoder, data, output / "model")
    lengths = _lengths(data, output / "model")
    prepared.write_summary(data.classes, {**found, "tokens": lengths, "encoder": origin}, folder)
    for name, rows in data.splits.items():
        LOG.info("%s: %d rows, %s", name, len(rows), _balance_text(found["labels"].get(name, {})))
    leaked = found["overlap"]["test"]
    if leaked["rows_in_training"]:
        LOG.info(
            "%d of %d test rows have a text that also stands in training; `group_by: connected` keeps them apart",
            leaked["rows_in_training"], leaked["rows"],
        )  # fmt: skip
    return {"rows": found["rows"], "labels": found["labels"], "overlap": found["overlap"], "tokens": lengths}


def _bring_data(settings: Data, folder: Path) -> tuple[PreparedData, dict[str, Any]]:
    """Put the job's rows into `folder`; returns them, to be read from there, and what was found out about them."""
    source = sources.read(settings)
    start = 0
    numbered: dict[str, Dataset] = {}
    for name in (name for name in prepared.SPLITS if name in source.splits):
        rows = source.splits[name]
        numbered[name] = rows.add_column(_ID, np.arange(start, start + len(rows)))
        start += len(rows)
    splits = split(numbered, settings.split, settings.text_columns)
    classes = []
    if settings.label is not None:  # training comes first
        classes = labels.class_names(*(column_of(rows, settings.label) for rows in splits.values()))
    folder.mkdir(parents=True)
    for name, rows in splits.items():
        prepared.write_rows(_tables(rows, settings, classes), folder, name)
    data = prepared.read_splits(folder, classes)
    keys = {name: text_keys(rows.columns) for name, rows in data.splits.items()}
    return data, {
        "rows": {name: len(rows) for name, rows in data.splits.items()},
        "labels": {name: _balance(rows, classes) for name, rows in data.splits.items()} if classes else {},
        "overlap": {name: overlap(keys["train"], keys[name]) for name in keys if name != "train"},
        "text_columns": settings.text_columns,
        "split": settings.split.model_dump(),
        "provenance": source.provenance,
    }


def _tables(rows: Dataset, settings: Data, classes: list[str]) -> Iterator[pa.Table]:
    """The rows as they are published, a few at a time."""
    for table in in_batches(rows):
        columns = {"id": table[_ID]}
        columns |= {name: table[column] for name, column in zip(prepared.TEXTS, settings.text_columns, strict=False)}
        if settings.label is not None:
            columns["label"] = pa.array(labels.encode(table[settings.label].to_pylist(), classes))
        yield pa.table(columns)


def _balance(rows: Rows, classes: list[str]) -> dict[str, int]:
    counts = np.bincount(np.asarray(rows.labels), minlength=len(classes))
    return dict(zip(classes, counts.tolist(), strict=True))


def _balance_text(balance: dict[str, int]) -> str:
    return ", ".join(f"{count} x {name}" for name, count in balance.items()) or "no labels"


def _bring_encoder(settings: Encoder, data: PreparedData, folder: Path) -> dict[str, Any]:
    """Put the job's encoder into `folder`; returns where it came from."""
    if settings.scratch is not None:
        sentences = data.splits["train"].sentences
        tokenizer = scratch.tokenizer_from_texts(sentences, settings.scratch)
        model = scratch.model_from_settings(settings.scratch, len(tokenizer))
        heads.save(model, tokenizer, folder, {})
        LOG.info("encoder made from scratch: %d tokens, %d parameters", len(tokenizer), model.num_parameters())
        return {"scratch": settings.scratch.model_dump(), "vocabulary": len(tokenizer)}
    assert settings.model is not None, "the job file's checks let nothing else through"
    if localfiles.is_local(settings.model):
        checkpoints.copy_checkpoint(Path(settings.model).expanduser(), folder)
        return {"folder": Path(settings.model).name, "sha256": localfiles.digest(folder / checkpoints.WEIGHTS)}
    downloaded, commit = checkpoints.download(settings.model, settings.revision)
    checkpoints.copy_checkpoint(downloaded, folder)
    return {"model": settings.model, "revision": settings.revision, "commit": commit}


def _lengths(data: PreparedData, model: Path) -> dict[str, dict[str, float]]:
    """Tokens per example of each split, special tokens included and nothing cut."""
    tokenizer = checkpoints.load_tokenizer(model)
    found = {}
    for name, rows in data.splits.items():
        lengths = count_tokens(tokenizer, rows.texts, rows.pairs)
        middle, high = np.percentile(lengths, [50, 95])
        found[name] = {
            "mean": round(float(lengths.mean()), 2),
            "median": float(middle),
            "p95": float(high),
            "max": int(lengths.max()),
            "total": int(lengths.sum()),
        }
    return found
