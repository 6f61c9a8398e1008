"""Classes: their names in a fixed order, and labels as indices into them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from ftjobs.errors import UserError

# ASCII digits only, and no more than Python reads back as one number.
_WHOLE_NUMBER = re.compile(r"[+-]?[0-9]{1,1000}")


def class_names(values: Iterable[object], *others: Iterable[object]) -> list[str]:
    """Names of the classes, in the order that fixes their indices.

    values: labels of the training split (strings, whole numbers or booleans); others: labels of further splits, which
    may have classes of their own. Numerical order if every name is a whole number ("9" before "10"), else by code
    point; booleans are "false" and "true".

    Raises UserError when training has fewer than two classes: there is nothing to learn.
    """
    training = {_name(value) for value in values}
    if len(training) < 2:
        found = f"only the class {min(training)!r}" if training else "no labels at all"
        raise UserError(
            f"data.label: the training split has {found}; a classifier needs two classes or more: "
            "check data.label, and data.split if the source has more classes"
        )
    names = training.union(*({_name(value) for value in other} for other in others))
    if all(_WHOLE_NUMBER.fullmatch(name) for name in names):
        return sorted(names, key=lambda name: (int(name), name))
    return sorted(names)


def encode(values: Iterable[object], names: Sequence[str], where: str = "data.label") -> np.ndarray:
    """Labels as indices into `names`: int64 (N,). `where` they stand is said in errors.

    Raises UserError when a label is none of `names`.
    """
    index = {name: position for position, name in enumerate(names)}
    try:
        return np.fromiter((index[_name(value)] for value in values), dtype=np.int64)
    except KeyError as unknown:
        raise UserError(
            f"{where}: {unknown.args[0]!r} is not among the {len(names)} classes ({_listed(names)}); "
            "correct the label, or train with rows of that class"
        ) from None


def label_names(rows: Iterable[list[str]], *others: Iterable[list[str]]) -> list[str]:
    """Names of the labels of which rows have any number: those of training and of further splits, by code point.

    Raises UserError when training has fewer than two.
    """
    training = {name for names in rows for name in names}
    if len(training) < 2:
        found = f"only the label {min(training)!r}" if training else "no label in any row"
        raise UserError(
            f"data.label: the training split has {found}; label_type: multi needs two labels or more: check data.label "
            "and data.label_separator"
        )
    return sorted(training.union(*({name for names in other for name in names} for other in others)))


def encode_sets(rows: Iterable[list[str]], names: Sequence[str], where: str = "data.label") -> np.ndarray:
    """Lists of names as flags: uint8 (N, C). `where` they stand is said in errors.

    Raises UserError when a label is none of `names`.
    """
    index = {name: position for position, name in enumerate(names)}
    given = list(rows)
    flags = np.zeros((len(given), len(names)), dtype=np.uint8)
    try:
        for row, labels in enumerate(given):
            flags[row, [index[name] for name in labels]] = 1
    except KeyError as unknown:
        raise UserError(
            f"{where}: {unknown.args[0]!r} is not among the {len(names)} labels ({_listed(names)}); correct it, or "
            "train with rows that have it"
        ) from None
    return flags


def _name(value: object) -> str:
    if isinstance(value, bool | np.bool_):
        return "true" if value else "false"
    return str(value)


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:10])
    return shown if len(names) <= 10 else f"{shown}, ..."
