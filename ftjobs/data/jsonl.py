"""Reading jsonl, one object a line: values of one type a column, and errors that say the line."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path

from ftjobs.data.columns import MAX_PROBLEMS, TEXT, missing, shown
from ftjobs.errors import UserError

Kinds = dict[str, tuple[int, object]]
"""Kinds of values a column has, each with the line and the value that showed it first."""


def read_jsonl(path: Path, lines: Iterator[str], needed: dict[str, str]) -> tuple[dict[str, list], array]:
    """Values of the needed keys of each line's object, and the line's number. Blank lines are skipped."""
    values: dict[str, list] = {name: [] for name in needed}
    kinds: dict[str, Kinds] = {name: {} for name in needed}
    present: dict[str, None] = {}
    numbers = array("q")
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if len(problems) >= MAX_PROBLEMS:
            break
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            problems.append(f"{path}, line {number}: is not JSON ({error}): {shown(line)}; write one object a line")
            continue
        if not isinstance(record, dict):
            problems.append(f"{path}, line {number}: is not a JSON object: {shown(line)}; write one object a line")
            continue
        present.update(dict.fromkeys(record))
        numbers.append(number)
        for name, column in values.items():
            column.append(record.get(name))
            kinds[name].setdefault(_kind(column[-1]), (number, column[-1]))
    if not problems and not numbers:
        problems.append(f"{path}: is empty; write one JSON object a line")
    problems = problems or missing(str(path), list(present), needed)
    problems = problems or [text for name in needed for text in _wrong_kinds(path, name, needed[name], kinds[name])]
    if problems:
        raise UserError(problems)
    return values, numbers


def _kind(value: object) -> str:
    if value is None:
        return "missing"
    if isinstance(value, bool):
        return "a boolean"
    if isinstance(value, int):
        return "a whole number" if -(2**63) <= value < 2**63 else "a number of more than 64 bits"
    if isinstance(value, float):
        return "a floating-point number"
    if isinstance(value, str):
        # JSON may spell half of a surrogate pair ("\ud800"), which is no character and has no UTF-8.
        try:
            value.encode()
        except UnicodeEncodeError:
            return "half a surrogate pair"
        return "a string"
    return "a list" if isinstance(value, list) else "an object"


def _wrong_kinds(path: Path, name: str, field: str, kinds: Kinds) -> list[str]:
    allowed = ("a string",) if field == TEXT else ("a string", "a whole number", "a boolean")
    problems = [
        f"{path}, line {number}: column {name!r} is {shown(value)}, {kind}; {field} takes {' or '.join(allowed)}"
        for kind, (number, value) in kinds.items()
        if kind not in (*allowed, "missing")
    ]
    used = {kind: first for kind, first in kinds.items() if kind != "missing"}
    if not problems and len(used) > 1:
        examples = " and ".join(f"{kind} ({shown(value)} in line {line})" for kind, (line, value) in used.items())
        problems.append(f"{path}: column {name!r} mixes {examples}; write all values of {field} alike")
    return problems
