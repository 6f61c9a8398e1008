"""Dividing rows into training, validation and test, and counting what leaks between them."""

from __future__ import annotations

import math

import numpy as np
from datasets import Dataset
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

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


def overlap(train: Dataset, other: Dataset, text_columns: list[str]) -> dict[str, int]:
    """How much of `other` a model has seen: texts are compared normalised, and in any text column.

    `texts`: distinct texts of `other`; `texts_in_training`: those that also stand in `train`; `rows`: rows of `other`;
    `rows_in_training`: those with at least one text that also stands in `train`.
    """
    seen = {normalise(text) for column in text_columns for text in train[column][:]}
    columns = [[normalise(text) for text in other[column][:]] for column in text_columns]
    texts = {text for column in columns for text in column}
    return {
        "texts": len(texts),
        "texts_in_training": len(texts & seen),
        "rows": len(other),
        "rows_in_training": sum(any(text in seen for text in row) for row in zip(*columns, strict=True)),
    }


def normalise(text: str) -> str:
    """The form in which two texts count as the same: case folded, white space collapsed."""
    return " ".join(text.casefold().split())


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
        return _first_appearance(_components(rows, text_columns).tolist())
    if group_by not in rows.column_names:
        raise UserError(
            f"data.split.group_by: there is no column {group_by!r} (columns: {', '.join(rows.column_names)}); "
            "name a column, or `connected` for rows that share a text"
        )
    return _first_appearance(rows[group_by][:])


def _components(rows: Dataset, text_columns: list[str]) -> np.ndarray:
    """Connected components of the bipartite graph of rows and normalised texts: int32 (N,)."""
    texts = [normalise(text) for column in text_columns for text in rows[column][:]]
    text_nodes = _first_appearance(texts) + len(rows)
    row_nodes = np.tile(np.arange(len(rows)), len(text_columns))
    size = len(rows) + len(texts)  # more nodes than distinct texts do no harm
    graph = coo_matrix((np.ones(len(texts), dtype=np.int8), (row_nodes, text_nodes)), shape=(size, size))
    components: np.ndarray = connected_components(graph, directed=False)[1]
    return components[: len(rows)]


def _first_appearance(values: list) -> np.ndarray:
    """Equal values as equal numbers 0, 1, ... in order of first appearance: int64 (N,)."""
    numbers: dict[object, int] = {}
    return np.array([numbers.setdefault(value, len(numbers)) for value in values], dtype=np.int64)
