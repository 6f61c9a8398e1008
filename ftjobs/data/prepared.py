"""Prepared data as published by `prepare`: one parquet file per split, and `data.json` with class names and summary."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, NotRequired, Protocol, TypedDict

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ftjobs.data.overlap import Overlap
from ftjobs.tasks import DEFAULT_LABEL_TYPE, Task, get_task

SPLITS = ("train", "validation", "test")
TEXT_COLUMNS = ("text", "text_pair")
"""Names of the text columns in the files."""

#: Minimum bytes per row group; a smaller split has one.
_ROW_GROUP_BYTES = 2**23
#: Texts that are converted to Python strings at a time.
_BATCH_ROWS = 1_000


class Texts(Protocol):
    """A text column: a list, or a lazily read `TextColumn`."""

    def __len__(self) -> int: ...
    def __iter__(self) -> Iterator[str]: ...
    def __getitem__(self, index: int, /) -> str: ...


class TextColumn:
    """A lazily read text column of a parquet file, with at most one row group in memory."""

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        metadata = pq.read_metadata(path)
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __iter__(self) -> Iterator[str]:
        with self._open() as file:
            for group in range(file.num_row_groups):
                for batch in file.read_row_group(group, columns=[self._name]).to_batches(_BATCH_ROWS):
                    yield from batch.column(0).to_pylist()

    def __getitem__(self, index: int, /) -> str:
        row = range(len(self))[index]
        group = int(np.searchsorted(self._starts, row, side="right")) - 1
        with self._open() as file:
            column = file.read_row_group(group, columns=[self._name]).column(0)
        text: str = column[row - int(self._starts[group])].as_py()
        return text

    def _open(self) -> pq.ParquetFile:
        return pq.ParquetFile(self._path, pre_buffer=False)


@dataclass(frozen=True)
class Rows:
    """The rows of one split."""

    ids: np.ndarray
    """int64 (N,): position of the row in the source, counted across its splits."""
    texts: Texts
    pairs: Texts | None
    """The second text of each row, if the job has two text columns."""
    labels: np.ndarray | None
    """Encoded labels: int64 (N,), indices of class names; float64 (N,), numbers; or uint8 (N, C), 1 for each label of a
    row. None if the job has no labels."""

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def columns(self) -> list[Texts]:
        """The text columns, one or two."""
        return [self.texts] if self.pairs is None else [self.texts, self.pairs]

    @property
    def all_texts(self) -> ChainedTexts:
        """The texts of the first column, then those of the second."""
        return ChainedTexts(self.columns)


@dataclass(frozen=True)
class ChainedTexts:
    """The texts of several columns, one column after the other."""

    columns: list[Texts]

    def __len__(self) -> int:
        return sum(map(len, self.columns))

    def __iter__(self) -> Iterator[str]:
        return chain.from_iterable(self.columns)


@dataclass(frozen=True)
class PreparedData:
    """A validated data set, divided into splits."""

    splits: dict[str, Rows]
    classes: list[str]
    """Names of the classifier's outputs by index: classes, labels, or the label column; empty without labels."""
    label_type: str = DEFAULT_LABEL_TYPE

    @property
    def task(self) -> Task:
        """The task of the labels."""
        return get_task(self.label_type)

    @property
    def selection_split(self) -> str:
        """The split that selects the best epoch: validation if it exists, else test."""
        return "validation" if "validation" in self.splits else "test"


class DataSummary(TypedDict):
    """The content of `data.json`. Dictionaries by split unless stated otherwise."""

    classes: NotRequired[list[str]]
    """Names of the classifier's outputs by index."""
    rows: dict[str, int]
    labels: dict[str, dict[str, Any]]
    """Label distributions, as `Task.summarize` returns them."""
    overlap: dict[str, Overlap]
    """Texts shared with training, of every other split."""
    text_columns: list[str]
    split: dict[str, Any]
    """The `split` field of the job file."""
    provenance: dict[str, Any]
    """`sources.Source.provenance`."""
    label_type: NotRequired[str]
    """Set if it is not the default."""
    tokens: NotRequired[dict[str, Any]]
    """Text lengths in tokens of the job's encoder."""
    encoder: NotRequired[dict[str, Any]]
    """Provenance of the job's encoder."""


def write(data: PreparedData, summary: DataSummary, folder: Path) -> None:
    """Write the splits and `data.json`."""
    folder.mkdir(parents=True)
    for name, rows in data.splits.items():
        columns: dict[str, Any] = {"id": pa.array(rows.ids), "text": pa.array(list(rows.texts), pa.string())}
        if rows.pairs is not None:
            columns["text_pair"] = pa.array(list(rows.pairs), pa.string())
        if rows.labels is not None:
            columns["label"] = label_array(rows.labels)
        write_rows([pa.table(columns)], folder, name)
    write_summary(data.classes, summary, folder)


def label_array(labels: np.ndarray) -> pa.Array:
    """Convert encoded labels to a column: one value per row, or for (N, C) a list of length C."""
    if labels.ndim == 1:
        return pa.array(labels)
    return pa.FixedSizeListArray.from_arrays(pa.array(labels.reshape(-1)), labels.shape[1])


def _labels(column: pa.ChunkedArray) -> np.ndarray:
    if not pa.types.is_fixed_size_list(column.type):
        return _numbers(column.combine_chunks())
    flags = _numbers(column.combine_chunks().flatten())
    return flags.reshape(len(column), column.type.list_size)


def _numbers(values: pa.Array) -> np.ndarray:
    """Convert to NumPy without `to_numpy`, which imports pandas and takes 0.25 s at the start of every stage."""
    return np.from_dlpack(values)


def write_rows(tables: Iterable[pa.Table], folder: Path, name: str) -> None:
    """Write a split, one table at a time. Columns: `id`, `text`, and if the job has them `text_pair` and `label`."""
    with ExitStack() as stack:
        writer = None
        for group in _row_groups(tables):
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(folder / f"{name}.parquet", group.schema))
            writer.write_table(group)


def _row_groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Concatenate tables to row groups of at least `_ROW_GROUP_BYTES`, the unit that readers hold in memory."""
    pending: list[pa.Table] = []
    for table in tables:
        pending.append(table)
        if sum(part.nbytes for part in pending) >= _ROW_GROUP_BYTES:
            yield pa.concat_tables(pending).combine_chunks()
            pending = []
    if pending:
        yield pa.concat_tables(pending).combine_chunks()


def write_summary(classes: list[str], summary: DataSummary, folder: Path) -> None:
    """Write `data.json`."""
    content = {"classes": classes, **summary}
    (folder / "data.json").write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def read(folder: Path) -> PreparedData:
    """Read prepared data. Texts are read lazily."""
    summary = read_summary(folder)
    return read_splits(folder, summary.get("classes", []), summary.get("label_type", DEFAULT_LABEL_TYPE))


def read_splits(folder: Path, classes: list[str], label_type: str = DEFAULT_LABEL_TYPE) -> PreparedData:
    """Read the splits that exist in `folder`."""
    paths = {name: folder / f"{name}.parquet" for name in SPLITS}
    return PreparedData({name: _read_rows(path) for name, path in paths.items() if path.is_file()}, classes, label_type)


def _read_rows(path: Path) -> Rows:
    with pq.ParquetFile(path) as file:
        names = file.schema_arrow.names
        numbers = file.read(columns=[name for name in ("id", "label") if name in names])
    return Rows(
        ids=_numbers(numbers["id"].combine_chunks()),
        texts=TextColumn(path, "text"),
        pairs=TextColumn(path, "text_pair") if "text_pair" in names else None,
        labels=_labels(numbers["label"]) if "label" in names else None,
    )


def read_summary(folder: Path) -> DataSummary:
    """Read `data.json`."""
    summary: DataSummary = json.loads((folder / "data.json").read_text(encoding="utf-8"))
    return summary
