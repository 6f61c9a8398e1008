"""Dividing rows into training, validation and test."""

from __future__ import annotations

import math

import numpy as np
from datasets import Dataset
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ftjobs.data.overlap import keys, text_keys
from ftjobs.data.readers.columns import column_of
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Split


def split(given: dict[str, Dataset], settings: Split, text_columns: list[str]) -> dict[str, Dataset]:
    """Divide `given["train"]` as `settings` ask; splits that the source brings are used as they are.

    Test rows are taken first, validation rows from what is left, both with the same seed. Without `group_by` this is
    `datasets.Dataset.train_test_split`: same rows, same order. With it, whole groups go to one side, and the rows of
    a side keep their order.

    Returns `train`, `test` and, if asked for or given, `validation`. Raises UserError when there is no test split or
    two, when there are too few rows or groups to divide, and when the column to group by is missing.
    """
    _check(given, settings)
    result = dict(given)
    for name, fraction in (("test", settings.test_fraction), ("validation", settings.validation_fraction)):
        if fraction is not None:
            result["train"], result[name] = _divide(result["train"], name, fraction, settings, text_columns)
    return {name: result[name] for name in ("train", "validation", "test") if name in result}


def _check(given: dict[str, Dataset], settings: Split) -> None:
    problems = []
    for name in ("test", "validation"):
        if name in given and getattr(settings, f"{name}_fraction") is not None:
            problems.append(
                f"data.split.{name}_fraction: {getattr(settings, f'{name}_fraction')} asks for a {name} split, but "
                f"the source has its own of {len(given[name])} rows; remove {name}_fraction, or name only the "
                "training rows in data.source"
            )
    if "test" not in given and settings.test_fraction is None:
        problems.append(
            "data.split.test_fraction: not set, and the source has no test split of its own; "
            "set it (0.1 holds out a tenth), or write data.source as {train: ..., test: ...}"
        )
    if not problems and settings.group_by and settings.test_fraction is None and settings.validation_fraction is None:
        problems.append(
            f"data.split.group_by: {settings.group_by!r} has no effect, because every split comes from the source; "
            "remove it, or name only the training rows in data.source and set test_fraction"
        )
    if problems:
        raise UserError(problems)


def _divide(
    rows: Dataset, name: str, fraction: float, settings: Split, text_columns: list[str]
) -> tuple[Dataset, Dataset]:
    """Rows that stay, and rows held out as split `name`."""
    target = math.ceil(fraction * len(rows))  # as train_test_split rounds
    if target >= len(rows):
        raise UserError(
            f"data.split.{name}_fraction: {fraction} of {len(rows)} rows, rounded up, leaves none for training; "
            "use a smaller fraction or more rows"
        )
    if settings.group_by is None:
        sides = rows.train_test_split(test_size=fraction, seed=settings.seed)
        return sides["train"], sides["test"]
    groups = _groups(rows, settings.group_by, text_columns)
    held_out = _hold_out(groups, target, settings.seed)
    if not held_out.any():
        sizes = np.bincount(groups)
        raise UserError(
            f"data.split.{name}_fraction: {fraction} of {len(rows)} rows is {target}, but every group of group_by: "
            f"{settings.group_by} is larger (the largest has {sizes.max()} rows, the smallest {sizes.min()}), so the "
            f"{name} split would be empty; use a larger fraction, or group by something finer"
        )
    return rows.select(np.flatnonzero(~held_out)), rows.select(np.flatnonzero(held_out))


def _hold_out(groups: np.ndarray, target: int, seed: int) -> np.ndarray:
    """bool (N,): rows of the groups that, taken in shuffled order, still fit into `target` rows."""
    sizes = np.bincount(groups)
    chosen = np.zeros(len(sizes), dtype=bool)
    room = target
    for group in np.random.default_rng(seed).permutation(len(sizes)):
        if sizes[group] <= room:
            chosen[group] = True
            room -= sizes[group]
    held_out: np.ndarray = chosen[groups]
    return held_out


def _groups(rows: Dataset, group_by: str, text_columns: list[str]) -> np.ndarray:
    """int64 (N,): the group of each row, numbered by first appearance."""
    if group_by == "connected":
        return _first_appearance(_components(text_keys([column_of(rows, column) for column in text_columns])))
    if group_by not in rows.column_names:
        raise UserError(
            f"data.split.group_by: there is no column {group_by!r} (columns: {', '.join(rows.column_names)}); "
            "name a column, or `connected` for rows that share a text"
        )
    return _first_appearance(keys(map(str, column_of(rows, group_by))))


def _components(texts: np.ndarray) -> np.ndarray:
    """Connected components of the bipartite graph of rows and texts, from the `text_keys` (N, C): int32 (N,)."""
    rows, columns = texts.shape
    distinct, text_nodes = np.unique(texts, return_inverse=True)
    row_nodes = np.repeat(np.arange(rows), columns)
    size = rows + len(distinct)
    edges = (np.ones(texts.size, dtype=np.int8), (row_nodes, text_nodes.ravel() + rows))
    components: np.ndarray = connected_components(coo_matrix(edges, shape=(size, size)), directed=False)[1]
    return components[:rows]


def _first_appearance(values: np.ndarray) -> np.ndarray:
    """Equal values as equal numbers 0, 1, ... in order of first appearance: int64 (N,)."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse]
