"""Data sources of a job file: locate them in its plain data, expand them to local files, and determine formats."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ftjobs.errors import UserError

#: Format by file name suffix. Each suffix may be followed by `.gz`.
SUFFIXES = {
    ".csv": "csv",
    ".tsv": "tsv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".txt": "text",
    ".text": "text",
}
FORMATS = ("csv", "tsv", "jsonl", "parquet", "text")


def is_local(source: str) -> bool:
    """Return whether `source` names local files: it is written as a path, or exists.

    Otherwise it is a hub id or a URL such as `s3://bucket/key`.
    """
    return "://" not in source and (written_as_path(source) or os.path.exists(source))


def written_as_path(source: str) -> bool:
    """Return whether `source` can only be a path, regardless of which files exist.

    A path starts with `/`, `./`, `../` or `~`, contains a glob character, or has the suffix of a data file. A mistyped
    path is therefore never looked up on the hub.
    """
    if "://" in source:
        return False
    has_mark = source.startswith(("/", "./", "../", "~")) or glob.has_magic(source)
    return has_mark or _suffix_format(Path(source)) is not None


def expand(source: str, field: str = "data.source") -> list[Path]:
    """Return the files of `source`, a file, glob or folder, sorted by POSIX path.

    A folder is searched recursively for names with the suffix of a data file. Hidden files and folders are skipped, for
    example the `..data` of a ConfigMap volume.

    Args:
        source: the path.
        field: the field that names it, for error messages.

    Raises:
        UserError: no such file.
    """
    path = Path(os.path.expanduser(source))
    if os.path.isdir(path):
        return _folder_files(path, field)
    if os.path.isfile(path):
        return [path]
    if glob.has_magic(source):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        files = sorted((match for match in matches if match.is_file()), key=Path.as_posix)
        if files:
            return files
        raise UserError(
            f"{field}: no file matches {source!r} (looked at {path.absolute()}); check the pattern: "
            "`*` does not match subfolders, `**/` does, hidden files are skipped"
        )
    raise UserError(
        f"{field}: there is no file or folder {source!r} (looked at {path.absolute()}); check the path"
        + (", which is relative to the job file" if field.endswith("data.source") else "")
    )


def format_of(path: Path, declared: str | None, field: str | None = "data") -> str:
    """Return the format of a file: `csv`, `tsv`, `jsonl`, `parquet` or `text`.

    Args:
        path: the file.
        declared: the format, if the job file declares it.
        field: the field whose `format` would declare it, for error messages; None if there is no such field.

    Raises:
        UserError: not declared, and the suffix is unknown.
    """
    file_format = declared or _suffix_format(path)
    if file_format is None:
        remedy = f"set {field}.format to one of {', '.join(FORMATS)}" if field else f"end it in {', '.join(SUFFIXES)}"
        raise UserError(f"{path}: the suffix of the name is not that of a known format; {remedy}, or convert the file")
    return file_format


def digest(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def is_data(name: str) -> bool:
    """Return whether a path within a folder is a data file: it has a known suffix and no hidden part."""
    path = Path(name)
    return _suffix_format(path) is not None and not any(part.startswith(".") for part in path.parts)


def _suffix_format(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1]) if suffixes else None


def _folder_files(folder: Path, field: str) -> list[Path]:
    files = [path for path in folder.rglob("*") if is_data(path.relative_to(folder).as_posix()) and path.is_file()]
    if not files:
        raise UserError(
            f"{field}: the folder {str(folder)!r} has no data files (looked at {folder.absolute()}); "
            f"their names must end in one of {', '.join(SUFFIXES)}, each also with .gz"
        )
    return sorted(files, key=Path.as_posix)


def data_mappings(job: dict[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield every mapping with a `source`, and its path: the job's `data`, and `data` and `corpus` of stages.

    Stages are entries of `defaults` and `stages`. `job` may be invalid: values that are not mappings are skipped.
    """
    places: list[tuple[tuple[str, ...], dict[str, Any]]] = [((), job)]
    for group in ("defaults", "stages"):
        for name, fields in _as_mapping(job.get(group)).items():
            places.append(((group, name), _as_mapping(fields)))
    for path, fields in places:
        for field in ("data", "corpus") if path else ("data",):
            if isinstance(fields.get(field), dict):
                yield (*path, field), fields[field]


def map_source(source: Any, change: Callable[[Any, str], Any]) -> Any:
    """Apply a function to every address of a `source`: a single one, a list, or a mapping by split.

    Args:
        source: value of a `source` field.
        change: called with the address and its key: the split, the position in a list, or "".
    """
    if isinstance(source, dict):
        return {split: change(address, split) for split, address in source.items()}
    if isinstance(source, list):
        return [change(address, str(position)) for position, address in enumerate(source)]
    return change(source, "")


def _as_mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
