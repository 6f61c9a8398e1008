"""Read a job file and `--set` overrides to a validated `Job`, or report every problem at once."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ftjobs.errors import UserError
from ftjobs.jobfile import local_files, yaml_text
from ftjobs.jobfile.checks import check
from ftjobs.jobfile.fields import Job
from ftjobs.jobfile.local_files import data_mappings, map_source
from ftjobs.jobfile.validation_errors import Places, explain_errors


def read(path: Path, overrides: Sequence[str] = ()) -> Job:
    """Read and validate a job file.

    Args:
        path: the YAML file. Relative paths in it are relative to its folder.
        overrides: `a.b.c=value`, each replacing one field; the value is YAML, and paths in it are relative to the
            current directory.

    Raises:
        UserError: with one line per problem: place, value and remedy.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the job file as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: cannot read the job file ({error.strerror}); check the path") from error
    data, lines = yaml_text.parse(text, str(path))
    if not isinstance(data, dict):
        raise UserError(f"{path}: a job file is a mapping with `name`, `encoder`, `data` and `stages`")
    _resolve_paths(data, path.parent)
    _read_word_lists(data, path.parent)
    origins = [_apply_override(data, override) for override in overrides]
    _read_word_lists(data, Path())  # of overrides
    places = Places(str(path), lines, list(zip(origins, overrides, strict=True)))
    try:
        job = Job.model_validate(data)
    except ValidationError as error:
        raise UserError(list(explain_errors(error, data, places))) from error
    problems = [f"{places.of(where)}: {message}" for where, message in check(job)]
    if problems:
        raise UserError(problems)
    return job


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Replace paths relative to the folder of the job file by absolute ones, in place."""

    def resolve(value: Any) -> Any:
        if not isinstance(value, str) or not value or value.startswith(("/", "~")) or "://" in value:
            return value
        path = str(folder.absolute() / value)  # absolute, so that it is still written as a path if it does not exist
        if os.path.exists(path):
            return path
        if glob.has_magic(value):
            return os.path.join(glob.escape(str(folder.absolute())), value)
        return path if local_files.written_as_path(value) else value

    encoder = data.get("encoder")
    if isinstance(encoder, dict) and "model" in encoder:
        encoder["model"] = resolve(encoder["model"])
    for _, mapping in data_mappings(data):
        if mapping.get("source") is not None:
            mapping["source"] = map_source(mapping["source"], lambda address, _: resolve(address))


def _apply_override(data: dict[str, Any], override: str) -> yaml_text.Path:
    """Apply `a.b.c=value` to `data` in place, and return the path that it set."""
    dotted, equals, value = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"--set {override}: is not of the form a.b.c=value")
    parsed, _ = yaml_text.parse(value, f"--set {override}", numbered=False)
    here = data
    for depth, key in enumerate(keys[:-1]):
        if here.get(key) is None:
            here[key] = {}
        here = here[key]
        if not isinstance(here, dict):
            raise UserError(f"--set {override}: `{'.'.join(keys[: depth + 1])}` has no fields; set it as a whole")
    here[keys[-1]] = parsed
    return tuple(keys)


def _read_word_lists(data: dict[str, Any], folder: Path) -> None:
    """Replace the file of every `vocabulary.add` by its words, in place, so that planning and running need no file.

    Args:
        data: plain data of the job file.
        folder: paths are relative to it.

    Raises:
        UserError: a file cannot be read, has no words, or several on a line.
    """
    for field, vocabulary in _vocabularies(data):
        source = vocabulary.get("add")
        if isinstance(source, str) and source and "://" not in source:
            vocabulary["add"] = read_words(folder / os.path.expanduser(source), field)


def _vocabularies(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the `vocabulary` mappings of a possibly invalid job file, with the path of their `add`."""
    for part in ("defaults", "stages"):
        stages = data.get(part)
        for name, stage in stages.items() if isinstance(stages, dict) else []:
            vocabulary = stage.get("vocabulary") if isinstance(stage, dict) else None
            if isinstance(vocabulary, dict):
                yield f"{part}.{name}.vocabulary.add", vocabulary


def read_words(path: Path, field: str) -> list[str]:
    """Return the distinct words of a file with one word per line, in order. Blank lines are skipped.

    Args:
        path: the file.
        field: path of the field in the job file, for error messages.

    Raises:
        UserError: the file does not exist, is not text, has no words, or several on a line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"{field}: {path.name!r} cannot be read ({reason}; looked at {path.absolute()}); use a number, words, or "
            "a text file with one word per line, relative to the job file"
        ) from error
    words = dict.fromkeys(line.strip() for line in lines if line.strip())
    for word in words:
        if word.split() != [word]:
            number = 1 + next(index for index, line in enumerate(lines) if line.strip() == word)
            raise UserError(f"{field}: {path}, line {number}: {word!r} is not a single word; write one word per line")
    if not words:
        raise UserError(f"{field}: {path} contains no words; write one word per line")
    return list(words)
