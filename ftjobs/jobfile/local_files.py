"""What a `source` of a job file means on this machine: which files, in which order, in which format."""

from __future__ import annotations

import glob
import hashlib
import os
from pathlib import Path

from ftjobs.errors import UserError

#: Suffix of a file name -> format. Each may be followed by `.gz`.
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
    """Whether `source` names files on this machine; if not it is a hub id, or a URL such as `s3://bucket/key`.

    Files are what is written as a path, and what exists here.
    """
    return "://" not in source and (written_as_path(source) or os.path.exists(source))


def written_as_path(source: str) -> bool:
    """Whether `source` can only be a path: it starts with `/`, `./`, `../` or `~`, has a glob character, or the suffix
    of a data file. This does not depend on the machine, so a mistyped path is never looked for on the hub."""
    if "://" in source:
        return False
    marked = source.startswith(("/", "./", "../", "~")) or glob.has_magic(source)
    return marked or _suffix_format(Path(source)) is not None


def expand(source: str, field: str = "data.source") -> list[Path]:
    """The files that `source` (a file, a glob or a folder) names, sorted by POSIX path; errors call it `field`.

    A folder is searched to the bottom for names with the suffix of a data file. Hidden files and folders are skipped,
    such as the `..data` that Kubernetes puts beside the files of a mounted ConfigMap.

    Raises UserError when there is no such file.
    """
    path = Path(os.path.expanduser(source))
    if os.path.isdir(path):
        return _sorted_files(path, field)
    if os.path.isfile(path):
        return [path]
    if glob.has_magic(source):
        matches = [Path(match) for match in glob.glob(str(path), recursive=True)]
        files = sorted((match for match in matches if match.is_file()), key=Path.as_posix)
        if files:
            return files
        raise UserError(
            f"{field}: no file matches {source!r} (looked at {path.absolute()}); check the pattern: "
            "`*` stays within a folder, `**/` goes down, hidden files are skipped"
        )
    raise UserError(
        f"{field}: there is no file or folder {source!r} (looked at {path.absolute()}); check the path"
        + (": in a job file it is relative to the job file" if field.endswith("data.source") else "")
    )


def format_of(path: Path, declared: str | None, field: str | None = "data") -> str:
    """`csv`, `tsv`, `jsonl`, `parquet` or `text`: `declared` if given, by `field`.format, else what the name ends in.

    Raises UserError when the name does not tell.
    """
    found = declared or _suffix_format(path)
    if found is None:
        known = f"set {field}.format to one of {', '.join(FORMATS)}" if field else f"end it in {', '.join(SUFFIXES)}"
        raise UserError(f"{path}: the name does not tell the format of the file; {known}, or convert it to one")
    return found


def digest(path: Path) -> str:
    """sha256 of the file's bytes, in hex; reads a piece at a time."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _suffix_format(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes[-1:] == [".gz"]:
        suffixes.pop()
    return SUFFIXES.get(suffixes[-1]) if suffixes else None


def is_data(name: str) -> bool:
    """Whether a file found in a folder counts as data, by its path there: hidden ones, and other suffixes, do not."""
    path = Path(name)
    return _suffix_format(path) is not None and not any(part.startswith(".") for part in path.parts)


def _sorted_files(folder: Path, field: str) -> list[Path]:
    files = [path for path in folder.rglob("*") if is_data(path.relative_to(folder).as_posix()) and path.is_file()]
    if not files:
        raise UserError(
            f"{field}: the folder {str(folder)!r} has no data files (looked at {folder.absolute()}); "
            f"their names must end in one of {', '.join(SUFFIXES)}, each also with .gz"
        )
    return sorted(files, key=Path.as_posix)
