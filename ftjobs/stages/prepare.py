"""`prepare`: fetch the data and the encoder once, check and split the data, and publish both for every later stage."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset

from ftjobs.data import labels, prepared, sources
from ftjobs.data.prepared import PreparedData, Rows
from ftjobs.data.splits import overlap, split
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
    data, found = _read_data(settings.data)
    origin = _bring_encoder(settings.encoder, data, output / "model")
    lengths = _lengths(data, output / "model")
    summary = {**found, "tokens": lengths, "encoder": origin}
    prepared.write(data, summary, output / "data")
    for name, rows in data.splits.items():
        LOG.info("%s: %d rows, %s", name, len(rows), _balance_text(found["labels"].get(name, {})))
    leaked = found["overlap"]["test"]
    if leaked["rows_in_training"]:
        LOG.info(
            "%d of %d test rows have a text that also stands in training; `group_by: connected` keeps them apart",
            leaked["rows_in_training"], leaked["rows"],
        )  # fmt: skip
    return {"rows": found["rows"], "labels": found["labels"], "overlap": found["overlap"], "tokens": lengths}


def _read_data(settings: Data) -> tuple[PreparedData, dict[str, Any]]:
    source = sources.read(settings)
    start = 0
    numbered: dict[str, Dataset] = {}
    for name in (name for name in prepared.SPLITS if name in source.splits):
        rows = source.splits[name]
        numbered[name] = rows.add_column(_ID, np.arange(start, start + len(rows)))
        start += len(rows)
    splits = split(numbered, settings.split, settings.text_columns)
    classes = []
    if settings.label is not None:
        by_split = [rows[settings.label][:] for rows in splits.values()]  # training comes first
        classes = labels.class_names(*by_split)
    data = PreparedData({name: _rows(rows, settings, classes) for name, rows in splits.items()}, classes)
    held_out = [name for name in splits if name != "train"]
    return data, {
        "rows": {name: len(rows) for name, rows in data.splits.items()},
        "labels": {name: _balance(rows, classes) for name, rows in data.splits.items()} if classes else {},
        "overlap": {name: overlap(splits["train"], splits[name], settings.text_columns) for name in held_out},
        "text_columns": settings.text_columns,
        "split": settings.split.model_dump(),
        "provenance": source.provenance,
    }


def _rows(rows: Dataset, settings: Data, classes: list[str]) -> Rows:
    columns = settings.text_columns
    return Rows(
        ids=np.asarray(rows[_ID][:], dtype=np.int64),
        texts=rows[columns[0]][:],
        pairs=rows[columns[1]][:] if len(columns) == 2 else None,
        labels=labels.encode(rows[settings.label][:], classes) if settings.label is not None else None,
    )


def _balance(rows: Rows, classes: list[str]) -> dict[str, int]:
    counts = Counter(np.asarray(rows.labels).tolist())
    return {name: counts[index] for index, name in enumerate(classes)}


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
