"""The registry of objectives, and that other packages decide nothing by an objective's name."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import ftjobs.objectives
from ftjobs.jobfile.fields import Adapt
from ftjobs.objectives import all_figures, all_objectives, get_objective, objective_names

PACKAGE = Path(ftjobs.objectives.__file__).parents[1]


def test_objectives_are_ordered_by_name() -> None:
    assert objective_names() == ("mlm", "mlm+nsp", "mlm+sop", "replaced-token")
    assert [objective.name for objective in all_objectives()] == list(objective_names())
    with pytest.raises(KeyError):
        get_objective("clm")


def test_no_other_package_names_an_objective() -> None:
    """Comparisons by name would have to be found and changed for every new objective."""
    names = set(objective_names())
    places = [
        f"{path.relative_to(PACKAGE)}:{node.lineno}"
        for path in sorted(PACKAGE.rglob("*.py"))
        if "objectives" not in path.relative_to(PACKAGE).parts
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in names
    ]
    assert places == []


def test_figures_are_shares_by_key() -> None:
    assert list(all_figures()) == ["nsp_accuracy", "sop_accuracy", "replaced_accuracy", "replaced_f1"]


def test_schema_documents_every_objective() -> None:
    field = Adapt.model_json_schema()["properties"]["objective"]
    assert field["enum"] == list(objective_names())
    assert field["default"] == "mlm"
    for objective in all_objectives():
        assert f"`{objective.name}`: {objective.description}" in field["description"]


@pytest.mark.parametrize(
    ("settings", "method"),
    [
        ({}, "masked language modeling"),
        ({"masking": "span"}, "masked language modeling of spans of words"),
        (
            {"objective": "mlm+nsp", "masking": "whole-word"},
            "masked language modeling of whole words and next-sentence prediction",
        ),
        ({"objective": "mlm+sop"}, "masked language modeling and sentence-order prediction"),
        (
            {"objective": "replaced-token"},
            "replaced-token detection, with a generator trained by masked language modeling",
        ),
    ],
)
def test_method_in_prose(settings: dict[str, str], method: str) -> None:
    fields = Adapt.model_validate(settings)
    assert get_objective(fields.objective).describe(fields) == method
