"""Read labeled data from the `source` of a job file: local files or a Hugging Face data set."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from datasets import Dataset

from ftjobs.data.memory_mapped import TableFile
from ftjobs.data.readers import hub_datasets
from ftjobs.data.readers.columns import RequiredColumns, required_columns
from ftjobs.data.readers.files import read_file
from ftjobs.errors import UserError
from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import Data
from ftjobs.tasks import get_task
from ftjobs.tasks.cells import arrow_type_name

log = logging.getLogger(__name__)

# Common names of split files: train.csv, dev-00000-of-00002.parquet.
_SPLIT_FILE = re.compile(r"(train|validation|valid|val|dev|test)(?![A-Za-z])")


@dataclass(frozen=True)
class Source:
    """The rows of a source with the source's own splits."""

    splits: dict[str, Dataset]
    """`train`, and `validation` and `test` if the source has them, memory-mapped. Columns: texts (strings), label and
    grouping column (strings, int64 or booleans) as named by the job, without missing values."""
    provenance: dict[str, Any]
    """JSON: either `files` (split, name, bytes, sha256; no folder, so that equal files have equal records on every
    machine) or `hub_id`, `revision`, `commit` and `config`."""


class _SplitFile(NamedTuple):
    split: str
    name: str
    path: Path


def read(data: Data) -> Source:
    """Read and check all rows of `data`.

    Raises:
        UserError: the data or the job file is invalid; contains the problems of all files.
        FtjobsError: reading failed for a possibly temporary reason.
    """
    required = required_columns(data)
    if isinstance(data.source, dict) or local_files.is_local(data.source):
        tables, provenance = _read_files(data, required)
    else:
        _reject_url("data.source", data.source)
        tables, provenance = hub_datasets.load(data, required)
    if isinstance(data.label, str) and (min_classes := get_task(data.label_type).min_classes):
        classes = pc.unique(tables["train"][data.label]).to_pylist()
        if len(classes) < min_classes:
            raise UserError(
                f"data.label: column {data.label!r} is {classes[0]!r} in all {len(tables['train'])} training rows of "
                f"{data.source!r}; a classifier requires at least {min_classes} classes: check data.label and the data"
            )
    # An explicit fingerprint keeps `datasets` from reading all rows to compute one.
    return Source({split: Dataset(table, fingerprint=split) for split, table in tables.items()}, provenance)


def _read_files(data: Data, required: RequiredColumns) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    tables: dict[str, TableFile] = {}
    first_schemas: dict[str, tuple[Path, pa.Schema]] = {}  # of each split, with the file
    provenance = []
    problems: list[str] = []
    for split, name, path in _split_files(data):
        schema = pa.schema([])
        try:
            for table in _read_tables(path, data, required):
                schema = table.schema
                # After the first problem, files are only read to find further problems.
                if not problems and schema == first_schemas.get(split, (path, schema))[1]:
                    tables.setdefault(split, TableFile()).append(table)
        except UserError as error:
            problems += error.problems
            continue
        problems += _type_conflicts(path, schema, *first_schemas.setdefault(split, (path, schema)))
        sha256 = local_files.digest(path)
        provenance.append({"split": split, "name": name, "bytes": path.stat().st_size, "sha256": sha256})
    if problems:
        raise UserError(problems)
    return {split: table.mapped() for split, table in tables.items()}, {"files": provenance}


def _read_tables(path: Path, data: Data, required: RequiredColumns) -> Iterator[pa.Table]:
    return read_file(path, local_files.format_of(path, data.format), data.columns, required, data.label_separator)


def _type_conflicts(path: Path, schema: pa.Schema, first_path: Path, first: pa.Schema) -> list[str]:
    """Return the columns whose type differs from that in the first file of the split."""
    return [
        f"{path}: column {name!r} contains {arrow_type_name(schema.field(name).type)}, but in {first_path} "
        f"{arrow_type_name(first.field(name).type)}; use one type in all files"
        for name in schema.names
        if schema.field(name).type != first.field(name).type
    ]


def _split_files(data: Data) -> list[_SplitFile]:
    """Return the files of the source, in the order in which rows are concatenated."""
    if isinstance(data.source, str):
        return _split_by_name(data.source)
    if "train" not in data.source:
        raise UserError(f"data.source: has {', '.join(data.source)} but no train; add train: FILE")
    files, problems = [], []
    for split, source in data.source.items():
        try:
            _reject_url(f"data.source.{split}", source)
            files += [_SplitFile(split, path.name, path) for path in local_files.expand(source)]
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return files


def _split_by_name(source: str) -> list[_SplitFile]:
    """Assign files to splits by the names of the files or their folders; all to train if no name contains train."""
    paths = local_files.expand(source)
    root = Path(os.path.expanduser(source))
    names = [path.relative_to(root) if root.is_dir() else Path(path.name) for path in paths]
    splits = [_split_of_name(name) for name in names]
    if root.is_file() or "train" not in splits:
        splits = ["train"] * len(paths)
    ignored = [name.as_posix() for name, split in zip(names, splits, strict=True) if split is None]
    if ignored:
        log.warning("%s: ignored files without a split in their name: %s", source, ", ".join(ignored))
    return [
        _SplitFile(split, name.as_posix(), path)
        for split, name, path in zip(splits, names, paths, strict=True)
        if split
    ]


def _split_of_name(name: Path) -> str | None:
    for part in name.parts:
        match = _SPLIT_FILE.match(part)
        if match:
            return hub_datasets.SPLIT_NAMES[match[1]]
    return None


def _reject_url(field: str, source: str) -> None:
    if "://" in source:
        raise UserError(
            f"{field}: {source!r}: only s3:// addresses are supported; download the file (curl -O) and use its path"
        )
