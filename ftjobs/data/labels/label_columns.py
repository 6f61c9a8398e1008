"""Label columns that do not hold single classes: numbers, flags and lists of names, of one type whatever the file's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pyarrow as pa

#: What such a column is read as.
NUMBER, FLAG, NAMES = "number", "flag", "names"

#: Kinds of Arrow columns (`columns.type_name`) that each takes besides numbers and lists, and in words.
ACCEPTED = {
    NUMBER: ("strings", "integers", "nothing"),
    FLAG: ("strings", "integers", "booleans", "nothing"),
    NAMES: ("strings", "nothing"),
}
ALLOWED = {
    NUMBER: "numbers",
    FLAG: "0 and 1, or booleans",
    NAMES: "lists of names, or strings",
}
#: Kinds of JSON values (`jsonl.kind_of`) that each takes.
JSON_KINDS = {
    NUMBER: ("a whole number", "a floating-point number", "a string"),
    FLAG: ("a whole number", "a boolean", "a floating-point number", "a string"),
    NAMES: ("a list", "a string"),
}
_UNFIT = {NUMBER: "is no finite number", FLAG: "is neither 0 nor 1", NAMES: "is no list of names"}
_FLAGS = {"0": 0, "1": 1, "false": 0, "true": 1, "0.0": 0, "1.0": 1}


def typed(column: pa.ChunkedArray, kind: str, separator: str) -> tuple[pa.ChunkedArray, list[int]]:
    """A column as float64 (`NUMBER`), int8 (`FLAG`) or lists of strings (`NAMES`), and the rows whose values are none.

    Values that are missing count among those, and so do numbers that are not finite.
    """
    if kind == NUMBER:
        values = np.array([_number(value) for value in column.to_pylist()], dtype=np.float64)
        return pa.chunked_array([pa.array(values)]), np.flatnonzero(~np.isfinite(values)).tolist()
    if kind == FLAG:
        flags = [_flag(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(flags, pa.int8())]), [row for row, flag in enumerate(flags) if flag is None]
    lists = [_names(value, separator) for value in column.to_pylist()]
    return pa.chunked_array([pa.array(lists, pa.list_(pa.string()))]), [
        row for row, names in enumerate(lists) if names is None
    ]


def unfit(value: Any, kind: str) -> str:
    """What is wrong with a value."""
    return "is missing" if value is None else f"{_UNFIT[kind]}: {value!r}"


def _number(value: Any) -> float:
    if value is None or isinstance(value, bool | list):
        return math.nan
    if isinstance(value, str) and "_" in value:  # Python's own notation
        return math.nan
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def _flag(value: Any) -> int | None:
    return None if value is None else _FLAGS.get(str(value).strip().lower())


def _names(value: Any, separator: str) -> list[str] | None:
    if isinstance(value, str):
        value = value.split(separator)
    if not isinstance(value, list) or any(item is None for item in value):
        return None
    names = (str(item).strip() for item in value)
    return list(dict.fromkeys(name for name in names if name))


def is_accepted(data_type: pa.DataType, called: str, kind: str) -> bool:
    """Whether `typed` takes columns of this type, which `columns.type_name` calls so."""
    if kind == NAMES:
        return called in ACCEPTED[kind] or is_list_of_names(data_type)
    return called in ACCEPTED[kind] or bool(pa.types.is_floating(data_type))


def is_list_of_names(data_type: pa.DataType) -> bool:
    """Whether a column holds lists of strings or whole numbers."""
    if not (pa.types.is_list(data_type) or pa.types.is_large_list(data_type) or pa.types.is_fixed_size_list(data_type)):
        return False
    inner = data_type.value_type
    return bool(pa.types.is_string(inner) or pa.types.is_large_string(inner) or pa.types.is_integer(inner))


def named(column: pa.ChunkedArray, names: list[str]) -> pa.ChunkedArray:
    """Lists of class numbers, as data sets on the hub have them, as lists of the classes' names; others as missing."""
    return pa.chunked_array(
        [
            pa.array(
                [
                    None if codes is None else [names[code] if 0 <= code < len(names) else None for code in codes]
                    for codes in column.to_pylist()
                ],
                pa.list_(pa.string()),
            )
        ]
    )
