"""Prepared data: written in batches, read lazily."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ftjobs.data import prepared
from ftjobs.data.prepared import PreparedData, Rows

TEXTS = [f"text {row} " + "x" * row for row in range(100)]
PAIRS = [text.upper() for text in TEXTS]


def tables(rows: int) -> list[pa.Table]:
    table = pa.table({"id": np.arange(100), "text": TEXTS, "text_pair": PAIRS, "label": np.arange(100) % 3})
    return [table.slice(start, rows) for start in range(0, 100, rows)]


def test_rows_are_read_lazily(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepared, "_ROW_GROUP_BYTES", 2_000)
    monkeypatch.setattr(prepared, "_BATCH_ROWS", 6)
    prepared.write_rows(tables(3), tmp_path, "train")
    assert pq.read_metadata(tmp_path / "train.parquet").num_row_groups > 5
    rows = prepared.read_splits(tmp_path, ["a", "b", "c"]).splits["train"]
    assert rows.pairs is not None
    assert rows.labels is not None
    assert (list(rows.texts), list(rows.pairs)) == (TEXTS, PAIRS)
    assert list(rows.texts) == TEXTS  # a second time
    assert [rows.texts[row] for row in (0, 99, 50, 13, -1)] == [TEXTS[row] for row in (0, 99, 50, 13, -1)]
    with pytest.raises(IndexError):
        rows.texts[100]
    assert list(rows.all_texts) == TEXTS + PAIRS
    assert len(rows.all_texts) == 2 * len(rows.texts) == 200
    assert rows.ids.tolist() == list(range(100))
    assert rows.labels.tolist() == [row % 3 for row in range(100)]


def test_small_split_written_in_batches_equals_a_single_table(tmp_path: Path) -> None:
    prepared.write_rows(tables(7), tmp_path, "train")
    pq.write_table(pa.concat_tables(tables(100)), tmp_path / "whole.parquet")
    assert (tmp_path / "train.parquet").read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_read_returns_written_data(tmp_path: Path) -> None:
    rows = Rows(np.arange(2), ["a", "b"], None, None)
    prepared.write(PreparedData({"train": rows, "test": rows}, []), {"rows": {"train": 4}}, tmp_path / "data")
    data = prepared.read(tmp_path / "data")
    assert list(data.splits) == ["train", "test"]
    assert list(data.splits["test"].all_texts) == ["a", "b"]
    assert (data.splits["test"].pairs, data.splits["test"].labels, data.classes) == (None, None, [])
    assert json.loads((tmp_path / "data" / "data.json").read_text()) == {"classes": [], "rows": {"train": 4}}
