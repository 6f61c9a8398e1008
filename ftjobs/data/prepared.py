"""The data that `prepare` publishes and every later stage reads: one parquet file per split, and the class names."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Rows:
    """The rows of one split."""

    ids: np.ndarray
    """int64 (N,): position of the row in the source, counted over all its splits."""
    texts: list[str]
    pairs: list[str] | None
    """The second text of each row, where the job has two text columns."""
    labels: np.ndarray | None
    """int64 (N,): index into the class names, where the job has labels."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def sentences(self) -> list[str]:
        """Every text on its own: those of the first column, then those of the second."""
        return self.texts + (self.pairs or [])


@dataclass(frozen=True)
class PreparedData:
    """The job's data, split and checked."""

    splits: dict[str, Rows]
    classes: list[str]
    """Names of the classes in the order of their indices; empty for jobs without labels."""

    @property
    def selection_split(self) -> str:
        """The split that the best epoch is chosen on: validation where there is one, else test."""
        return "validation" if "validation" in self.splits else "test"


def write(data: PreparedData, summary: dict[str, Any], folder: Path) -> None:
    """Write the splits and `data.json` (class names, and what was found out about the data)."""
    folder.mkdir(parents=True)
    for name, rows in data.splits.items():
        columns: dict[str, Any] = {"id": pa.array(rows.ids), "text": pa.array(rows.texts, pa.string())}
        if rows.pairs is not None:
            columns["text_pair"] = pa.array(rows.pairs, pa.string())
        if rows.labels is not None:
            columns["label"] = pa.array(rows.labels)
        pq.write_table(pa.table(columns), folder / f"{name}.parquet")
    content = {"classes": data.classes, **summary}
    (folder / "data.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> PreparedData:
    """Read what `write` wrote."""
    splits = {}
    for name in SPLITS:
        if (folder / f"{name}.parquet").is_file():
            table = pq.read_table(folder / f"{name}.parquet")
            columns = table.column_names
            splits[name] = Rows(
                ids=table["id"].to_numpy(),
                texts=table["text"].to_pylist(),
                pairs=table["text_pair"].to_pylist() if "text_pair" in columns else None,
                labels=table["label"].to_numpy() if "label" in columns else None,
            )
    return PreparedData(splits, read_summary(folder)["classes"])


def read_summary(folder: Path) -> dict[str, Any]:
    """What `prepare` found out about the data: `data.json`."""
    summary: dict[str, Any] = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    return summary
