"""Reading jsonl, one object a line: values of one type a column, and errors that say the line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from ftjobs.data.readers.columns import MAX_PROBLEMS, Asked, Chunk, Needed, Tables, missing, shown
from ftjobs.errors import UserError

Kinds = dict[str, tuple[int, object]]
"""Kinds of values a column has, each with the line and the value that showed it first."""


def read_jsonl(path: Path, lines: Iterator[str], needed: Needed) -> Tables:
    """Values of the needed keys of each line's object. Blank lines are skipped."""
    kinds: dict[str, Kinds] = {name: {} for name in needed}
    present: dict[str, None] = {}
    problems: list[str] = []
    chunk, rows = Chunk(needed), 0
    for number, line in enumerate(lines, 1):
        if len(problems) >= MAX_PROBLEMS:
            break
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            wrong = None if isinstance(record, dict) else "is not a JSON object"
        except (ValueError, RecursionError) as error:
            wrong = f"is not JSON ({error})"
        if wrong:
            is_array = not rows and not problems and line.lstrip().startswith("[")
            how = " (as `jq --compact-output '.[]'` does with an array)" if is_array else ""
            problems.append(f"{path}, line {number}: {wrong}: {shown(line)}; write one object a line{how}")
            if is_array:
                break  # and not every line of it
            continue
        present.update(dict.fromkeys(record))
        values = [record.get(name) for name in needed]
        for kind, value in zip(kinds.values(), values, strict=True):
            kind.setdefault(_kind(value), (number, value))
        values = [asked.cell.uniform_json(value) for value, asked in zip(values, needed.values(), strict=True)]
        rows += 1
        if chunk.add(number, values, len(line)):
            if not problems and not _wrong_kinds(path, needed, kinds):  # else no table can be made of them
                yield chunk.table()
            chunk = Chunk(needed)
    if not problems and not rows:
        problems.append(f"{path}: is empty; write one JSON object a line")
    problems = problems or missing(str(path), list(present), needed) or _wrong_kinds(path, needed, kinds)
    if problems:
        raise UserError(problems)
    if len(chunk):
        yield chunk.table()


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
    if not isinstance(value, list):
        return "an object"
    return "a list" if {_kind(item) for item in value} <= _IN_LISTS else "a list of other things than names"


#: What a list of names may hold.
_IN_LISTS = {"a string", "a whole number"}


def _wrong_kinds(path: Path, needed: Needed, kinds: dict[str, Kinds]) -> list[str]:
    return [text for name, asked in needed.items() for text in _wrong_kinds_of(path, name, asked, kinds[name])]


def _wrong_kinds_of(path: Path, name: str, asked: Asked, kinds: Kinds) -> list[str]:
    allowed = asked.cell.json_types
    problems = [
        f"{path}, line {number}: column {name!r} is {shown(value)}, {kind}; {asked.by} takes {' or '.join(allowed)}"
        for kind, (number, value) in kinds.items()
        if kind not in (*allowed, "missing")
    ]
    used = {kind: first for kind, first in kinds.items() if kind != "missing"}
    used = {asked.cell.json_type_name(kind): first for kind, first in used.items()}
    if not problems and len(used) > 1:
        examples = " and ".join(f"{kind} ({shown(value)} in line {line})" for kind, (line, value) in used.items())
        problems.append(f"{path}: column {name!r} mixes {examples}; write all values of {asked.by} alike")
    return problems
