"""Read one csv, tsv, jsonl, parquet or text file in batches, with strict validation."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq
from datasets import Features

from ftjobs.data.readers.columns import (
    MAX_PROBLEMS,
    ColumnChecker,
    LocatedTables,
    RequiredColumns,
    TableBuilder,
    missing_columns,
    normalize_types,
    row_locator,
    rows_per_batch,
)
from ftjobs.data.readers.text_formats import read_csv, read_jsonl
from ftjobs.errors import FtjobsError, UserError


def read_file(
    path: Path,
    file_format: str,
    header: list[str] | None,
    required: RequiredColumns,
    separator: str = ",",
    allow_missing: bool = False,
) -> Iterator[pa.Table]:
    """Yield the required columns of all rows, in order and in batches.

    Cells of csv and tsv are always strings; jsonl and parquet keep strings, whole numbers (int64) and booleans. Other
    labels are parsed by their `CellType`.

    Args:
        path: the file.
        file_format: csv, tsv, jsonl, parquet or text.
        header: column names of a csv or tsv file without a header row.
        required: columns to read.
        separator: separates label names within a cell.
        allow_missing: accept missing and blank texts.

    Raises:
        UserError: the file is invalid; with up to 5 problems, possibly after valid tables.
        FtjobsError: reading failed.
    """
    checker = ColumnChecker(str(path), required, separator, allow_missing)
    for table, locate in _read_tables(path, file_format, header, required):
        checked = checker.check(table, locate)
        if checked is not None:
            yield checked
    if problems := checker.problems():
        raise UserError(problems)


def _read_tables(path: Path, file_format: str, header: list[str] | None, required: RequiredColumns) -> LocatedTables:
    if file_format == "parquet":
        with _explain_errors(path):
            yield from _read_parquet(path, required)
        return
    with open_lines(path) as lines:
        if file_format == "jsonl":
            yield from read_jsonl(path, lines, required)
        elif file_format == "text":
            yield from _read_text(path, lines, required)
        else:
            yield from read_csv(path, lines, "\t" if file_format == "tsv" else ",", header, required)


@contextmanager
def open_lines(path: Path) -> Iterator[Iterator[str]]:
    """Open a text file, decompressed if its name ends in .gz, and iterate over its lines including line ends.

    Raises:
        UserError: the file is not UTF-8, or truncated.
        FtjobsError: reading failed.
    """
    with _explain_errors(path), _open_text(path) as stream:
        yield _check_lines(path, stream)


@contextmanager
def _explain_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError:
        raise UserError(_encoding_problems(path)) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        remedy = "compress it again, or remove .gz from its name"
        raise UserError(f"{path}: is not a complete gzip file ({error}); {remedy}") from error
    except PermissionError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); grant this user read permission") from error
    except OSError as error:
        raise FtjobsError(f"{path}: reading failed ({error}); try again") from error


def _open_text(path: Path) -> IO[str]:
    # utf-8-sig drops a byte order mark; newline="" keeps line ends, which quoted csv cells may contain.
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", errors="strict", newline="")


def _check_lines(path: Path, stream: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        if "\0" in line:
            raise UserError(
                f"{path}, line {number}: contains a NUL byte (\\0): the file is damaged or UTF-16; save it as UTF-8"
            )
        yield line


def _encoding_problems(path: Path) -> list[str]:
    """Return one problem for each of the first lines that are not UTF-8."""
    problems = []
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    with opener(path, "rb") as stream:
        for number, line in enumerate(stream, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                byte = line[error.start]
                remedy = "save the file as UTF-8 (iconv -f ENCODING -t UTF-8)"
                if number == 1 and line.startswith((b"\xff\xfe", b"\xfe\xff")):
                    return [f"{path}, line 1: byte 0x{byte:02x} is not UTF-8: the file is UTF-16; {remedy}"]
                if number == 1 and line.startswith(b"\x1f\x8b"):
                    return [f"{path}, line 1: byte 0x{byte:02x} is not UTF-8: the file is gzip; add .gz to its name"]
                problems.append(f"{path}, line {number}: byte 0x{byte:02x} is not UTF-8; {remedy}")
                if len(problems) == MAX_PROBLEMS:
                    break
    return problems


def _read_text(path: Path, lines: Iterator[str], required: RequiredColumns) -> LocatedTables:
    """Yield the lines that are not blank, without line ends."""
    name, *others = required
    if others:
        extra = " and ".join(f"{other!r} ({required[other].field})" for other in others)
        raise UserError(
            f"{path}: a text file has a single column, one text per line, which is read as {name!r} "
            f"({required[name].field}); it cannot contain {extra}; use csv, jsonl or parquet"
        )
    builder, is_empty = TableBuilder(required), True
    for number, line in enumerate(lines, 1):
        if line.strip():
            is_empty = False
            if builder.add(number, [line.rstrip("\r\n")], len(line)):
                yield builder.build()
                builder = TableBuilder(required)
    if is_empty:
        raise UserError(f"{path}: is empty; write one text per line")
    if len(builder):
        yield builder.build()


def _read_parquet(path: Path, required: RequiredColumns) -> LocatedTables:
    start = 0
    with path.open("rb") as file:
        try:
            for table in _parquet_tables(path, file, required):
                yield table, row_locator(start)
                start += len(table)
        except (pa.ArrowException, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # from the file system; pyarrow's errors about invalid content have no errno
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: is not a parquet file, or damaged ({reason}); write it again") from error
    if not start:
        raise UserError(f"{path}: has no rows; add rows of data")


def _parquet_tables(path: Path, file: IO[bytes], required: RequiredColumns) -> Iterator[pa.Table]:
    # Without these options, pyarrow reads a whole row group, possibly the whole file, before the first batch.
    parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
    problems = missing_columns(str(path), parquet.schema_arrow.names, required)
    if problems:
        raise UserError(problems)
    groups = (parquet.metadata.row_group(group) for group in range(parquet.num_row_groups))
    row_size = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    for batch in parquet.iter_batches(rows_per_batch(row_size, 1), columns=list(required)):
        table = pa.Table.from_batches([batch]).select(list(required))
        yield normalize_types(table, Features.from_arrow_schema(table.schema))
