"""Divide rows into training, validation and test splits."""

from __future__ import annotations

import math

import numpy as np
from datasets import Dataset
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ftjobs.data.overlap import hash_strings, text_keys
from ftjobs.data.readers.columns import column_values
from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Split


def divide(source: dict[str, Dataset], settings: Split, text_columns: list[str]) -> dict[str, Dataset]:
    """Divide the training rows of a source; its own validation and test splits are kept.

    Test rows are drawn first, then validation rows from the remaining ones, with the same seed. Without `group_by`,
    rows and order equal those of `datasets.Dataset.train_test_split`. With `group_by`, whole groups are assigned, and
    the rows of a split keep their order.

    Args:
        source: the splits of the source, `train` among them.
        settings: fractions, seed and grouping.
        text_columns: one or two text columns.

    Returns:
        `train`, `test` and, if configured or in the source, `validation`.

    Raises:
        UserError: no test split or two, too few rows or groups, or a missing grouping column.
    """
    _check(source, settings)
    splits = dict(source)
    for name, fraction in (("test", settings.test_fraction), ("validation", settings.validation_fraction)):
        if fraction is not None:
            splits["train"], splits[name] = _hold_out(splits["train"], name, fraction, settings, text_columns)
    return {name: splits[name] for name in ("train", "validation", "test") if name in splits}


def _check(source: dict[str, Dataset], settings: Split) -> None:
    problems = []
    for name in ("test", "validation"):
        fraction = getattr(settings, f"{name}_fraction")
        if name in source and fraction is not None:
            problems.append(
                f"data.split.{name}_fraction: {fraction} conflicts with the {name} split of the source "
                f"({len(source[name])} rows); remove {name}_fraction, or set data.source to the training rows only"
            )
    if "test" not in source and settings.test_fraction is None:
        problems.append(
            "data.split.test_fraction: not set, and the source has no test split; set it (0.1 holds out a tenth), or "
            "set data.source to {train: ..., test: ...}"
        )
    if not problems and settings.group_by and settings.test_fraction is None and settings.validation_fraction is None:
        problems.append(
            f"data.split.group_by: {settings.group_by!r} has no effect because every split comes from the source; "
            "remove it, or set data.source to the training rows only and set test_fraction"
        )
    if problems:
        raise UserError(problems)


def _hold_out(
    rows: Dataset, name: str, fraction: float, settings: Split, text_columns: list[str]
) -> tuple[Dataset, Dataset]:
    """Return the remaining rows and the held-out rows of split `name`."""
    target = math.ceil(fraction * len(rows))  # rounded as in train_test_split
    if target >= len(rows):
        raise UserError(
            f"data.split.{name}_fraction: {fraction} of {len(rows)} rows, rounded up, leaves none for training; "
            "use a smaller fraction or more rows"
        )
    if settings.group_by is None:
        sides = rows.train_test_split(test_size=fraction, seed=settings.seed)
        return sides["train"], sides["test"]
    groups = _groups(rows, settings.group_by, text_columns)
    held_out = _draw_groups(groups, target, settings.seed)
    if not held_out.any():
        sizes = np.bincount(groups)
        raise UserError(
            f"data.split.{name}_fraction: {fraction} of {len(rows)} rows is {target}, but every group of group_by: "
            f"{settings.group_by} is larger (the largest has {sizes.max()} rows, the smallest {sizes.min()}), so the "
            f"{name} split would be empty; use a larger fraction, or a finer grouping"
        )
    return rows.select(np.flatnonzero(~held_out)), rows.select(np.flatnonzero(held_out))


def _draw_groups(groups: np.ndarray, target: int, seed: int) -> np.ndarray:
    """bool (N,): rows of the groups that, in shuffled order, still fit into `target` rows."""
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
    """int64 (N,): the group of each row, numbered by first occurrence."""
    if group_by == "connected":
        return _number_by_occurrence(_components(text_keys([column_values(rows, column) for column in text_columns])))
    if group_by not in rows.column_names:
        raise UserError(
            f"data.split.group_by: there is no column {group_by!r} (columns: {', '.join(rows.column_names)}); "
            "set it to a column, or to `connected` for rows that share a text"
        )
    return _number_by_occurrence(hash_strings(map(str, column_values(rows, group_by))))


def _components(texts: np.ndarray) -> np.ndarray:
    """Connected components of the bipartite graph of rows and texts, given `text_keys` (N, C): int32 (N,)."""
    rows, columns = texts.shape
    distinct, text_nodes = np.unique(texts, return_inverse=True)
    row_nodes = np.repeat(np.arange(rows), columns)
    size = rows + len(distinct)
    edges = (np.ones(texts.size, dtype=np.int8), (row_nodes, text_nodes.ravel() + rows))
    components: np.ndarray = connected_components(coo_matrix(edges, shape=(size, size)), directed=False)[1]
    return components[:rows]


def _number_by_occurrence(values: np.ndarray) -> np.ndarray:
    """Number distinct values 0, 1, ... in order of first occurrence: int64 (N,)."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    number = np.empty(len(first), dtype=np.int64)
    number[np.argsort(first)] = np.arange(len(first))
    return number[inverse]
