"""Read csv, tsv and JSON Lines files; every problem has a line number."""

from __future__ import annotations

import csv
import json
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ftjobs.data.readers.columns import (
    MAX_PROBLEMS,
    LocatedTables,
    RequiredColumn,
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


SeenTypes = dict[str, tuple[int, object]]
"""JSON types in a column, each with the line and value of its first occurrence."""
_NAME_TYPES = {"a string", "a whole number"}
"""Types of the items of a list of names."""


def read_jsonl(path: Path, lines: Iterator[str], required: RequiredColumns) -> LocatedTables:
    """Yield the values of the required keys of each line's object. Blank lines are skipped.

    Raises:
        UserError: with every problem of the file, possibly after valid tables.
    """
    types: dict[str, SeenTypes] = {name: {} for name in required}
    present: dict[str, None] = {}
    problems: list[str] = []
    builder, rows = TableBuilder(required), 0
    for number, line in enumerate(lines, 1):
        if len(problems) >= MAX_PROBLEMS:
            break
        if not line.strip():
            continue
        record, problem = _parse(line)
        if record is None:
            is_array = not rows and not problems and line.lstrip().startswith("[")
            hint = " (`jq --compact-output '.[]'` converts an array)" if is_array else ""
            problems.append(f"{path}, line {number}: {problem}: {format_value(line)}; write one object per line{hint}")
            if is_array:
                break  # instead of one problem per line of the array
            continue
        present.update(dict.fromkeys(record))
        values = [record.get(name) for name in required]
        for seen, value in zip(types.values(), values, strict=True):
            seen.setdefault(_type_name(value), (number, value))
        values = [column.cell.uniform_json(value) for value, column in zip(values, required.values(), strict=True)]
        rows += 1
        if builder.add(number, values, len(line)):
            if not problems and not _type_problems(path, required, types):  # else the table cannot be built
                yield builder.build()
            builder = TableBuilder(required)
    if not problems and not rows:
        problems.append(f"{path}: is empty; write one JSON object per line")
    problems = problems or missing_columns(str(path), list(present), required) or _type_problems(path, required, types)
    if problems:
        raise UserError(problems)
    if len(builder):
        yield builder.build()


def _parse(line: str) -> tuple[dict[str, object] | None, str]:
    """Parse a line; returns the object, or None and the problem."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError) as error:
        return None, f"is not JSON ({error})"
    return (record, "") if isinstance(record, dict) else (None, "is not a JSON object")


def _type_name(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "a whole number" if -(2**63) <= value < 2**63 else "a number of more than 64 bits"
    if isinstance(value, float):
        return "a floating-point number"
    if isinstance(value, str):
        # JSON can encode a lone surrogate ("\ud800"), which is not a character and cannot be encoded as UTF-8.
        try:
            value.encode()
        except UnicodeEncodeError:
            return "half a surrogate pair"
        return "a string"
    if not isinstance(value, list):
        return "an object"
    return "a list" if {_type_name(item) for item in value} <= _NAME_TYPES else "a list of other things than names"


def _type_problems(path: Path, required: RequiredColumns, types: dict[str, SeenTypes]) -> list[str]:
    """Return the problems of columns with types that are not accepted, or with several types."""
    return [
        problem
        for name, column in required.items()
        for problem in _column_type_problems(path, name, column, types[name])
    ]


def _column_type_problems(path: Path, name: str, column: RequiredColumn, seen: SeenTypes) -> list[str]:
    accepted = column.cell.json_types
    problems = [
        f"{path}, line {number}: column {name!r} is {format_value(value)}, {json_type}; {column.field} requires "
        f"{' or '.join(accepted)}"
        for json_type, (number, value) in seen.items()
        if json_type not in (*accepted, "missing")
    ]
    used = {column.cell.json_type_name(name): first for name, first in seen.items() if name != "missing"}
    if not problems and len(used) > 1:
        examples = " and ".join(
            f"{json_type} ({format_value(value)} in line {line})" for json_type, (line, value) in used.items()
        )
        problems.append(f"{path}: column {name!r} mixes {examples}; use one type for all values of {column.field}")
    return problems
