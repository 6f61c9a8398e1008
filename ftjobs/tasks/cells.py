"""Column types accepted for texts and labels, and how their cells are read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    import pyarrow as pa


class CellType:
    """Reader of the cells of a column. The base class keeps cells as they are; blank cells are errors."""

    expected: ClassVar[str]
    """Accepted column types in words, for errors."""
    column_types: ClassVar[tuple[str, ...]]
    """Accepted Arrow types, as `arrow_type_name` names them."""
    json_types: ClassVar[tuple[str, ...]]
    """Accepted types of JSON values, in words."""
    is_parsed: ClassVar[bool] = False
    """Cells are converted by `parse`; cells that cannot be are errors."""
    layout: ClassVar[str] = ""
    """Arrangement of the columns, for errors."""

    def accepts(self, data_type: pa.DataType) -> bool:
        """Return whether a column of this Arrow type can be read."""
        return arrow_type_name(data_type) in self.column_types

    def parse(self, column: pa.ChunkedArray, separator: str) -> tuple[pa.ChunkedArray, list[int]]:
        """Return the column in one type, and the rows whose cells cannot be read."""
        raise NotImplementedError

    def problem(self, value: Any) -> str:
        """Return what is wrong with a cell that `parse` rejected."""
        raise NotImplementedError

    def uniform_json(self, value: Any) -> Any:
        """Return a JSON value in a type that all accepted values share."""
        return value

    def json_type_name(self, name: str) -> str:
        """Return the type of a JSON value; values of one column must not mix types."""
        return name


class TextCell(CellType):
    """Texts."""

    expected = "strings"
    column_types = ("strings", "nothing")
    json_types = ("a string",)


class CategoryCell(CellType):
    """Classes or groups: strings, whole numbers or booleans."""

    expected = "strings, whole numbers or booleans"
    column_types = ("strings", "integers", "booleans", "nothing")
    json_types = ("a string", "a whole number", "a boolean")


class NumberCell(CellType):
    """Finite numbers, read as float64."""

    cell_name: ClassVar[str] = "finite number"
    """An accepted cell, for errors."""

    expected = "numbers"
    column_types = ("strings", "integers", "nothing")
    json_types = ("a whole number", "a floating-point number", "a string")
    is_parsed = True

    def accepts(self, data_type: pa.DataType) -> bool:
        import pyarrow as pa

        return super().accepts(data_type) or bool(pa.types.is_floating(data_type))

    def parse(self, column: pa.ChunkedArray, separator: str) -> tuple[pa.ChunkedArray, list[int]]:
        import numpy as np
        import pyarrow as pa

        values = np.array([self.number(value) for value in column.to_pylist()], dtype=np.float64)
        return pa.chunked_array([pa.array(values)]), np.flatnonzero(~np.isfinite(values)).tolist()

    def number(self, value: Any) -> float:
        """Return a cell as a number, not finite if it is none."""
        if value is None or isinstance(value, bool | list):
            return math.nan
        if isinstance(value, str) and "_" in value:  # valid in Python only
            return math.nan
        try:
            return float(value)
        except (ValueError, OverflowError):
            return math.nan

    def problem(self, value: Any) -> str:
        return "is missing" if value is None else f"is no {self.cell_name}: {value!r}"

    def uniform_json(self, value: Any) -> Any:
        is_whole = isinstance(value, int) and not isinstance(value, bool)
        return float(value) if is_whole and -(2**63) <= value < 2**63 else value

    def json_type_name(self, name: str) -> str:
        return "a number" if name.endswith("number") else name


class FlagCell(CellType):
    """0 and 1, or booleans, read as int8."""

    expected = "0 and 1, or booleans"
    column_types = ("strings", "integers", "booleans", "nothing")
    json_types = ("a whole number", "a boolean", "a floating-point number", "a string")
    is_parsed = True
    layout = "in columns of 0 and 1"

    _VALUES: ClassVar = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}

    def accepts(self, data_type: pa.DataType) -> bool:
        import pyarrow as pa

        return super().accepts(data_type) or bool(pa.types.is_floating(data_type))

    def parse(self, column: pa.ChunkedArray, separator: str) -> tuple[pa.ChunkedArray, list[int]]:
        import pyarrow as pa

        flags = [
            None if value is None else self._VALUES.get(str(value).strip().lower()) for value in column.to_pylist()
        ]
        return pa.chunked_array([pa.array(flags, pa.int8())]), [row for row, flag in enumerate(flags) if flag is None]

    def problem(self, value: Any) -> str:
        return "is missing" if value is None else f"is neither 0 nor 1: {value!r}"


class NamesCell(CellType):
    """Lists of names, or names joined by a separator; read as lists of distinct strings."""

    expected = "lists of names, or strings"
    column_types = ("strings", "nothing")
    json_types = ("a list", "a string")
    is_parsed = True

    def accepts(self, data_type: pa.DataType) -> bool:
        return super().accepts(data_type) or is_list_of_names(data_type)

    def parse(self, column: pa.ChunkedArray, separator: str) -> tuple[pa.ChunkedArray, list[int]]:
        import pyarrow as pa

        lists = [_names(value, separator) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(lists, pa.list_(pa.string()))]), [
            row for row, names in enumerate(lists) if names is None
        ]

    def problem(self, value: Any) -> str:
        return "is missing" if value is None else f"is no list of names: {value!r}"

    def uniform_json(self, value: Any) -> Any:
        return [str(item) for item in value] if isinstance(value, list) else value


def _names(value: Any, separator: str) -> list[str] | None:
    if isinstance(value, str):
        value = value.split(separator)
    if not isinstance(value, list) or any(item is None for item in value):
        return None
    names = (str(item).strip() for item in value)
    return list(dict.fromkeys(name for name in names if name))


def is_list_of_names(data_type: pa.DataType) -> bool:
    """Return whether a column holds lists of strings or whole numbers."""
    import pyarrow as pa

    if not (pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_fixed_size_list(data_type)):
        return False
    inner = data_type.value_type
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_integer(inner))


def arrow_type_name(data_type: pa.DataType) -> str:
    """Return an Arrow type in words: strings, integers, booleans, nothing (all missing), or Arrow's own name."""
    import pyarrow as pa

    if pa.types.is_string(data_type):
        return "strings"
    if pa.types.is_integer(data_type):
        return "integers"
    if pa.types.is_boolean(data_type):
        return "booleans"
    if pa.types.is_null(data_type):
        return "nothing"
    return f"{data_type} values"


def first_names(names: Sequence[str]) -> str:
    """Return the first ten names, for an error."""
    shown = ", ".join(repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown}, ..."
