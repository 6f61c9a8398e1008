"""Read Hugging Face data sets at exactly one commit, which is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from huggingface_hub import HfApi

from ftjobs.data.memory_mapped import TableFile
from ftjobs.data.readers.columns import (
    TEXT_FIELD,
    ColumnChecker,
    RequiredColumns,
    iter_tables,
    missing_columns,
    normalize_types,
    row_locator,
)
from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile.fields import Data
from ftjobs.system.hub_errors import causes, is_temporary, reason, refusal

PARQUET_EXPORT = "refs/convert/parquet"
"""Branch with the hub's parquet conversion of data sets, including those that are Python scripts."""

SPLIT_NAMES = {"train": "train", "test": "test", **dict.fromkeys(("validation", "valid", "val", "dev"), "validation")}
"""Split of a job by its name in data sets and file names."""


class DatasetScriptError(UserError):
    """The data set is a Python script, which `datasets` does not run."""


def load(data: Data, required: RequiredColumns) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Return the required columns of the data set `data.source` by split, and their provenance.

    `datasets` does not run scripts: for a data set that is a Python script, `revision: main` reads the hub's parquet
    conversion instead, which has its own commit.

    Raises:
        UserError: the data set, its revision, configuration or columns do not exist.
        FtjobsError: the hub is unreachable.
    """
    splits, provenance = fetch(data)
    return _check_splits(data, _rename_splits(data, splits), required), provenance


def fetch(data: Data) -> tuple[dict[str, datasets.Dataset], dict[str, Any]]:
    """Return all rows and columns of the data set `data.source` by its own split names, and their provenance.

    Raises:
        UserError, FtjobsError: as `load`.
    """
    try:
        return _fetch_commit(data, data.revision)
    except DatasetScriptError as script:
        if data.revision != "main":
            raise
        try:
            return _fetch_commit(data, PARQUET_EXPORT)
        except UserError as error:
            raise UserError([*script.problems, *error.problems]) from error


def stream(
    data: Data, choose_split: Callable[[list[str], str], str], seed: int
) -> tuple[Iterator[Any], dict[str, Any]]:
    """Stream the text column of one split of the data set `data.source`.

    Args:
        data: with one text column.
        choose_split: maps all split names, and the name of the data set, to the split to read.
        seed: seed of the order of the split's files.

    Returns:
        The values, downloaded while they are iterated, and their provenance.

    Raises:
        UserError, FtjobsError: as `load`; the iterator raises them, too.
    """

    def start(data: Data, repo: str, commit: str) -> Any:
        names = datasets.get_dataset_split_names(repo, data.config, revision=commit)
        split = choose_split(names, repo)
        rows = datasets.load_dataset(repo, data.config, revision=commit, split=split, streaming=True)
        return rows.shuffle(seed=seed, buffer_size=1)  # shuffles the files

    rows, provenance = _fetch_commit(data, data.revision, start)
    (column,) = data.text_columns
    present = list(rows.features or next(iter(rows), {}))
    if problems := missing_columns(str(data.source), present, {column: TEXT_FIELD}):
        raise UserError(problems)

    def values() -> Iterator[Any]:
        try:
            yield from (row[column] for row in rows.select_columns([column]))
        except Exception as error:
            raise _explain(data, data.revision, error) from error

    return values(), provenance


def _fetch_commit(
    data: Data, revision: str, load_commit: Callable[..., Any] | None = None
) -> tuple[Any, dict[str, Any]]:
    """Resolve `revision` to a commit and load it. All requests to the hub are made here."""
    try:
        info = HfApi().dataset_info(str(data.source), revision=revision)
        # The current id: ids without an owner ("squad") still resolve, but cannot be loaded.
        repo, commit = info.id, str(info.sha)
        load_commit = load_commit or (_load_export if revision == PARQUET_EXPORT else _load)
        content = load_commit(data, repo, commit)
    except UserError:
        raise
    except Exception as error:
        raise _explain(data, revision, error) from error
    return content, {"hub_id": repo, "revision": revision, "commit": commit, "config": data.config}


def _load(data: Data, repo: str, commit: str) -> dict[str, datasets.Dataset]:
    return dict(datasets.load_dataset(repo, data.config, revision=commit, cache_dir=_cache_dir(commit, data.config)))


def _cache_dir(commit: str, config: str | None) -> str:
    """Return a cache folder per commit and configuration.

    With a shared cache, `datasets` falls back to any cached version of the data set if the hub fails midway.
    """
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "ftjobs" / f"{commit}-{config or 'default'}")


def _load_export(data: Data, repo: str, commit: str) -> dict[str, datasets.Dataset]:
    """Load `<config>/<split>/<number>.parquet` of the hub's parquet conversion."""
    files = HfApi().list_repo_files(repo, repo_type="dataset", revision=commit)
    by_config: dict[str, dict[str, list[str]]] = {}
    for file in sorted(files):
        parts = file.split("/")
        if len(parts) == 3 and file.endswith(".parquet"):
            by_config.setdefault(parts[0], {}).setdefault(parts[1], []).append(file)
    config = data.config or (next(iter(by_config)) if len(by_config) == 1 else "default")
    if config not in by_config:
        raise UserError(
            f"data.config: {data.config!r} is not a configuration of the hub's parquet conversion of {data.source!r} "
            f"({', '.join(by_config) or 'none'}); set data.config to one of them"
        )
    if any(split.startswith("partial-") for split in by_config[config]):
        raise UserError(
            f"data.source: the hub's parquet conversion of {data.source!r} contains only its first part; "
            "download the data set and set data.source to its files"
        )
    cache_dir = _cache_dir(commit, config)
    return dict(datasets.load_dataset(repo, revision=commit, data_files=by_config[config], cache_dir=cache_dir))


def _rename_splits(data: Data, splits: dict[str, datasets.Dataset]) -> dict[str, datasets.Dataset]:
    """Rename the splits to train, validation and test; a single split is the training split."""
    if len(splits) == 1:
        return {"train": next(iter(splits.values()))}
    names = [SPLIT_NAMES.get(name) for name in splits]
    if None in names or "train" not in names or len(set(names)) < len(names):
        raise UserError(
            f"data.source: {data.source!r} has the splits {', '.join(splits)}, which are not train, validation (or "
            "valid, val, dev) and test; save the splits to use as files and set data.source to "
            "{train: FILE, test: FILE}"
        )
    return {SPLIT_NAMES[name]: rows for name, rows in splits.items()}


def _check_splits(data: Data, splits: dict[str, datasets.Dataset], required: RequiredColumns) -> dict[str, pa.Table]:
    tables, problems = {}, []
    for split, rows in splits.items():
        where = f"{data.source}, split {split}"
        missing = missing_columns(where, rows.column_names, required)
        if missing or not len(rows):
            problems += missing or [f"{where}: has no rows; choose another revision or configuration"]
            continue
        selected = rows.select_columns(list(required))
        label = next(iter(data.label_columns), None)
        if label is not None and _is_unlabeled(selected.data.column(label)):
            problems.append(
                f"{where}: is unlabeled (column {label!r} is -1 in all {len(selected)} rows), as test splits of "
                "benchmarks are; save the labeled splits as files and set data.source to {train: FILE, test: FILE}"
            )
            continue
        tables[split], split_problems = _check_rows(where, selected, required, data.label_separator)
        problems += split_problems
    if problems:
        raise UserError(problems)
    return tables


def _check_rows(
    where: str, dataset: datasets.Dataset, required: RequiredColumns, separator: str
) -> tuple[pa.Table, list[str]]:
    """Return the memory-mapped rows with normalized types, and their problems."""
    checker, rows, start = ColumnChecker(where, required, separator), TableFile(), 0
    for batch in iter_tables(dataset):
        table = normalize_types(batch, dataset.features)
        checked = checker.check(table, row_locator(start))
        if checked is not None:
            rows.append(checked)
        start += len(table)
    problems = checker.problems()
    return (pa.table({}) if problems else rows.mapped()), problems


def _is_unlabeled(labels: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_integer(labels.type)) and pc.unique(labels).to_pylist() == [-1]


def _explain(data: Data, revision: str, error: BaseException) -> FtjobsError:
    """Convert an error of `datasets` or `huggingface_hub`: a UserError, or an FtjobsError that may be temporary."""
    where = f"data.source: {data.source!r} at revision {revision!r}"
    if refused := refusal(error, str(data.source), "dataset"):
        return UserError(f"{where}: {refused}")
    if any(is_temporary(cause) for cause in causes(error)):
        return FtjobsError(f"{where}: the hub is unreachable ({reason(error)}); check the network and try again")
    if "Dataset scripts are no longer supported" in str(error):
        return DatasetScriptError(
            f"{where} is a Python script, which ftjobs does not run; the hub's parquet conversion of such data sets is "
            f"revision {PARQUET_EXPORT}"
        )
    return UserError(
        f"{where}, configuration {data.config or 'default'!r}: datasets cannot read it ({reason(error)}); set "
        "data.config or data.revision, or download the data set and set data.source to its files"
    )
