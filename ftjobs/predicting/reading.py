"""Reading files of texts a chunk at a time, as strictly as `prepare` reads them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from ftjobs.data import labelcolumns
from ftjobs.data.columns import missing, shown
from ftjobs.data.delimited import records
from ftjobs.data.files import lines_of
from ftjobs.errors import UserError
from ftjobs.jobfile import localfiles

_CHUNK = 4_096


class Row(NamedTuple):
    """One row of a file: where it stands, for errors, and the values of the columns asked for, in their order."""

    place: str
    values: list[Any]


@dataclass(frozen=True)
class Labels:
    """Which columns hold the labels, and what they hold."""

    columns: list[str]
    field: str = "data.label"
    """As `columns.label_field` has it."""
    separator: str = ","


def chunks(
    source: str, texts: dict[str, str], labels: Labels | None
) -> Iterator[tuple[list[list[str]], list[list[Any]]]]:
    """Rows of a file, a glob or a folder: per chunk a list of values for each text column, and for each label column.

    Args:
        source: as a job's `data.source`: csv, tsv, jsonl, parquet or text, also gzipped.
        texts: the text columns, each with what says that it is one.
        labels: the label's columns; None if labels are not asked for.

    Raises:
        UserError: a file is not what it should be; says the line or row.
    """
    needed = {**texts, **dict.fromkeys(labels.columns if labels else [], "--label")}
    rows = (row for path in localfiles.expand(source, "INPUT") for row in _rows(path, needed))
    while chunk := list(islice(rows, _CHUNK)):
        for row in chunk:
            _check(row, list(texts), labels)
        columns = [list(column) for column in zip(*(row.values for row in chunk), strict=True)]
        yield columns[: len(texts)], columns[len(texts) :]


def _check(row: Row, texts: list[str], labels: Labels | None) -> None:
    for name, value in zip(texts, row.values, strict=False):
        if not isinstance(value, str) or not value.strip():
            what = "empty or missing" if value is None or isinstance(value, str) else f"{shown(value)}, no string"
            raise UserError(f"{row.place}: column {name!r} is {what}; write a text there, or remove the row")
    if labels is None:
        return
    for position, given in enumerate(row.values[len(texts) :], len(texts)):
        if labels.field in labelcolumns.ACCEPTED:
            row.values[position] = labelcolumns.value(given, labels.field, labels.separator)
            if row.values[position] is None:
                raise UserError(f"{row.place}: the label {labelcolumns.unfit(given, labels.field)}; correct it")
        elif not isinstance(given, str | int) or given == "":
            raise UserError(f"{row.place}: the label is {shown(given)}; give a string or a whole number")


def _rows(path: Path, needed: dict[str, str]) -> Iterator[Row]:
    kind = localfiles.format_of(path, None)
    if kind == "parquet":
        return _parquet(path, needed)
    if kind == "jsonl":
        return _jsonl(path, needed)
    if kind == "text":
        return _text(path, needed)
    return _delimited(path, needed, "\t" if kind == "tsv" else ",")


def _delimited(path: Path, needed: dict[str, str], delimiter: str) -> Iterator[Row]:
    with lines_of(path) as lines:
        found = records(path, lines, delimiter)
        _, header = next(found, (0, []))
        positions = _positions(path, header, needed)
        for number, cells in found:
            place = f"{path}, line {number}"
            if len(cells) != len(header):
                raise UserError(f"{place}: {len(cells)} cell(s), but there are {len(header)} columns; quote the cells")
            yield Row(place, [cells[position] for position in positions])


def _positions(path: Path, header: list[str], needed: dict[str, str]) -> list[int]:
    problems = missing(str(path), header, needed)
    if problems:
        raise UserError(problems)
    return [header.index(name) for name in needed]


def _jsonl(path: Path, needed: dict[str, str]) -> Iterator[Row]:
    with lines_of(path) as lines:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            place = f"{path}, line {number}"
            try:
                record = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise UserError(f"{place}: is not JSON ({error}); write one object a line") from None
            if not isinstance(record, dict):
                raise UserError(f"{place}: is not a JSON object: {shown(line)}; write one object a line")
            problems = missing(place, list(record), needed)
            if problems:
                raise UserError(problems)
            yield Row(place, [record[name] for name in needed])


def _text(path: Path, needed: dict[str, str]) -> Iterator[Row]:
    if len(needed) > 1:
        raise UserError(
            f"{path}: a text file is one column, one text a line, and the columns {', '.join(needed)} are needed; use "
            "csv, jsonl or parquet"
        )
    with lines_of(path) as lines:
        for number, line in enumerate(lines, 1):
            if line.strip():
                yield Row(f"{path}, line {number}", [line.rstrip("\r\n")])


def _parquet(path: Path, needed: dict[str, str]) -> Iterator[Row]:
    try:
        with pq.ParquetFile(path, pre_buffer=False, buffer_size=2**20) as file:  # else it is all read at once
            problems = missing(str(path), file.schema_arrow.names, needed)
            if problems:
                raise UserError(problems)
            row = 0
            for batch in file.iter_batches(_CHUNK, columns=list(needed)):
                for values in zip(*(batch.column(name).to_pylist() for name in needed), strict=True):
                    row += 1
                    yield Row(f"{path}, row {row}", list(values))
    except (pa.ArrowException, OSError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"{path}: is not a parquet file, or damaged ({reason}); write it again") from error
