"""Reading files of texts a chunk at a time, with the reader, and so the rules, of those that models are trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from ftjobs.data.readers.columns import RequiredColumns
from ftjobs.data.readers.files import read_file
from ftjobs.jobfile import local_files

#: Rows of a chunk, fewer if they are long: among many, there are more of like length to be put into a batch.
_ROWS, _BYTES = 4_096, 2**26


def chunks(source: str, needed: RequiredColumns, separator: str) -> Iterator[dict[str, list[Any]]]:
    """The rows of a file, a glob or a folder in their order: per chunk the values of each needed column.

    Args:
        source: as a job's `data.source`: csv, tsv, jsonl, parquet or text, also gzipped.
        needed: the columns.
        separator: of the names in a column of labels.

    Raises:
        UserError: a file is not what it should be; says the line or row. Maybe after chunks that are right.
    """
    for path in local_files.expand(source, "INPUT"):
        tables = read_file(path, local_files.format_of(path, None, None), None, needed, separator)
        for table in _gathered(tables):
            yield {name: table[name].to_pylist() for name in needed}


def _gathered(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in larger tables."""
    some: list[pa.Table] = []
    for table in tables:
        some.append(table)
        if sum(map(len, some)) >= _ROWS or sum(one.nbytes for one in some) >= _BYTES:
            yield pa.concat_tables(some)
            some = []
    if some:
        yield pa.concat_tables(some)
