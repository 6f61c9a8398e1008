"""Job file and `--set` overrides to a validated `Job`, or every problem of the file at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ftjobs.errors import UserError
from ftjobs.jobfile import localfiles, yamltext
from ftjobs.jobfile.checks import check
from ftjobs.jobfile.fields import Job


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
    data, lines = yamltext.parse(text, str(path))
    if not isinstance(data, dict):
        raise UserError(f"{path}: a job file is a mapping with `name`, `encoder`, `data` and `stages`")
    _anchor_paths(data, path.parent)
    origins = [_override(data, override) for override in overrides]
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

    def __init__(self, file: str, lines: dict[yamltext.Path, int], overrides: list[tuple[yamltext.Path, str]]) -> None:
        self.file, self.lines, self.overrides = file, lines, overrides

    def of(self, path: yamltext.Path) -> str:
        dotted = ".".join(str(part) for part in path)
        for prefix, override in reversed(self.overrides):
            if path[: len(prefix)] == prefix:
                return f"--set {override}: {dotted}" if path != prefix else f"--set {override}"
        known = path
        while known and known not in self.lines:
            known = known[:-1]
        line = f":{self.lines[known]}" if known in self.lines else ""
        return f"{self.file}{line}: {dotted}" if dotted else f"{self.file}{line}"


def _anchor_paths(data: dict[str, Any], folder: Path) -> None:
    """Make the paths that stand in the file relative to the file's own folder, in place."""

    def anchored(value: Any) -> Any:
        if not isinstance(value, str) or value.startswith(("/", "~", "s3://")) or "\0" in value:
            return value
        if localfiles.written_as_path(value) or (folder / value).exists():
            return str(folder / value)
        return value

    encoder, source = data.get("encoder"), data.get("data")
    if isinstance(encoder, dict) and "model" in encoder:
        encoder["model"] = anchored(encoder["model"])
    if isinstance(source, dict) and "source" in source:
        given = source["source"]
        source["source"] = {k: anchored(v) for k, v in given.items()} if isinstance(given, dict) else anchored(given)


def _override(data: dict[str, Any], override: str) -> yamltext.Path:
    """Apply `a.b.c=value` to `data` in place; returns the path it set."""
    dotted, equals, value = override.partition("=")
    keys = dotted.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"--set {override}: is not of the form a.b.c=value")
    parsed, _ = yamltext.parse(value, f"--set {override}")
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
    by_path: dict[yamltext.Path, list[str]] = {}
    for detail in error.errors(include_url=False):
        path = _path_in(data, detail)
        by_path.setdefault(path, []).append(_explain(detail, path))
    for path, messages in by_path.items():
        deeper = any(other[: len(path)] == path and other != path for other in by_path)
        if deeper and all("should be" in message for message in messages):
            continue  # the other arm of a union; the deeper problem says what is wrong
        yield f"{places.of(path)}: {', or '.join(dict.fromkeys(messages))}"


def _path_in(data: Any, detail: ErrorDetails) -> yamltext.Path:
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


def _explain(detail: ErrorDetails, path: yamltext.Path) -> str:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return "is missing; it has no default"
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), path)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        return "needs `kind: adapt` or `kind: classify`" + (f", not `{context['tag']}`" if "tag" in context else "")
    message = detail["msg"].removeprefix("Value error, ").removeprefix("Assertion failed, ")
    if kind == "value_error":
        return message
    if kind == "string_pattern_mismatch":
        message = "Input should be a DNS label: lower-case letters, digits and dashes, not at either end"
    message = message[0].lower() + message[1:]
    if kind == "bool_type":
        message += ": true or false"
    shown = repr(detail["input"])
    return f"{message}, not {shown if len(shown) <= 80 else shown[:77] + '…'}"


def _unknown_key(key: str, path: yamltext.Path) -> str:
    known = sorted(_keys_at(path[:-1]))
    close = difflib.get_close_matches(key, known, n=1)
    remedy = f"did you mean `{close[0]}`?" if close else f"known here: {', '.join(known)}"
    return f"unknown key; {remedy}"


def _keys_at(path: yamltext.Path) -> set[str]:
    """The keys that the schema knows at a path: all stage kinds' keys inside a stage."""
    schema = Job.model_json_schema()

    def resolve(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        yield node
        for arm in (*node.get("anyOf", ()), *node.get("oneOf", ())):
            yield from resolve(arm)

    nodes = list(resolve(schema))
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
