"""Tasks are the only place that depends on `label_type`: no other package compares it by name."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ftjobs
from ftjobs.tasks import task_names

PACKAGE = Path(ftjobs.__file__).parent


def dependent_nodes(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield comparisons, match patterns, dictionary literals and defaults that name a label type."""
    names = set(task_names())
    telling = names - {"class"}  # the word is common: it counts only next to `label_type` or a task
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            constants = {leaf.value for operand in operands for leaf in ast.walk(operand) if is_text(leaf)}
            about_labels = "label_type" in ast.unparse(node) or "task" in ast.unparse(node)
            if constants & telling or (constants & names and about_labels):
                yield node
        elif isinstance(node, ast.Dict):
            if {key.value for key in node.keys if key is not None and is_text(key)} & telling:
                yield node
        elif isinstance(node, ast.Match) and "label_type" in ast.unparse(node.subject):
            yield node
        elif isinstance(node, ast.Call):
            texts = [argument.value for argument in node.args if is_text(argument)]
            if texts[:1] == ["label_type"] and names & set(texts[1:]):
                yield node


def is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


@pytest.mark.parametrize(
    "source",
    [
        'data.label_type == "float"',
        '"multi" != evidence.label_type',
        'label_type in ("class", "multi")',
        'task.name == "class"',
        '{"class": 1, "float": 2}[label_type]',
        'content.get("label_type", "class")',
        'match data.label_type:\n    case "float":\n        pass',
    ],
)
def test_walk_finds_dependencies_on_label_type(source: str) -> None:
    assert len(list(dependent_nodes(ast.parse(source)))) == 1


def test_no_package_but_tasks_depends_on_label_type_by_name() -> None:
    comparisons = [
        f"{path.relative_to(PACKAGE)}:{getattr(node, 'lineno', 0)}: {ast.unparse(node)}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if path.parent != PACKAGE / "tasks"
        for node in dependent_nodes(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert comparisons == []
