"""Job file and `--set` overrides to a validated `Job`, or every problem of the file at once."""

from __future__ import annotations

import difflib
import glob
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ftjobs.errors import UserError
from ftjobs.jobfile import local_files, yaml_text
from ftjobs.jobfile.checks import check
from ftjobs.jobfile.data_mappings import data_mappings, each_source
from ftjobs.jobfile.fields import Job
from ftjobs.jobfile.word_list import put_words


def read(path: Path, overrides: Sequence[str] = ()) -> Job:
    """Read and validate a job file.

    Args:
        path: the YAML file. Relative paths inside it are relative to its folder.
        overrides: `a.b.c=value`, each replacing one field; the value is YAML, and relative to the current directory
            where it is a path.

    Raises:
        UserError: with one line for every problem found: place, value, and what would be right.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start} is not UTF-8; save the job file as UTF-8") from error
    except OSError as error:
        raise UserError(f"{path}: cannot read the job file: {error.strerror}") from error
    data, lines = yaml_text.parse(text, str(path))
    if not isinstance(data, dict):
        raise UserError(f"{path}: a job file is a mapping with `name`, `encoder`, `data` and `stages`")
    _anchor_paths(data, path.parent)
    put_words(data, path.parent)
    origins = [_override(data, override) for override in overrides]
    put_words(data, Path())  # of files that overrides name
    places = _Places(str(path), lines, list(zip(origins, overrides, strict=True)))
    try:
        job = Job.model_validate(data)
    except ValidationError as error:
        raise UserError(list(_problems(error, data, places))) from error
    problems = [f"{places.of(where)}: {message}" for where, message in check(job)]
    if problems:
        raise UserError(problems)
    return job


class _Places:
    """Names the place that a value came from: file and line, or the override that set it."""

    def __init__(
        self, file: str, lines: dict[yaml_text.Path, int], overrides: list[tuple[yaml_text.Path, str]]
    ) -> None:
        self.file, self.lines, self.overrides = file, lines, overrides

    def of(self, path: yaml_text.Path) -> str:
        dotted = ".".join(str(part) for part in path)
        for prefix, override in reversed(self.overrides):
            made_it = path not in self.lines and prefix[: len(path)] == path
            if path[: len(prefix)] == prefix or made_it:
                return f"--set {override}: {dotted}" if path != prefix else f"--set {override}"
        place = f"{self.file}:{self.line(path)}"
        return f"{place}: {dotted}" if path else place

    def line(self, path: yaml_text.Path) -> int:
        """Line of a value in the file, or of what should contain it."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def _anchor_paths(data: dict[str, Any], folder: Path) -> None:
    """Make the paths that stand in the file relative to the file's own folder, in place."""

    def anchored(value: Any) -> Any:
        if not isinstance(value, str) or not value or value.startswith(("/", "~")) or "://" in value:
            return value
        path = str(folder.absolute() / value)  # absolute, so that it still reads as a path where no such file exists
        if os.path.exists(path):
            return path
        if glob.has_magic(value):
            return os.path.join(glob.escape(str(folder.absolute())), value)
        return path if local_files.written_as_path(value) else value

    encoder = data.get("encoder")
    if isinstance(encoder, dict) and "model" in encoder:
        encoder["model"] = anchored(encoder["model"])
    for _, mapping in data_mappings(data):
        if mapping.get("source") is not None:
            mapping["source"] = each_source(mapping["source"], lambda one, _: anchored(one))


def _override(data: dict[str, Any], override: str) -> yaml_text.Path:
    """Apply `a.b.c=value` to `data` in place; returns the path it set."""
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


def _problems(error: ValidationError, data: dict[str, Any], places: _Places) -> Iterator[str]:
    """One line for each invalid field, in the file's order, alternatives of a union joined."""
    by_path: dict[yaml_text.Path, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_path.setdefault(_path_in(data, detail), []).append(detail)
    for path in sorted(by_path, key=places.line):
        details = by_path[path]
        deeper = any(other[: len(path)] == path and other != path for other in by_path)
        if deeper and all(_of_another_type(detail) for detail in details):
            continue  # the other arm of a union; the deeper problem says what is wrong
        fitting = [detail for detail in details if not _of_another_type(detail)]
        yield f"{places.of(path)}: {_explain(fitting or details, path)}"


def _path_in(data: Any, detail: ErrorDetails) -> yaml_text.Path:
    """The path of an error in the user's data: pydantic's location without the names of union members."""
    path: list[str | int] = []
    here, location = data, detail["loc"]
    for position, part in enumerate(location):
        inside = (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        )
        if inside:
            here = here[part]
            path.append(part)
        elif detail["type"] == "missing" and position == len(location) - 1:
            path.append(part)
    return tuple(path)


_MAPPING = "a mapping (`key: value`)"
#: Types of error that say that a value is of another type than this arm of a union takes.
_WRONG_TYPE = {
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dict_type": _MAPPING,
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}


def _of_another_type(detail: ErrorDetails) -> bool:
    """Whether it is about an arm of a union that the value was not meant for."""
    fixed_words = detail["type"] == "literal_error" and isinstance(detail["input"], dict | list)
    return fixed_words or detail["type"] in _WRONG_TYPE


def _explain(details: list[ErrorDetails], path: yaml_text.Path) -> str:
    """What is wrong with the value at a path, the value, and what would be right."""
    detail = details[0]
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "missing":
        return "is missing; it has no default"
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), path, detail)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        found = f", not {_shown(value['kind'])}" if "tag" in context else ""
        return f"needs `kind: adapt` or `kind: classify`{found}"
    if kind == "value_error":
        return detail["msg"].removeprefix("Value error, ")
    if kind in ("too_long", "too_short") and not isinstance(value, str):
        if kind == "too_short":
            return "should not be empty"
        return f"should have at most {context['max_length']} items, not {context['actual_length']}"
    if kind == "string_pattern_mismatch":
        problem = "should be a DNS label: lower-case letters, digits and dashes, not at either end"
    elif kind == "string_unicode":
        problem = "should be valid Unicode"
    elif kind in _WRONG_TYPE:
        kinds = dict.fromkeys(_WRONG_TYPE[one["type"]] for one in details)
        problem = f"should be {' or '.join(kinds)}"
    else:
        problem = detail["msg"].removeprefix("Input ").removeprefix("String ")
    return f"{problem}, not {_shown(value)}"


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _unknown_key(key: str, path: yaml_text.Path, detail: ErrorDetails) -> str:
    in_stage = len(path) == 3 and path[0] == "stages"
    kind = detail["loc"][2] if in_stage else None
    known = sorted(_keys_at(path[:-1], kind))
    if in_stage and key in _keys_at(path[:-1], None):
        return f"no key of a stage of kind `{kind}`; known here: {', '.join(known)}"
    close = difflib.get_close_matches(key, known, n=1)
    remedy = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"
    return f"unknown key; {remedy}"


@cache
def _schema() -> dict[str, Any]:
    return Job.model_json_schema()


def _keys_at(path: yaml_text.Path, kind: str | int | None) -> set[str]:
    """The keys that the schema knows at a path; inside a stage those of one kind, or of all kinds for None."""

    def resolve(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in node:
            node = _schema()["$defs"][node["$ref"].rsplit("/", 1)[1]]
        if kind is None or node.get("properties", {}).get("kind", {}).get("const", kind) == kind:
            yield node
        for arm in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            yield from resolve(arm)

    nodes = list(resolve(_schema()))
    for part in path:
        below: list[dict[str, Any]] = []
        for node in nodes:
            if part in node.get("properties", {}):
                below += resolve(node["properties"][part])
            for pattern in node.get("patternProperties", {}).values():
                below += resolve(pattern)
            if isinstance(node.get("additionalProperties"), dict):
                below += resolve(node["additionalProperties"])
        nodes = below
    return {key for node in nodes for key in node.get("properties", {})}
