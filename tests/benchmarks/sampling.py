"""A sample of a prepared data set with the same distribution of lengths."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ftjobs.data import prepared
from ftjobs.data.prepared import PreparedData, Rows


@dataclass(frozen=True)
class Size:
    """Numbers of rows of a prepared data set."""

    train: int
    test: int


def sample(source: Path, folder: Path, rows: int) -> tuple[Size, Size]:
    """Write a copy of the output of `prepare` with `rows` training rows and the same share of test rows, at least 64.

    Rows are selected at evenly spaced ranks of length, so that the quantiles of length are those of the source, and keep
    their order. All epochs run over the sample, so that work done once per stage has its real weight.

    Returns:
        The size of the source and of the sample.
    """
    data = prepared.read(source / "data")
    full = Size(len(data.splits["train"]), len(data.splits["test"]))
    rows = min(rows, full.train)
    size = Size(rows, max(round(full.test * rows / full.train), min(full.test, 64)))
    splits = {"train": _evenly(data.splits["train"], size.train), "test": _evenly(data.splits["test"], size.test)}
    prepared.write(PreparedData(splits, data.classes), prepared.read_summary(source / "data"), folder / "data")
    os.symlink(source / "model", folder / "model")
    return full, size


def _evenly(rows: Rows, count: int) -> Rows:
    assert rows.pairs is not None
    assert rows.labels is not None
    ranks = np.argsort([len(a) + len(b) for a, b in zip(rows.texts, rows.pairs, strict=True)], kind="stable")
    kept = np.sort(ranks[((np.arange(count) + 0.5) * len(ranks) / count).astype(int)])
    texts, pairs = list(rows.texts), list(rows.pairs)
    return Rows(rows.ids[kept], [texts[i] for i in kept], [pairs[i] for i in kept], np.asarray(rows.labels)[kept])
