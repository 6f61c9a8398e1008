"""`prepare`: read the data and the encoder once, check and split the data, and publish both for later stages."""

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

    Writes `data/` (a parquet file per split, and `data.json`: classes, counts, label balance, lengths in tokens,
    overlap of splits, provenance) and `model/` (the encoder with its tokenizer).

    Raises:
        UserError: the data or the encoder is not usable; the message lists all problems of the data.
        FtjobsError: the hub does not answer.
    """
    folder = output / "data"
    data, summary = preparation.prepare_data(settings.data, folder)
    origin = _write_encoder(settings.encoder, data, output / "model")
    lengths = _token_lengths(data, output / "model")
    prepared.write_summary(data.classes, {**summary, "tokens": lengths, "encoder": origin}, folder)
    preparation.log_summary(summary)
    return {**{name: summary[name] for name in ("rows", "labels", "overlap")}, "tokens": lengths}


def _write_encoder(settings: Encoder, data: PreparedData, folder: Path) -> dict[str, Any]:
    """Write the job's encoder to `folder` and return its origin."""
    if settings.scratch is not None:
        texts = data.splits["train"].all_texts
        tokenizer = scratch.tokenizer_from_texts(texts, settings.scratch)
        model = scratch.model_from_settings(settings.scratch, len(tokenizer))
        heads.save(model, tokenizer, folder, {})
        LOG.info("built an encoder from scratch: %d tokens, %d parameters", len(tokenizer), model.num_parameters())
        return {"scratch": settings.scratch.model_dump(), "vocabulary": len(tokenizer)}
    assert settings.model is not None, "job files have `model` or `scratch`"
    if local_files.is_local(settings.model):
        checkpoints.copy_checkpoint(Path(settings.model).expanduser(), folder)
        return {"folder": Path(settings.model).name, "sha256": local_files.digest(folder / checkpoints.WEIGHTS)}
    downloaded, commit = checkpoints.download(settings.model, settings.revision)
    checkpoints.copy_checkpoint(downloaded, folder)
    return {"model": settings.model, "revision": settings.revision, "commit": commit}


def _token_lengths(data: PreparedData, model: Path) -> dict[str, dict[str, float]]:
    """Return statistics of tokens per example, by split: with special tokens, not truncated."""
    tokenizer = checkpoints.load_tokenizer(model)
    statistics = {}
    for name, rows in data.splits.items():
        lengths = count_tokens(tokenizer, rows.texts, rows.pairs)
        median, p95 = np.percentile(lengths, [50, 95])
        statistics[name] = {
            "mean": round(float(lengths.mean()), 2),
            "median": float(median),
            "p95": float(p95),
            "max": int(lengths.max()),
            "total": int(lengths.sum()),
        }
    return statistics
