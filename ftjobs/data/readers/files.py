"""Reading one csv, tsv, jsonl, parquet or text file, strictly: what is in it, or an error that says the line."""

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
    Chunk,
    Needed,
    Tables,
    Values,
    conform,
    missing,
    row_after,
    rows_at_once,
)
from ftjobs.data.readers.delimited import read_csv
from ftjobs.data.readers.jsonl import read_jsonl
from ftjobs.errors import FtjobsError, UserError


def read_file(
    path: Path, kind: str, header: list[str] | None, needed: Needed, separator: str = ",", gaps: bool = False
) -> Iterator[pa.Table]:
    """The needed columns of one file, all rows, in order, a few at a time.

    Cells of csv and tsv are strings, whatever they look like; jsonl and parquet keep strings, whole numbers (int64) and
    booleans. Labels that are no classes are read as `labelcolumns` says.

    Args:
        path: the file.
        kind: csv, tsv, jsonl, parquet or text.
        header: column names of a csv or tsv file without a header row.
        needed: the columns.
        separator: of the names of labels in a cell.
        gaps: whether texts may be missing or blank.

    Raises:
        UserError: with up to 5 problems, the file is not what it should be; maybe after tables of rows that are right.
        FtjobsError: reading it fails.
    """
    values = Values(str(path), needed, separator, gaps)
    for table, place in _tables(path, kind, header, needed):
        taken = values.taken(table, place)
        if taken is not None:
            yield taken
    if problems := values.problems():
        raise UserError(problems)


def _tables(path: Path, kind: str, header: list[str] | None, needed: Needed) -> Tables:
    if kind == "parquet":
        with _failures_explained(path):
            yield from _read_parquet(path, needed)
        return
    with lines_of(path) as lines:
        if kind == "jsonl":
            yield from read_jsonl(path, lines, needed)
        elif kind == "text":
            yield from _read_text(path, lines, needed)
        else:
            yield from read_csv(path, lines, "\t" if kind == "tsv" else ",", header, needed)


@contextmanager
def lines_of(path: Path) -> Iterator[Iterator[str]]:
    """The lines of a text file with their ends, unpacked if its name ends in .gz.

    Raises UserError where it is not UTF-8 or not whole, FtjobsError when reading it fails.
    """
    with _failures_explained(path), _opened(path) as stream:
        yield _lines(path, stream)


@contextmanager
def _failures_explained(path: Path) -> Iterator[None]:
    try:
        yield
    except UnicodeDecodeError:
        raise UserError(_undecodable(path)) from None
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        remedy = "compress it again, or drop .gz from its name"
        raise UserError(f"{path}: is not a whole gzip file ({error}); {remedy}") from error
    except PermissionError as error:
        raise UserError(f"{path}: may not be read ({error.strerror}); give this user permission to read it") from error
    except OSError as error:
        raise FtjobsError(f"{path}: reading failed ({error}); try again") from error


def _opened(path: Path) -> IO[str]:
    # utf-8-sig drops a byte order mark; csv needs the line ends as they are, since a quoted cell may hold some.
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return opener(path, "rt", encoding="utf-8-sig", errors="strict", newline="")


def _lines(path: Path, stream: Iterable[str]) -> Iterator[str]:
    for number, line in enumerate(stream, 1):
        if "\0" in line:
            raise UserError(
                f"{path}, line {number}: has a NUL byte (\\0), so it is damaged or UTF-16; save the file as UTF-8"
            )
        yield line


def _undecodable(path: Path) -> list[str]:
    """One problem for each of the first lines that are not UTF-8."""
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
                    return [f"{path}, line 1: byte 0x{byte:02x} is not UTF-8: the file is gzip; end its name in .gz"]
                problems.append(f"{path}, line {number}: byte 0x{byte:02x} is not UTF-8; {remedy}")
                if len(problems) == MAX_PROBLEMS:
                    break
    return problems


def _read_text(path: Path, lines: Iterator[str], needed: Needed) -> Tables:
    """Lines that are not blank, without their line ends."""
    name, *others = needed
    if others:
        raise UserError(
            f"{path}: a text file is one column, one text a line, and is read as {name!r} ({needed[name].by}); "
            "it cannot hold "
            + " and ".join(f"{other!r} ({needed[other].by})" for other in others)
            + "; use csv, jsonl or parquet"
        )
    chunk, empty = Chunk(needed), True
    for number, line in enumerate(lines, 1):
        if line.strip():
            empty = False
            if chunk.add(number, [line.rstrip("\r\n")], len(line)):
                yield chunk.table()
                chunk = Chunk(needed)
    if empty:
        raise UserError(f"{path}: is empty; write one text a line")
    if len(chunk):
        yield chunk.table()


def _read_parquet(path: Path, needed: Needed) -> Tables:
    start = 0
    with path.open("rb") as file:
        try:
            for table in _parquet_tables(path, file, needed):
                yield table, row_after(start)
                start += len(table)
        except (pa.ArrowException, ValueError, OSError) as error:
            if isinstance(error, OSError) and error.errno is not None:
                raise  # the file system's own; pyarrow's, for bytes that make no sense, have no number
            reason = str(error).splitlines()[0]
            raise UserError(f"{path}: is not a parquet file, or damaged ({reason}); write it again") from error
    if not start:
        raise UserError(f"{path}: has no rows; add rows of data")


def _parquet_tables(path: Path, file: IO[bytes], needed: Needed) -> Iterator[pa.Table]:
    # Without these options a whole row group, which may be the whole file, is read before its first rows are there.
    parquet = pq.ParquetFile(file, pre_buffer=False, buffer_size=2**20)
    problems = missing(str(path), parquet.schema_arrow.names, needed)
    if problems:
        raise UserError(problems)
    groups = (parquet.metadata.row_group(group) for group in range(parquet.num_row_groups))
    size = max((group.total_byte_size // max(group.num_rows, 1) for group in groups), default=0)
    for batch in parquet.iter_batches(rows_at_once(size, 1), columns=list(needed)):
        table = pa.Table.from_batches([batch]).select(list(needed))
        yield conform(table, Features.from_arrow_schema(table.schema))
