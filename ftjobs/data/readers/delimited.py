"""Read csv and tsv files: every cell is a string, and every problem has a line number."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ftjobs.data.readers.columns import (
    MAX_PROBLEMS,
    LocatedTables,
    RequiredColumns,
    TableBuilder,
    format_value,
    missing_columns,
)
from ftjobs.errors import UserError

csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is too small for documents

#: Delimiters that are recognized in a header, and the suffixes of files with each.
_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_SUFFIXES = {",": ".csv", "\t": ".tsv"}


def read_csv(
    path: Path, lines: Iterator[str], delimiter: str, header: list[str] | None, required: RequiredColumns
) -> LocatedTables:
    """Yield the cells of the required columns.

    Args:
        path: the file, for error messages.
        lines: its lines with line ends. Quoting as in RFC 4180.
        delimiter: separator of cells.
        header: column names, if the file has no header row.
        required: columns to read.

    Raises:
        UserError: with up to 5 problems of the file, possibly after valid tables.
    """
    if header is None:
        lines = _check_delimiter(path, lines, delimiter, required)
    records = read_records(path, lines, delimiter)
    number, names = (0, header) if header else next(records, (0, []))
    if not names:
        raise UserError(f"{path}: is empty; add a header row and at least one row of data")
    place = "data.columns" if header else f"{path}, line {number}: the header"
    repeated = [name for name, count in Counter(names).items() if count > 1 and name]
    problems = [f"{place} contains {name!r} more than once; rename one" for name in repeated]
    problems += missing_columns(str(path), names, required)
    if problems:
        raise UserError(problems)
    positions = [names.index(name) for name in required]
    builder, rows = TableBuilder(required), 0
    for number, cells in records:
        if len(cells) != len(names):
            problems.append(
                f"{path}, line {number}: {len(cells)} cell(s) for {len(names)} columns: "
                f"{format_value(delimiter.join(cells))}; quote cells that contain the delimiter, a quote or a line end"
            )
        elif cells == header and not rows:
            problems.append(
                f"{path}, line {number}: is a header row; remove data.columns, which is for files without one"
            )
        if len(problems) == MAX_PROBLEMS:
            break
        rows += 1
        if problems:
            continue
        values = [cells[position] for position in positions]
        if builder.add(number, values, sum(map(len, values))):
            yield builder.build()
            builder = TableBuilder(required)
    if problems:
        raise UserError(problems)
    if not rows:
        raise UserError(f"{path}: {'is empty' if header else 'has only a header row'}; add rows of data")
    if len(builder):
        yield builder.build()


def _check_delimiter(path: Path, lines: Iterator[str], delimiter: str, required: RequiredColumns) -> Iterator[str]:
    """Return the lines unchanged; raise UserError if the header has the required columns with another delimiter."""
    first = next(lines, "")
    matching = [other for other in _DELIMITERS if required.keys() <= set(_split_line(first, other))]
    if matching and delimiter not in matching:
        actual = matching[0]
        remedy = (
            f"rename it to {_SUFFIXES[actual]}" if actual in _SUFFIXES else f"save it with {_DELIMITERS[delimiter]}"
        )
        raise UserError(
            f"{path}, line 1: columns are separated by {_DELIMITERS[actual]}, but a {_SUFFIXES[delimiter]} file "
            f"requires {_DELIMITERS[delimiter]}; {remedy}"
        )
    return chain([first] if first else [], lines)


def _split_line(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return []


def read_records(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the first line number and the cells of each record, without blank lines.

    Raises:
        UserError: unbalanced quotes.
    """
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise UserError(
                f"{path}, line {start}: unbalanced quotes in the row that starts here ({error}); enclose cells that "
                'contain quotes in quotes, and double the inner ones: "say ""ah"""'
            ) from error
        if cells:
            yield start, cells
