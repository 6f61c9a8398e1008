"""Parse YAML to plain data with the line of every value, and write plain data as YAML.

A strict subset of YAML 1.2: `no` and `on` are strings, `2e-5` is a number, repeated keys are errors, and so are
anchors, which can make a small file expand without bound."""

from __future__ import annotations

import re
from typing import Any

import yaml

from ftjobs.errors import UserError

#: Path of a value: keys and list positions from the top of the file.
Path = tuple[str | int, ...]
MAX_CHARACTERS = 1_000_000


class _CoreSchemaLoader(yaml.SafeLoader):
    """SafeLoader with the implicit types of the core schema of YAML 1.2 instead of those of YAML 1.1."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        unsupported = None
        if isinstance(event, yaml.AliasEvent) or event.anchor is not None:
            unsupported = "anchors and aliases are not supported; write it out"
        elif event.tag is not None:
            unsupported = f"YAML tag `{event.tag}` is not supported; write the plain value"
        if unsupported:
            raise yaml.composer.ComposerError(None, None, unsupported, event.start_mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _CoreSchemaLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse(text: str, where: str, numbered: bool = True) -> tuple[Any, dict[Path, int]]:
    """Parse one YAML document.

    Args:
        text: the document.
        where: name of the document in error messages, usually the file name.
        numbered: include the line in error messages.

    Returns:
        The data (dict, list, str, int, float, bool, None), and the line (from 1) of every value's key or list item.

    Raises:
        UserError: invalid YAML, several documents, a repeated key, a key other than a scalar, an anchor or a tag.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{where}: {len(text)} characters; a job file may have at most {MAX_CHARACTERS}")
    lines: dict[Path, int] = {}
    try:
        return _plain(yaml.compose(text, Loader=_CoreSchemaLoader), (), lines), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, problem = (mark.line + 1 if mark else 1), f"not valid YAML: {error.problem or error.context}"
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        problem = f"not valid YAML: character {chr(error.character)!r} is not allowed; remove it"
    except _UnsupportedError as error:
        line, problem = error.line, str(error)
    except RecursionError:
        line, problem = 0, "nested too deeply; remove levels"
    raise UserError(f"{where}:{line}: {problem}" if numbered and line else f"{where}: {problem}")


class _UnsupportedError(Exception):
    """Valid YAML outside of the supported subset."""

    def __init__(self, node: yaml.Node, problem: str) -> None:
        super().__init__(problem)
        self.line: int = node.start_mark.line + 1


def _plain(node: yaml.Node | None, path: Path, lines: dict[Path, int]) -> Any:
    if node is None:
        return None
    lines.setdefault(path, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise _UnsupportedError(key_node, "a key must be a string, not a list or mapping; correct it")
            key = str(key_node.value)
            if key in mapping:
                raise _UnsupportedError(key_node, f"key `{key}` is repeated; remove one")
            lines[*path, key] = key_node.start_mark.line + 1
            mapping[key] = _plain(value_node, (*path, key), lines)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), lines) for index, item in enumerate(node.value)]
    return _scalar(node)


def _scalar(node: yaml.Node) -> Any:
    text = str(node.value)
    match node.tag.removeprefix("tag:yaml.org,2002:"):
        case "str":
            return text
        case "null":
            return None
        case "bool":
            return text.lower() == "true"
        case "int" if len(text) <= 100:
            return int(text)
        case "float" if len(text) <= 100:
            return float(text)
        case _:
            raise _UnsupportedError(node, f"a number of {len(text)} digits; write a shorter one")


class _EverySchemaDumper(yaml.SafeDumper):
    """SafeDumper that quotes every string that a parser of YAML 1.1 or 1.2 could read as another type."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


_EverySchemaDumper.add_implicit_resolver("tag:ftjobs,2026:looks-like-number", re.compile(r"^[-+.]?[0-9].*$"), None)


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    if any(mark in text for mark in "\r\x85\u2028\u2029\ufeff"):  # line breaks in some parsers, and the byte order mark
        style = '"'
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style)


def _represent_list(dumper: yaml.SafeDumper, items: list[Any]) -> yaml.SequenceNode:
    short = all(isinstance(item, str | int | float | bool) for item in items)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", items, flow_style=short)


_EverySchemaDumper.add_representer(str, _represent_text)
_EverySchemaDumper.add_representer(list, _represent_list)


def dump(data: Any) -> str:
    """Write plain data as YAML that `parse` can read, deterministically and with keys in order.

    Strings such as `1e5`, `0x1f` and `no`, which some parsers read as numbers or booleans, are quoted.
    """
    text: str = yaml.dump(data, Dumper=_EverySchemaDumper, sort_keys=False, allow_unicode=True, width=10_000)
    return text
