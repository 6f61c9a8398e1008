"""YAML text to plain data, remembering the line of every value.

A small and strict part of YAML 1.2: `no` and `on` are words, `2e-5` is a number, a key may stand only once, and
anchors are refused (they can make a small file expand without bound).
"""

from __future__ import annotations

import re
from typing import Any

import yaml

from ftjobs.errors import UserError

#: Where a value stands: keys and list positions from the top of the file.
Path = tuple[str | int, ...]
MAX_CHARACTERS = 1_000_000


class _CoreSchemaLoader(yaml.SafeLoader):
    """SafeLoader with the implicit types of YAML 1.2's core schema instead of YAML 1.1's."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 (PyYAML's own name)

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.composer.ComposerError(None, None, "anchors and aliases are not supported; write it out", mark)
        return super().compose_node(parent, index)


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+.0123456789")),
):
    _CoreSchemaLoader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def parse(text: str, where: str) -> tuple[Any, dict[Path, int]]:
    """Parse one YAML document.

    Args:
        text: the document.
        where: what to call it in errors, usually the file's name.

    Returns:
        The data (dict, list, str, int, float, bool, None), and the 1-based line of every value in it.

    Raises:
        UserError: not YAML, more than one document, a key twice, a key that is no string, an anchor or a tag.
    """
    if len(text) > MAX_CHARACTERS:
        raise UserError(f"{where}: {len(text)} characters; a job file has at most {MAX_CHARACTERS}")
    try:
        node = yaml.compose(text, Loader=_CoreSchemaLoader)
        lines: dict[Path, int] = {}
        return _plain(node, (), lines, where), lines
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        raise UserError(f"{where}{line}: not valid YAML: {error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise UserError(f"{where}: not valid YAML: {' '.join(str(error).split())}") from error
    except RecursionError:
        raise UserError(f"{where}: nested too deeply; a job file is a few levels deep") from None


def _plain(node: yaml.Node | None, path: Path, lines: dict[Path, int], where: str) -> Any:
    if node is None:
        return None
    line = node.start_mark.line + 1
    lines[path] = line
    if isinstance(node, yaml.MappingNode):
        mapping: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            key_line = key_node.start_mark.line + 1
            if key is None:
                raise UserError(f"{where}:{key_line}: a key must be a word, not a list or mapping")
            if key in mapping:
                raise UserError(f"{where}:{key_line}: key `{key}` stands twice; remove one")
            mapping[key] = _plain(value_node, (*path, key), lines, where)
        return mapping
    if isinstance(node, yaml.SequenceNode):
        return [_plain(item, (*path, index), lines, where) for index, item in enumerate(node.value)]
    return _scalar(node, where)


def _scalar(node: yaml.Node, where: str) -> Any:
    line, text = node.start_mark.line + 1, str(node.value)
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
        case "int" | "float":
            raise UserError(f"{where}:{line}: a number of {len(text)} digits")
        case _:
            raise UserError(f"{where}:{line}: YAML tag `{node.tag}` is not supported; write the plain value")

