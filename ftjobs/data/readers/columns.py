"""Required columns of a source: presence, types and values, in bounded memory."""

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
"""Problems per file after which reading stops."""

#: Maximum rows and bytes per batch.
_BATCH_ROWS, _BATCH_BYTES = 1_000, 2**23


class RequiredColumn(NamedTuple):
    """A column that the job reads."""

    cell: CellType
    """Type of its cells."""
    field: str
    """The field of the job file, or the option, that names the column; for error messages."""


RequiredColumns = dict[str, RequiredColumn]
"""Required columns by name."""
TEXT_FIELD = RequiredColumn(TextCell(), "data.text")

Locate = Callable[[int], str]
"""Maps the index of a row in a table to its place in the source: "line 7", "row 7"."""
LocatedTables = Iterator[tuple[pa.Table, Locate]]
"""Batches of rows, each with a function that locates its rows."""


def required_columns(data: Data) -> RequiredColumns:
    """Return the columns that the job reads, in order."""
    columns = dict.fromkeys(data.text_columns, TEXT_FIELD)
    cell = get_task(data.label_type).cell_type(isinstance(data.label, list))
    field = ["data.label", *([f"label_type: {data.label_type}"] if data.label_type != DEFAULT_LABEL_TYPE else [])]
    for label in data.label_columns:
        columns.setdefault(label, RequiredColumn(cell, ", ".join([*field, *filter(None, [cell.layout])])))
    if data.split.group_by not in (None, "connected"):
        columns.setdefault(data.split.group_by, RequiredColumn(CategoryCell(), "data.split.group_by"))
    return columns


def missing_columns(where: str, present: Sequence[str], required: RequiredColumns) -> list[str]:
    """Return one problem per missing column, with the most similar column name as the remedy."""
    problems = []
    for name, column in required.items():
        if name not in present:
            near = difflib.get_close_matches(name, present, n=1)
            remedy = f"did you mean {near[0]!r}?" if near else f"set {column.field.partition(',')[0]} to one of them"
            listed = ", ".join(repr(other) for other in present) or "none"
            problems.append(f"{where}: there is no column {name!r} ({column.field}); columns: {listed}; {remedy}")
    return problems


class ColumnChecker:
    """Check types and values of the required columns of a source, one table at a time.

    Texts must be strings; classes and groups must be strings, whole numbers or booleans; no value may be missing or
    blank unless `allow_missing`. Other labels are parsed by their `CellType`.
    """

    def __init__(
        self, where: str, required: RequiredColumns, separator: str = ",", allow_missing: bool = False
    ) -> None:
        self._where, self._required = where, required
        self._separator, self._allow_missing = separator, allow_missing
        self._rows = 0
        self._wrong_type: dict[str, str] = {}  # column -> its type, which is not accepted
        self._blank: dict[str, tuple[int, str]] = {}  # column -> number of missing values, place of the first
        self._invalid: dict[str, tuple[int, str]] = {}  # column -> number of invalid labels, description of the first

    def check(self, table: pa.Table, locate: Locate) -> pa.Table | None:
        """Check the next rows of the source, and return them with parsed labels.

        Returns None if these rows or any rows before them are invalid.
        """
        for name, required in self._required.items():
            type_name = arrow_type_name(table[name].type)
            if not required.cell.accepts(table[name].type):
                self._wrong_type.setdefault(name, type_name)
                continue
            if required.cell.is_parsed:
                table = self._parse(table, name, required.cell, locate)
                continue
            if self._allow_missing:
                continue
            blank = _is_blank(table[name], type_name)
            if count := pc.sum(blank).as_py() or 0:
                first = locate(pc.index(blank, pa.scalar(True)).as_py())
                before, first = self._blank.get(name, (0, first))
                self._blank[name] = (before + count, first)
        self._rows += len(table)
        return None if self._wrong_type or self._blank or self._invalid else table

    def _parse(self, table: pa.Table, name: str, cell: CellType, locate: Locate) -> pa.Table:
        column, rows = cell.parse(table[name], self._separator)
        if rows:
            first = f"{locate(rows[0])} {cell.problem(table[name][rows[0]].as_py())}"
            before, first = self._invalid.get(name, (0, first))
            self._invalid[name] = (before + len(rows), first)
        return table.set_column(table.schema.get_field_index(name), name, column)

    def problems(self) -> list[str]:
        """Return one problem per invalid column."""
        invalid = self._wrong_type.keys() | self._blank.keys() | self._invalid.keys()
        return [self._describe(name, column) for name, column in self._required.items() if name in invalid]

    def _describe(self, name: str, column: RequiredColumn) -> str:
        if name in self._wrong_type:
            return (
                f"{self._where}: column {name!r} contains {self._wrong_type[name]}, but {column.field} requires "
                f"{column.cell.expected}; convert the column"
            )
        if name in self._invalid:
            count, first = self._invalid[name]
            return (
                f"{self._where}: column {name!r} ({column.field}) cannot be read in {count} of {self._rows} rows: "
                f"{first}; correct or remove these rows"
            )
        count, first = self._blank[name]
        return (
            f"{self._where}: column {name!r} ({column.field}) is empty or missing in {count} of {self._rows} rows, "
            f"first in {first}; fill in or remove these rows"
        )


def _is_blank(column: pa.ChunkedArray, type_name: str) -> pa.ChunkedArray:
    """bool (N,): values that are missing, or strings of white space."""
    if type_name != "strings":
        return pc.is_null(column)
    return pc.equal(pc.utf8_length(pc.utf8_trim_whitespace(pc.fill_null(column, ""))), 0)


class TableBuilder:
    """Collect the rows of a line-oriented file for a table, with the line number of each."""

    def __init__(self, names: Iterable[str]) -> None:
        self._values: dict[str, list[Any]] = {name: [] for name in names}
        self._lines = array("q")
        self._size = 0

    def __len__(self) -> int:
        return len(self._lines)

    def add(self, line: int, values: Iterable[Any], size: int) -> bool:
        """Add a row of about `size` bytes, and return whether the table is full."""
        self._lines.append(line)
        for column, value in zip(self._values.values(), values, strict=True):
            column.append(value)
        self._size += size
        return len(self) == _BATCH_ROWS or self._size >= _BATCH_BYTES

    def build(self) -> tuple[pa.Table, Locate]:
        """Return the table and a function that locates its rows."""
        lines = self._lines
        return pa.table(self._values), lambda row: f"line {lines[row]}"


def row_locator(start: int) -> Locate:
    """Return a function that locates the rows of a table whose first row has index `start` in the source."""
    return lambda row: f"row {start + row + 1}"


def iter_tables(rows: Dataset) -> Iterator[pa.Table]:
    """Iterate over a data set in batches."""
    batch_size = rows_per_batch(rows.data.nbytes, len(rows.data))
    yield from rows.with_format("arrow").iter(batch_size)


def column_values(rows: Dataset, name: str) -> Iterator[Any]:
    """Iterate over the values of a column in bounded memory."""
    for table in iter_tables(rows.select_columns([name])):
        yield from table[name].to_pylist()


def rows_per_batch(size: int, rows: int) -> int:
    """Return the batch size for a source in which `rows` take `size` bytes."""
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // max(size, 1)))


def format_value(value: object) -> str:
    """Format a value for an error message: on one line, at most 60 characters."""
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def normalize_types(table: pa.Table, features: Features) -> pa.Table:
    """Return the table without metadata and with few types.

    Strings of every kind become `string`, whole numbers `int64`, and class labels the names of their classes
    (unlabeled, -1, becomes missing).
    """
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
    """Convert lists of class numbers, as in hub data sets, to lists of class names; unknown numbers become missing."""
    lists = [
        None if codes is None else [names[code] if 0 <= code < len(names) else None for code in codes]
        for codes in column.to_pylist()
    ]
    return pa.chunked_array([pa.array(lists, pa.list_(pa.string()))])
