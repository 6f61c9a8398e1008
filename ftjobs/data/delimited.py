"""Reading csv and tsv: cells as the strings they are, and errors that say the line."""

from __future__ import annotations

import csv
import sys
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ftjobs.data.columns import MAX_PROBLEMS, missing, shown
from ftjobs.errors import UserError


def read_csv(
    path: Path, lines: Iterator[str], delimiter: str, header: list[str] | None, needed: dict[str, str]
) -> tuple[dict[str, list[str]], array]:
    """Cells of the needed columns, and the line on which each row starts. Quoting as in RFC 4180."""
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
    cells_of: dict[str, list[str]] = {name: [] for name in needed}
    positions = [names.index(name) for name in needed]
    numbers = array("q")
    for number, cells in found:
        if len(cells) != len(names):
            problems.append(
                f"{path}, line {number}: {len(cells)} cell(s), but there are {len(names)} columns: "
                f"{shown(delimiter.join(cells))}; quote cells that hold the delimiter, a quote or a line end"
            )
        elif cells == header and not numbers:
            problems.append(f"{path}, line {number}: is a header row; remove data.columns, which is for files without")
        if len(problems) == MAX_PROBLEMS:
            break
        numbers.append(number)
        for column, position in zip(cells_of.values(), positions, strict=True):
            column.append(cells[position] if position < len(cells) else "")
    if problems:
        raise UserError(problems)
    if not numbers:
        raise UserError(f"{path}: {'is empty' if header else 'has a header row only'}; add rows of data")
    return cells_of, numbers


def records(path: Path, lines: Iterator[str], delimiter: str) -> Iterator[tuple[int, list[str]]]:
    """Line on which it starts, and cells, of each record that is not a blank line.

    Raises UserError where quotes do not match.
    """
    csv.field_size_limit(sys.maxsize)  # the default of 128 KiB is shorter than some documents
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
