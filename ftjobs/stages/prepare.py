"""`prepare`: fetch the data and the encoder once, check and split the data, and publish both for every later stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ftjobs.data import preparation, prepared
from ftjobs.data.examples.tokenization import count_tokens
from ftjobs.data.prepared import PreparedData
from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import Encoder
from ftjobs.models import checkpoints, heads, scratch
from ftjobs.plan import Prepare
from ftjobs.system.progress import LOG


def run(settings: Prepare, seed: int, inputs: dict[str, Path], output: Path) -> dict[str, Any]:
    """Publish the job's data and encoder.

    Writes `data/` (a parquet file per split, and `data.json`: classes, counts, label balance, lengths in tokens, test
    texts that also stand in training, where the data came from) and `model/` (the encoder with its tokenizer).

    Raises:
        UserError: the data or the encoder cannot be used; every problem of the data at once.
        FtjobsError: the hub does not answer.
    """
    folder = output / "data"
    data, found = preparation.prepare_data(settings.data, folder)
    origin = _bring_encoder(settings.encoder, data, output / "model")
    lengths = _lengths(data, output / "model")
    prepared.write_summary(data.classes, {**found, "tokens": lengths, "encoder": origin}, folder)
    preparation.log_summary(found)
    return {"rows": found["rows"], "labels": found["labels"], "overlap": found["overlap"], "tokens": lengths}


def _bring_encoder(settings: Encoder, data: PreparedData, folder: Path) -> dict[str, Any]:
    """Put the job's encoder into `folder`; returns where it came from."""
    if settings.scratch is not None:
        sentences = data.splits["train"].all_texts
        tokenizer = scratch.tokenizer_from_texts(sentences, settings.scratch)
        model = scratch.model_from_settings(settings.scratch, len(tokenizer))
        heads.save(model, tokenizer, folder, {})
        LOG.info("encoder made from scratch: %d tokens, %d parameters", len(tokenizer), model.num_parameters())
        return {"scratch": settings.scratch.model_dump(), "vocabulary": len(tokenizer)}
    assert settings.model is not None, "the job file's checks let nothing else through"
    if local_files.is_local(settings.model):
        checkpoints.copy_checkpoint(Path(settings.model).expanduser(), folder)
        return {"folder": Path(settings.model).name, "sha256": local_files.digest(folder / checkpoints.WEIGHTS)}
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
