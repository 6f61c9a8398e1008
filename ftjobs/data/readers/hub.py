"""Reading a data set from the hub: exactly one commit of it, which is recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.compute as pc
from huggingface_hub import HfApi

from ftjobs.data.memory_mapped import TableFile
from ftjobs.data.readers.columns import TEXT_FIELD, Needed, Values, conform, in_batches, missing, row_after
from ftjobs.errors import FtjobsError, UserError
from ftjobs.jobfile.fields import Data
from ftjobs.system.hub_errors import causes, is_temporary, reason, refusal

PARQUET_EXPORT = "refs/convert/parquet"
"""Branch to which the hub converts data sets, among them those that come as a Python script."""

SPLIT_NAMES = {"train": "train", "test": "test", **dict.fromkeys(("validation", "valid", "val", "dev"), "validation")}


class DatasetScriptError(UserError):
    """The data set is a Python script, which `datasets` does not run."""


def load(data: Data, needed: Needed) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    """Splits of the hub data set `data.source` with the needed columns, and which commit they are from.

    A data set that is a Python script is read from the hub's own conversion to parquet instead, if `revision` is
    `main`: `datasets` runs no scripts, and the conversion has a commit of its own.

    Raises UserError when the data set, its revision, configuration or columns are not there; FtjobsError when the hub
    does not answer.
    """
    loaded, origin = fetch(data)
    return _tables(data, _renamed(data, loaded), needed), origin


def fetch(data: Data) -> tuple[dict[str, datasets.Dataset], dict[str, Any]]:
    """Splits of the hub data set `data.source` under their own names, all rows and columns; raises as `load`."""
    try:
        return _fetch(data, data.revision)
    except DatasetScriptError as script:
        if data.revision != "main":
            raise
        try:
            return _fetch(data, PARQUET_EXPORT)
        except UserError as error:
            raise UserError([*script.problems, *error.problems]) from error


def stream(data: Data, choose: Callable[[list[str], str], str], seed: int) -> tuple[Iterator[Any], dict[str, Any]]:
    """The values of the text column in one split of the hub data set `data.source`, fetched while they are read.

    Args:
        data: with one text column.
        choose: the split to read, from the names of all and the data set's.
        seed: of the order in which the split's files are read.

    Returns:
        The values, and which commit they are from. Raises as `load`; so does reading a value that cannot be fetched.
    """

    def start(data: Data, repo: str, commit: str) -> Any:
        names = datasets.get_dataset_split_names(repo, data.config, revision=commit)
        rows = datasets.load_dataset(repo, data.config, revision=commit, split=choose(names, repo), streaming=True)
        return rows.shuffle(seed=seed, buffer_size=1)

    rows, origin = _fetch(data, data.revision, start)
    (column,) = data.text_columns
    if problems := missing(str(data.source), list(rows.features or next(iter(rows), {})), {column: TEXT_FIELD}):
        raise UserError(problems)

    def values() -> Iterator[Any]:
        try:
            yield from (row[column] for row in rows.select_columns([column]))
        except Exception as error:
            raise _explained(data, data.revision, error) from error

    return values(), origin


def _fetch(data: Data, revision: str, load_commit: Callable[..., Any] | None = None) -> tuple[Any, dict[str, Any]]:
    """Everything that talks to the hub: find the commit that `revision` is today, and load it."""
    try:
        info = HfApi().dataset_info(str(data.source), revision=revision)
        # The id as the hub has it today: old ones without an owner ("squad") still resolve, but do not load.
        repo, commit = info.id, str(info.sha)
        load_commit = load_commit or (_load_export if revision == PARQUET_EXPORT else _load)
        loaded = load_commit(data, repo, commit)
    except UserError:
        raise
    except Exception as error:
        raise _explained(data, revision, error) from error
    return loaded, {"hub_id": repo, "revision": revision, "commit": commit, "config": data.config}


def _load(data: Data, repo: str, commit: str) -> dict[str, datasets.Dataset]:
    return dict(datasets.load_dataset(repo, data.config, revision=commit, cache_dir=_cache(commit, data.config)))


def _cache(commit: str, config: str | None) -> str:
    """A cache for each commit and configuration: where the hub fails halfway, `datasets` takes whatever version of the
    data set its cache has."""
    return str(Path(datasets.config.HF_DATASETS_CACHE) / "ftjobs" / f"{commit}-{config or 'default'}")


def _load_export(data: Data, repo: str, commit: str) -> dict[str, datasets.Dataset]:
    """Load `<config>/<split>/<number>.parquet` of the hub's parquet conversion."""
    files = HfApi().list_repo_files(repo, repo_type="dataset", revision=commit)
    by_config: dict[str, dict[str, list[str]]] = {}
    for file in sorted(files):
        folders = file.split("/")
        if len(folders) == 3 and file.endswith(".parquet"):
            by_config.setdefault(folders[0], {}).setdefault(folders[1], []).append(file)
    config = data.config or (next(iter(by_config)) if len(by_config) == 1 else "default")
    if config not in by_config:
        raise UserError(
            f"data.config: {data.config!r} is none of the configurations that the hub's parquet conversion of "
            f"{data.source!r} has ({', '.join(by_config) or 'none'}); set data.config to one of them"
        )
    if any(split.startswith("partial-") for split in by_config[config]):
        raise UserError(
            f"data.source: the hub's parquet conversion of {data.source!r} holds only its first part; "
            "download the data set and name its files"
        )
    cache = _cache(commit, config)
    return dict(datasets.load_dataset(repo, revision=commit, data_files=by_config[config], cache_dir=cache))


def _renamed(data: Data, loaded: dict[str, datasets.Dataset]) -> dict[str, datasets.Dataset]:
    """The splits under our names; a single one is the training split."""
    if len(loaded) == 1:
        return {"train": next(iter(loaded.values()))}
    names = [SPLIT_NAMES.get(name) for name in loaded]
    if None in names or "train" not in names or len(set(names)) < len(names):
        raise UserError(
            f"data.source: {data.source!r} has the splits {', '.join(loaded)}, which are not train, validation (or "
            "valid, val, dev) and test; save the splits you want as files and write "
            "data.source as {train: FILE, test: FILE}"
        )
    return {SPLIT_NAMES[name]: dataset for name, dataset in loaded.items()}


def _tables(data: Data, loaded: dict[str, datasets.Dataset], needed: Needed) -> dict[str, pa.Table]:
    tables, problems = {}, []
    for split, dataset in loaded.items():
        where = f"{data.source}, split {split}"
        absent = missing(where, dataset.column_names, needed)
        if absent or not len(dataset):
            problems += absent or [f"{where}: has no rows; choose another revision or configuration"]
            continue
        columns = dataset.select_columns(list(needed))
        label = next(iter(data.label_columns), None)
        if label is not None and _unlabelled(columns.data.column(label)):
            problems.append(
                f"{where}: is unlabelled (column {label!r} is -1 in all {len(columns)} rows), as test splits of "
                "benchmarks are; save the labelled splits as files and write data.source as {train: FILE, test: FILE}"
            )
            continue
        table, found = _checked(where, columns, needed, data.label_separator)
        tables[split] = table
        problems += found
    if problems:
        raise UserError(problems)
    return tables


def _checked(where: str, dataset: datasets.Dataset, needed: Needed, separator: str) -> tuple[pa.Table, list[str]]:
    """The rows as we keep them, and what is wrong with them."""
    values, rows, start = Values(where, needed, separator), TableFile(), 0
    for batch in in_batches(dataset):
        table = conform(batch, dataset.features)
        taken = values.taken(table, row_after(start))
        if taken is not None:
            rows.append(taken)
        start += len(table)
    problems = values.problems()
    return (pa.table({}) if problems else rows.mapped()), problems


def _unlabelled(labels: pa.ChunkedArray) -> bool:
    return bool(pa.types.is_integer(labels.type)) and pc.unique(labels).to_pylist() == [-1]


def _explained(data: Data, revision: str, error: BaseException) -> FtjobsError:
    """What went wrong on the way to the hub, as an error of ours: the user's to mend, or worth another try."""
    here = f"data.source: {data.source!r} at revision {revision!r}"
    if said := refusal(error, str(data.source), "dataset"):
        return UserError(f"{here}: {said}")
    if any(is_temporary(link) for link in causes(error)):
        return FtjobsError(f"{here}: the hub cannot be reached ({reason(error)}); check the network and try again")
    if "Dataset scripts are no longer supported" in str(error):
        return DatasetScriptError(
            f"{here} is a Python script, which is not run; the hub's own conversion of such data sets to parquet is "
            f"their revision {PARQUET_EXPORT}"
        )
    return UserError(
        f"{here}, configuration {data.config or 'default'!r}: datasets cannot read it ({reason(error)}); set "
        "data.config or data.revision, or download the data set and name its files"
    )
