"""Read JSON Lines files: one type per column, and every problem has a line number."""

from __future__ import annotations

import json
from collections.abc import Iterator
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
