"""Reading a job's labelled data from where the job file says it is: files on this machine, or a data set on the hub."""

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
from ftjobs.data.readers import columns, hub
from ftjobs.data.readers.files import read_file
from ftjobs.errors import UserError
from ftjobs.jobfile import local_files
from ftjobs.jobfile.fields import Data
from ftjobs.tasks import get_task
from ftjobs.tasks.cells import arrow_type_name

log = logging.getLogger(__name__)

# How data sets on the hub, and many elsewhere, name the files of a split: train.csv, dev-00000-of-00002.parquet.
_SPLIT_FILE = re.compile(r"(train|validation|valid|val|dev|test)(?![A-Za-z])")


@dataclass(frozen=True)
class Source:
    """Rows as they are at the source, before any division of ours."""

    splits: dict[str, Dataset]
    """`train`, and `validation` and `test` if the source has them, in files that are mapped into memory. Columns: the
    texts (strings), the label and the column to group by (strings, int64 or booleans), whichever the job names; nothing
    missing."""
    provenance: dict[str, Any]
    """What was read, as JSON: either `files` (split, name, bytes, sha256; no folder, so that the same files give the
    same record on every machine) or `hub_id`, `revision`, `commit` and `config`."""


class _File(NamedTuple):
    split: str
    name: str
    path: Path


def read(data: Data) -> Source:
    """Read and check everything that `data` names.

    Raises UserError with the problems of all files when the data or the job file must be mended, FtjobsError when
    reading failed for a reason that may pass.
    """
    needed = columns.wanted(data)
    if isinstance(data.source, dict) or local_files.is_local(data.source):
        tables, origin = _read_files(data, needed)
    else:
        _refuse_url("data.source", data.source)
        tables, origin = hub.load(data, needed)
    if isinstance(data.label, str) and (fewest := get_task(data.label_type).min_classes):
        classes = pc.unique(tables["train"][data.label]).to_pylist()
        if len(classes) < fewest:
            raise UserError(
                f"data.label: column {data.label!r} is {classes[0]!r} in all {len(tables['train'])} training rows of "
                f"{data.source!r}; a classifier needs two classes or more: check data.label and the data"
            )
    # With a fingerprint given, `datasets` does not read everything to make one.
    return Source({split: Dataset(table, fingerprint=split) for split, table in tables.items()}, origin)


def _read_files(data: Data, needed: columns.Needed) -> tuple[dict[str, pa.Table], dict[str, Any]]:
    parts: dict[str, TableFile] = {}
    first: dict[str, tuple[Path, pa.Schema]] = {}
    provenance = []
    problems: list[str] = []
    for split, name, path in _files(data):
        schema = pa.schema([])
        try:
            for table in _rows_of(path, data, needed):
                schema = table.schema
                if not problems and schema == first.get(split, (path, schema))[1]:  # else only to find more problems
                    parts.setdefault(split, TableFile()).append(table)
        except UserError as error:
            problems += error.problems
            continue
        problems += _disagreements(path, schema, *first.setdefault(split, (path, schema)))
        sha256 = local_files.digest(path)
        provenance.append({"split": split, "name": name, "bytes": path.stat().st_size, "sha256": sha256})
    if problems:
        raise UserError(problems)
    return {split: part.mapped() for split, part in parts.items()}, {"files": provenance}


def _rows_of(path: Path, data: Data, needed: columns.Needed) -> Iterator[pa.Table]:
    return read_file(path, local_files.format_of(path, data.format), data.columns, needed, data.label_separator)


def _disagreements(path: Path, schema: pa.Schema, first_path: Path, first: pa.Schema) -> list[str]:
    """Files of one split become one table: a column has one type in all of them."""
    return [
        f"{path}: column {name!r} holds {arrow_type_name(schema.field(name).type)}, but in {first_path} "
        f"{arrow_type_name(first.field(name).type)}; write it alike in all files"
        for name in schema.names
        if schema.field(name).type != first.field(name).type
    ]


def _files(data: Data) -> list[_File]:
    """Every file of the source with its split, in the order in which rows are concatenated."""
    if isinstance(data.source, str):
        return _divided_by_name(data.source)
    if "train" not in data.source:
        raise UserError(f"data.source: names {', '.join(data.source)} but no train; add train: FILE")
    files, problems = [], []
    for split, source in data.source.items():
        try:
            _refuse_url(f"data.source.{split}", source)
            files += [_File(split, path.name, path) for path in local_files.expand(source)]
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return files


def _divided_by_name(source: str) -> list[_File]:
    """Files whose names, or the folders they are in, say their split; all are training rows if none says train."""
    paths = local_files.expand(source)
    root = Path(os.path.expanduser(source))
    names = [path.relative_to(root) if root.is_dir() else Path(path.name) for path in paths]
    splits = [_split_of(name) for name in names]
    if root.is_file() or "train" not in splits:
        splits = ["train"] * len(paths)
    ignored = [name.as_posix() for name, split in zip(names, splits, strict=True) if split is None]
    if ignored:
        log.warning("%s: not read, because their names say no split while others' do: %s", source, ", ".join(ignored))
    return [
        _File(split, name.as_posix(), path) for split, name, path in zip(splits, names, paths, strict=True) if split
    ]


def _split_of(name: Path) -> str | None:
    for part in name.parts:
        match = _SPLIT_FILE.match(part)
        if match:
            return hub.SPLIT_NAMES[match[1]]
    return None


def _refuse_url(field: str, source: str) -> None:
    if "://" in source:
        raise UserError(
            f"{field}: {source!r}: of addresses only s3:// is read; download the file first (curl -O) and name the copy"
        )
