"""The columns of a source that a job needs: finding them, checking their values, one type for each."""

from __future__ import annotations

import difflib
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from datasets import ClassLabel, Dataset, Features

from ftjobs.jobfile.fields import Data
from ftjobs.tasks import DEFAULT_LABEL_TYPE, get_task
from ftjobs.tasks.cells import CategoryCell, CellType, TextCell, arrow_type_name

MAX_PROBLEMS = 5
"""Problems reported of one file before reading stops: enough to see a pattern."""

#: What is in memory at a time of rows that are read one after the other.
_ROWS, _BYTES = 1_000, 2**23


class Asked(NamedTuple):
    """What is asked of a column."""

    cell: CellType
    """How its cells are read."""
    by: str
    """What names the column, for errors: a field of the job file, or an option."""


Needed = dict[str, Asked]
"""Columns by name."""
TEXT_FIELD = Asked(TextCell(), "data.text")


def wanted(data: Data) -> Needed:
    """Columns the job reads, in order."""
    columns = dict.fromkeys(data.text_columns, TEXT_FIELD)
    cell = get_task(data.label_type).cell_type(isinstance(data.label, list))
    field = ["data.label", *([f"label_type: {data.label_type}"] if data.label_type != DEFAULT_LABEL_TYPE else [])]
    for label in data.label_columns:
        columns.setdefault(label, Asked(cell, ", ".join([*field, *filter(None, [cell.layout])])))
    if data.split.group_by not in (None, "connected"):
        columns.setdefault(data.split.group_by, Asked(CategoryCell(), "data.split.group_by"))
    return columns


def missing(where: str, present: Sequence[str], needed: Needed) -> list[str]:
    """One problem for each needed column that is not present, with the nearest name that is."""
    problems = []
    for name, asked in needed.items():
        if name not in present:
            near = difflib.get_close_matches(name, present, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"set {asked.by.partition(',')[0]} to one of them"
            listed = ", ".join(repr(column) for column in present) or "none"
            problems.append(f"{where}: there is no column {name!r} ({asked.by}); columns: {listed}; {hint}")
    return problems


class Values:
    """Types and values of the needed columns, looked at a table at a time.

    Texts are strings; labels and groups are strings, whole numbers or booleans; none is missing or blank, unless gaps
    are allowed. Other labels are parsed by their `CellType`.
    """

    def __init__(self, where: str, needed: Needed, separator: str = ",", gaps: bool = False) -> None:
        self._where, self._needed, self._separator, self._gaps = where, needed, separator, gaps
        self._rows = 0
        self._wrong: dict[str, str] = {}  # columns of a type that is not taken, with that type
        self._blank: dict[str, tuple[int, str]] = {}  # columns with gaps: how many, and where the first is
        self._unfit: dict[str, tuple[int, str]] = {}  # labels that cannot be: how many, and what the first is

    def taken(self, table: pa.Table, place: Callable[[int], str]) -> pa.Table | None:
        """Look at the next rows. `place` says where row i of them stands, such as "line 7".

        Returns them, None if they or any before them are not as they should be.
        """
        for name, asked in self._needed.items():
            called = arrow_type_name(table[name].type)
            if not asked.cell.accepts(table[name].type):
                self._wrong.setdefault(name, called)
                continue
            if asked.cell.is_parsed:
                table = self._parsed(table, name, asked.cell, place)
                continue
            if self._gaps:
                continue
            blank = _blank(table[name], called)
            if count := pc.sum(blank).as_py() or 0:
                first = place(pc.index(blank, pa.scalar(True)).as_py())
                before, first = self._blank.get(name, (0, first))
                self._blank[name] = (before + count, first)
        self._rows += len(table)
        return None if self._wrong or self._blank or self._unfit else table

    def _parsed(self, table: pa.Table, name: str, cell: CellType, place: Callable[[int], str]) -> pa.Table:
        column, rows = cell.parse(table[name], self._separator)
        if rows:
            first = f"{place(rows[0])} {cell.problem(table[name][rows[0]].as_py())}"
            before, first = self._unfit.get(name, (0, first))
            self._unfit[name] = (before + len(rows), first)
        return table.set_column(table.schema.get_field_index(name), name, column)

    def problems(self) -> list[str]:
        """One for each column that was not as it should be."""
        found = self._wrong.keys() | self._blank.keys() | self._unfit.keys()
        return [self._problem(name, asked) for name, asked in self._needed.items() if name in found]

    def _problem(self, name: str, asked: Asked) -> str:
        if name in self._wrong:
            return (
                f"{self._where}: column {name!r} holds {self._wrong[name]}, but {asked.by} takes "
                f"{asked.cell.expected}; convert the column"
            )
        if name in self._unfit:
            count, first = self._unfit[name]
            return (
                f"{self._where}: column {name!r} ({asked.by}) cannot be read in {count} of {self._rows} rows: {first}; "
                "correct or remove these rows"
            )
        count, first = self._blank[name]
        return (
            f"{self._where}: column {name!r} ({asked.by}) is empty or missing in {count} of {self._rows} rows, first "
            f"in {first}; fill it in or remove these rows"
        )


def _blank(column: pa.ChunkedArray, called: str) -> pa.ChunkedArray:
    """bool (N,): values that are missing, or strings of white space."""
    if called != "strings":
        return pc.is_null(column)
    return pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(column, ""))), 0)


class Chunk:
    """Rows on their way from lines of text to a table: their values by column, and the lines they start on."""

    def __init__(self, names: Iterable[str]) -> None:
        self._values: dict[str, list[Any]] = {name: [] for name in names}
        self._lines = array("q")
        self._size = 0

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: int, values: Iterable[Any], size: int) -> bool:
        """Add a row. Returns whether that is enough for a table; `size` is roughly what the row takes in memory."""
        self._lines.append(line)
        for column, value in zip(self._values.values(), values, strict=True):
            column.append(value)
        self._size += size
        return len(self) == _ROWS or self._size >= _BYTES

    def table(self) -> tuple[pa.Table, Callable[[int], str]]:
        """The rows, and what says where row i of them stands."""
        lines = self._lines
        return pa.table(self._values), lambda row: f"line {lines[row]}"


def row_after(start: int) -> Callable[[int], str]:
    """What says where a row stands in a table whose first row comes after `start` others."""
    return lambda row: f"row {start + row + 1}"


Tables = Iterator[tuple[pa.Table, Callable[[int], str]]]
"""Rows of a file, a few at a time, each time with what says where row i of them stands: "line 7", "row 7"."""


def in_batches(rows: Dataset) -> Iterator[pa.Table]:
    """The rows of a data set, a few at a time."""
    at_once = rows_at_once(rows.data.nbytes, len(rows.data))
    yield from rows.with_format("arrow").iter(at_once)


def column_of(rows: Dataset, name: str) -> Iterator[Any]:
    """The values of a column, of which few are in memory at a time."""
    for table in in_batches(rows.select_columns([name])):
        yield from table[name].to_pylist()


def rows_at_once(size: int, rows: int) -> int:
    """How many rows to have in memory at a time where `rows` take `size` bytes."""
    return max(1, min(_ROWS, _BYTES * rows // max(size, 1)))


def shown(value: object) -> str:
    """A value for an error message: on one line, and not longer than one can read."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def conform(table: pa.Table, features: Features) -> pa.Table:
    """The same rows without metadata: every kind of string as `string`, whole numbers as `int64`, and class labels as
    the names of their classes (unlabelled, -1, as missing)."""
    columns = {}
    for name in table.column_names:
        column, feature = table[name], features[name]
        if isinstance(feature, ClassLabel) and feature.names:
            column = _class_names(column, [str(class_name) for class_name in feature.names])
        elif isinstance(inner := getattr(feature, "feature", None), ClassLabel) and inner.names:
            column = _named_lists(column, [str(class_name) for class_name in inner.names])
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if pa.types.is_large_string(column.type) or pa.types.is_string_view(column.type):
            column = column.cast(pa.string())
        elif pa.types.is_integer(column.type) and column.type != pa.uint64():
            column = column.cast(pa.int64())
        columns[name] = column
    return pa.table(columns)


def _class_names(codes: pa.ChunkedArray, names: list[str]) -> pa.ChunkedArray:
    known = pc.and_(pc.greater_equal(codes, 0), pc.less(codes, len(names)))
    return pc.take(pa.array(names, pa.string()), pc.if_else(known, codes, None))


def _named_lists(column: pa.ChunkedArray, names: list[str]) -> pa.ChunkedArray:
    """Lists of class numbers, as hub data sets store them, as lists of class names; unknown numbers as missing."""
    lists = [
        None if codes is None else [names[code] if 0 <= code < len(names) else None for code in codes]
        for codes in column.to_pylist()
    ]
    return pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
