"""Convert validation errors of pydantic to one-line problems: place, value, and remedy."""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from functools import cache
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from ftjobs.jobfile import yaml_text
from ftjobs.jobfile.fields import Job

_MAPPING = "a mapping (`key: value`)"
#: Expected types by type of error, for values of a type that an alternative of a union does not accept.
_EXPECTED_TYPES = {
    "model_type": _MAPPING,
    "model_attributes_type": _MAPPING,
    "dict_type": _MAPPING,
    "list_type": "a list",
    "string_type": "text",
    "int_type": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
}


class Places:
    """Places that values come from: file and line, or the `--set` override."""

    def __init__(
        self, file: str, lines: dict[yaml_text.Path, int], overrides: list[tuple[yaml_text.Path, str]]
    ) -> None:
        """
        Args:
            file: name of the job file.
            lines: line of each value.
            overrides: the path that each override sets, and its text.
        """
        self.file, self.lines, self.overrides = file, lines, overrides

    def of(self, path: yaml_text.Path) -> str:
        """Return the place of a value and its dotted path."""
        dotted = ".".join(str(part) for part in path)
        for prefix, override in reversed(self.overrides):
            created = path not in self.lines and prefix[: len(path)] == path
            if path[: len(prefix)] == prefix or created:
                return f"--set {override}: {dotted}" if path != prefix else f"--set {override}"
        place = f"{self.file}:{self.line(path)}"
        return f"{place}: {dotted}" if path else place

    def line(self, path: yaml_text.Path) -> int:
        """Return the line of a value, or of its closest parent in the file."""
        while path and path not in self.lines:
            path = path[:-1]
        return self.lines.get(path, 1)


def explain_errors(error: ValidationError, data: dict[str, Any], places: Places) -> Iterator[str]:
    """Yield one problem per invalid field, in the order of the file; alternatives of a union are joined.

    Args:
        error: the error of `Job.model_validate(data)`.
        data: plain data of the job file.
        places: places of its values.
    """
    by_path: dict[yaml_text.Path, list[ErrorDetails]] = {}
    for detail in error.errors(include_url=False):
        by_path.setdefault(_path_in(data, detail), []).append(detail)
    for path in sorted(by_path, key=places.line):
        details = by_path[path]
        has_deeper = any(other[: len(path)] == path and other != path for other in by_path)
        if has_deeper and all(_is_other_type(detail) for detail in details):
            continue  # about another alternative of the union; the deeper problem is the relevant one
        relevant = [detail for detail in details if not _is_other_type(detail)]
        yield f"{places.of(path)}: {_explain(relevant or details, path)}"


def _path_in(data: Any, detail: ErrorDetails) -> yaml_text.Path:
    """Return the path of an error in the user's data: pydantic's location without the names of union members."""
    path: list[str | int] = []
    here, location = data, detail["loc"]
    for position, part in enumerate(location):
        exists = (isinstance(here, dict) and part in here) or (
            isinstance(here, list) and isinstance(part, int) and part < len(here)
        )
        if exists:
            here = here[part]
            path.append(part)
        elif detail["type"] == "missing" and position == len(location) - 1:
            path.append(part)
    return tuple(path)


def _is_other_type(detail: ErrorDetails) -> bool:
    """Return whether an error is about an alternative of a union for values of another type."""
    is_constant = detail["type"] == "literal_error" and isinstance(detail["input"], dict | list)
    return is_constant or detail["type"] in _EXPECTED_TYPES


def _explain(details: list[ErrorDetails], path: yaml_text.Path) -> str:
    """Return the problem of the value at a path, the value, and the remedy."""
    detail = details[0]
    kind, context, value = detail["type"], detail.get("ctx", {}), detail["input"]
    if kind == "missing":
        return "is missing; it has no default"
    if kind == "extra_forbidden":
        return _unknown_key(str(path[-1]), path, detail)
    if kind in ("union_tag_not_found", "union_tag_invalid"):
        actual = f", not {_format_value(value['kind'])}" if "tag" in context else ""
        return f"requires `kind: adapt` or `kind: classify`{actual}"
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
    elif kind in _EXPECTED_TYPES:
        types = dict.fromkeys(_EXPECTED_TYPES[alternative["type"]] for alternative in details)
        problem = f"should be {' or '.join(types)}"
    else:
        problem = detail["msg"].removeprefix("Input ").removeprefix("String ")
    return f"{problem}, not {_format_value(value)}"


def _format_value(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "…"


def _unknown_key(key: str, path: yaml_text.Path, detail: ErrorDetails) -> str:
    in_stage = len(path) == 3 and path[0] == "stages"
    kind = detail["loc"][2] if in_stage else None
    known = sorted(_known_keys(path[:-1], kind))
    if in_stage and key in _known_keys(path[:-1], None):
        return f"is not a field of `kind: {kind}`; known fields: {', '.join(known)}"
    close = difflib.get_close_matches(key, known, n=1)
    remedy = f"did you mean `{close[0]}`?" if close else f"known fields: {', '.join(known)}"
    return f"unknown key; {remedy}"


@cache
def _schema() -> dict[str, Any]:
    return Job.model_json_schema()


def _known_keys(path: yaml_text.Path, kind: str | int | None) -> set[str]:
    """Return the keys in the schema at a path; within a stage those of `kind`, or of all kinds if None."""

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
