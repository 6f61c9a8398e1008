"""The benchmarks import: they use internals of ftjobs, which a change may move."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

MODULES = sorted(path.stem for path in (Path(__file__).parent / "benchmarks").glob("[a-z]*.py"))


@pytest.mark.parametrize("name", MODULES)
def test_benchmark_imports(name: str) -> None:
    assert importlib.import_module(f"tests.benchmarks.{name}").__doc__
