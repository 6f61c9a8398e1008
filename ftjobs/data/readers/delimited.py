"""Reading csv and tsv: cells as the strings they are, and errors that say the line."""

from __future__ import annotations

import csv
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from ftjobs.data.readers.columns import MAX_PROBLEMS, Chunk, Needed, Tables, missing, shown
from ftjobs.errors import UserError

csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is shorter than some documents

#: What cells are kept apart by in files of either name, and by what else people do so.
_DELIMITERS = {",": "commas", "\t": "tabs", ";": "semicolons", "|": "vertical bars"}
_NAMED = {",": ".csv", "\t": ".tsv"}


def read_csv(path: Path, lines: Iterator[str], delimiter: str, header: list[str] | None, needed: Needed) -> Tables:
    """Cells of the needed columns. Quoting as in RFC 4180."""
    if header is None:
        lines = _delimited_so(path, lines, delimiter, needed)
    found = records(path, lines, delimiter)
    number, names = (0, header) if header else next(found, (0, []))
    if not names:
        raise UserError(f"{path}: is empty; it needs a header row and at least one row of data")
    place = "data.columns" if header else f"{path}, line {number}: the header"
    repeated = [name for name, count in Counter(names).items() if count > 1 and name]
    problems = [f"{place} has {name!r} more than once; rename one" for name in repeated]
    problems += missing(str(path), names, needed)
    if problems:
        raise UserError(problems)
    positions = [names.index(name) for name in needed]
    chunk, rows = Chunk(needed), 0
    for number, cells in found:
        if len(cells) != len(names):
            problems.append(
                f"{path}, line {number}: {len(cells)} cell(s), but there are {len(names)} columns: "
                f"{shown(delimiter.join(cells))}; quote cells that hold the delimiter, a quote or a line end"
            )
        elif cells == header and not rows:
            problems.append(f"{path}, line {number}: is a header row; remove data.columns, which is for files without")
        if len(problems) == MAX_PROBLEMS:
            break
        rows += 1
        if problems:
            continue
        values = [cells[position] for position in positions]
        if chunk.add(number, values, sum(map(len, values))):
            yield chunk.table()
            chunk = Chunk(needed)
    if problems:
        raise UserError(problems)
    if not rows:
        raise UserError(f"{path}: {'is empty' if header else 'has a header row only'}; add rows of data")
    if len(chunk):
        yield chunk.table()


def _delimited_so(path: Path, lines: Iterator[str], delimiter: str, needed: Needed) -> Iterator[str]:
    """The same lines. Raises UserError if the first is the header that is needed, but for another delimiter."""
    first = next(lines, "")
    fitting = [other for other in _DELIMITERS if needed.keys() <= set(_cells(first, other))]
    if fitting and delimiter not in fitting:
        other = fitting[0]
        remedy = f"name it {_NAMED[other]}" if other in _NAMED else f"save it with {_DELIMITERS[delimiter]}"
        raise UserError(
            f"{path}, line 1: columns are kept apart by {_DELIMITERS[other]}, and in a {_NAMED[delimiter]} file by "
            f"{_DELIMITERS[delimiter]}; {remedy}"
        )
    return chain([first] if first else [], lines)


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        return next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter), [])
    except csv.Error:
        return []


def records(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line on which it starts, and cells, of each record that is not a blank line.

    Raises UserError where quotes do not match.
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
                f"{path}, line {start}: the quotes of the row that starts here do not match ({error}); put cells with "
                'quotes in quotes and double the quotes inside: "say ""ah"""'
            ) from error
        if cells:
            yield start, cells
