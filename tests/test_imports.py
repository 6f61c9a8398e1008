"""Packages import only from lower layers, tests import no other tests, and instant commands load no slow libraries."""

import ast
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from ftjobs.data import prepared

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ftjobs"
#: A package may import the packages before it in this list, and itself (DESIGN.md, section 3).
LAYERS = [
    *("errors", "system", "statistics", "tasks", "objectives", "jobfile", "storage", "plan", "artifacts"),
    *("data", "models", "tracking", "training", "reporting", "cards", "predicting", "doctor", "stages", "execution"),
    *("kubernetes", "__init__", "cli", "__main__"),
]
SLOW = ("torch", "transformers", "peft", "datasets", "boto3", "wandb", "matplotlib", "jinja2", "kubernetes")
JOB = str(ROOT / "jobs" / "medical-questions.yaml")
#: Runs a command in this process and prints the names of the imported packages.
COMMAND = """
import sys
from ftjobs.cli import main
sys.argv[0] = "ftjobs"
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("imported:", *(name for name in sys.modules if "." not in name), file=sys.stderr)
"""


def layer(module: str) -> str:
    """`ftjobs.data.readers.files` -> `data`; the package itself is `__init__`. Objectives are implemented on training's
    level."""
    if f"{module}.".startswith("ftjobs.objectives.compute."):
        return "training"
    return [*module.split("."), "__init__"][1]


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        yield name, ast.parse(path.read_text(), str(path))


def imported(tree: ast.Module, known: set[str]) -> Iterator[str]:
    """Yield the ftjobs modules that a file imports anywhere, also inside functions and for type checkers."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "ftjobs")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import"
            if node.module is not None and node.module.split(".")[0] == "ftjobs":
                for alias in node.names:
                    inner = f"{node.module}.{alias.name}"
                    yield inner if inner in known else node.module


def test_every_module_has_its_layer():
    assert {layer(name) for name, _ in modules()} <= set(LAYERS)


class _ExecutedImports(ast.NodeTransformer):
    """Remove code that does not run at import: function bodies and `if TYPE_CHECKING:` blocks."""

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        return None

    def visit_If(self, node: ast.If) -> ast.AST | None:
        is_type_checking = isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"
        return None if is_type_checking else self.generic_visit(node)


def test_imports_go_up_the_list_only():
    """Declarations of objectives import their implementations in functions, and their types for type checkers."""
    trees = dict(modules())
    wrong = []
    for name, tree in trees.items():
        own_layer, known = layer(name), set(trees)
        checks = [(own_layer, tree)]
        if own_layer == "objectives":
            checks = [("training", tree), (own_layer, _ExecutedImports().visit(ast.parse(ast.unparse(tree))))]
        wrong += [
            f"{name} imports {other}"
            for limit, checked in checks
            for other in imported(checked, known)
            if LAYERS.index(layer(other)) > LAYERS.index(limit)
        ]
    assert wrong == []


def test_statistics_import_only_errors():
    trees = dict(modules())
    used = {
        layer(other)
        for name, tree in trees.items()
        if layer(name) == "statistics"
        for other in imported(tree, set(trees))
    }
    assert used <= {"statistics", "errors"}


def test_imported_yields_imports_of_every_kind():
    source = """
import ftjobs.plan
from ftjobs import artifacts, __version__
from ftjobs.jobfile import read
from ftjobs.jobfile.fields import Job
if TYPE_CHECKING:
    from ftjobs.storage import Storage
def later():
    import ftjobs.execution.runner as r, os
"""
    known = {"ftjobs", "ftjobs.artifacts", "ftjobs.jobfile.read"}
    assert list(imported(ast.parse(source), known)) == [
        *("ftjobs.plan", "ftjobs.artifacts", "ftjobs", "ftjobs.jobfile.read", "ftjobs.jobfile.fields"),
        *("ftjobs.storage", "ftjobs.execution.runner"),
    ]


#: An import of a test module or of a conftest, also in the code of a subprocess.
TEST_IMPORT = re.compile(
    r"\b(?:from|import)\s+(?:tests(?:\.\w+)*)?\.(?:test_|conftest)\w*|\bfrom\s+(?:tests[\w.]*|\.+\w*)\s+import\s+(?:test_|conftest)\w*"
)


def test_tests_import_no_other_test_module():
    """Shared code belongs in `tests/helpers/` and `tests/fakes/`."""
    wrong = []
    for path in sorted({*(ROOT / "tests").rglob("*.py")} - {Path(__file__)}):
        for node in ast.walk(ast.parse(path.read_text(), str(path))):
            is_import = isinstance(node, ast.Import | ast.ImportFrom)
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if is_import or is_text:
                code = ast.unparse(node) if is_import else node.value
                wrong += [f"{path.relative_to(ROOT)}:{node.lineno}: {match[0]}" for match in TEST_IMPORT.finditer(code)]
    assert wrong == []


@pytest.mark.parametrize(
    ("code", "is_test_import"),
    [
        ("from tests.data.test_splits import pairs", True),
        ("import tests.tracking.conftest", True),
        ("from tests.data import test_splits", True),
        ("from .test_splits import pairs", True),
        ("import os\nfrom tests.conftest import storage\n", True),
        ("from tests.helpers.tracking import STEPS", False),
        ("from tests.fakes import hub", False),
        ("from unittest import mock", False),
    ],
)
def test_pattern_finds_imports_of_test_modules(code, is_test_import):
    assert bool(TEST_IMPORT.search(code)) == is_test_import


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["plan", "--help"],
        ["conduct", "--help"],
        ["plan", JOB],
        ["plan", JOB, "--json"],
        ["status", JOB],
        ["push", "--help"],
        ["predict", "--help"],
        ["evaluate", "--help"],
        ["schema"],
        ["ls"],
        ["ls", JOB],
        ["render", JOB, "--image", "ftjobs:0.1.0", "--store", "s3://bucket/runs"],
        ["submit", "--help"],
    ],
    ids=lambda arguments: " ".join(Path(argument).name for argument in arguments),
)
def test_instant_commands_import_nothing_slow(arguments, tmp_path):
    process = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments],
        cwd=tmp_path,
        env=os.environ | {"FTJOBS_STORE": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr
    loaded = process.stderr.partition("imported:")[2].split()
    assert "ftjobs" in loaded
    assert not set(SLOW) & set(loaded)


def test_help_is_instant():
    """The least CPU time of three runs, which hardly depends on other load."""

    def cpu_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run([Path(sys.executable).parent / "ftjobs", "--help"], capture_output=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_seconds() for _ in range(3)) < 0.3


@pytest.mark.parametrize(
    ("modules", "needless"),
    [
        ("ftjobs.stages.adapt, ftjobs.stages.classify", {"peft", "datasets", "transformers.trainer"}),
        ("ftjobs.stages.report", {"torch", "transformers", "datasets", "pandas"}),
    ],
)
def test_stages_do_not_import_optional_libraries(modules, needless):
    script = f"import sys, {modules}; print(*sys.modules)"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not needless & set(process.stdout.split())


def test_reading_prepared_data_imports_no_pandas(tmp_path):
    """Every stage reads prepared data first, and importing pandas takes a quarter of a second."""
    rows = prepared.Rows(np.arange(2), ["a", "b"], None, np.array([0, 1]))
    prepared.write(prepared.PreparedData({"train": rows}, ["x", "y"]), {}, tmp_path / "data")
    code = f"""
import sys
from pathlib import Path
from ftjobs.data import prepared
rows = prepared.read(Path({str(tmp_path / "data")!r})).splits["train"]
assert (rows.ids.tolist(), rows.labels.tolist(), list(rows.texts)) == ([0, 1], [0, 1], ["a", "b"])
assert "pandas" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)
