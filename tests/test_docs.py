"""The documentation is executed: commands exist, job files are valid, outputs are those of the program, links resolve."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml

import ftjobs
from ftjobs.jobfile.read import read as read_job
from tests.helpers import documentation
from tests.helpers.documentation import PAGES, ROOT, Block, blocks, marked

README = Path("README.md")
CONSOLE = blocks("console")
JOB_FILES = [block for block in blocks("yaml") if re.search(r"^stages:", block.text, re.MULTILINE)]


def fenced(page: Path, marker: str) -> str:
    """Return the command in the `sh` block between `<!-- MARKER -->` and `<!-- end -->`."""
    return marked(page, marker).removeprefix("```sh\n").removesuffix("\n```")


def test_quickstart_and_test_command_install_what_they_run() -> None:
    for marker, last in (
        ("quickstart command", ".venv/bin/ftjobs run jobs/quickstart.yaml"),
        ("test command", ".venv/bin/pytest --numprocesses 2 --dist worksteal"),
    ):
        command = fenced(README, marker)
        assert "\n" not in command
        steps = command.split(" && ")
        assert steps[0] == "python3 -m venv .venv"
        assert steps[1].startswith(".venv/bin/pip install --constraint constraints.txt --editable ")
        assert steps[2] == last


def test_continuous_integration_runs_the_test_command_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text()
    line = next(line for line in script.splitlines() if line.startswith("test_command="))
    result = subprocess.run(["bash", "-c", f'{line}; echo "$test_command"'], cwd=ROOT, capture_output=True, text=True)
    assert result.stdout.strip() == fenced(README, "test command")


def test_pre_commit_runs_the_linters_of_continuous_integration() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    tools = [re.findall(r"\.venv/bin/(ruff \w+|mypy)", hook["entry"])[0] for hook in hooks]
    script = (ROOT / ".ci/run").read_text()
    assert tools == re.findall(r"^\.venv/bin/(ruff \w+|mypy)", script, re.MULTILINE)


def test_readme_is_short_and_pictures_are_small() -> None:
    assert len((ROOT / README).read_text().splitlines()) <= 200
    pictures = list((ROOT / "jobs/images").iterdir())
    assert {f"jobs/images/{path.name}" for path in pictures} <= set(documentation.links(README))
    assert sum(path.stat().st_size for path in pictures) < 300_000


@pytest.mark.parametrize("block", JOB_FILES, ids=lambda block: block.place)
def test_job_files_in_the_documentation_are_valid(block: Block, tmp_path: Path) -> None:
    (tmp_path / "job.yaml").write_text(block.text)
    assert read_job(tmp_path / "job.yaml").stages


@pytest.mark.parametrize("block", blocks("sh", "console"), ids=lambda block: block.place)
def test_commands_in_code_blocks_parse(block: Block, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTJOBS_STORE", "s3://bucket/prefix")
    for words in documentation.shell_commands(block):
        arguments = documentation.ftjobs_arguments(words)
        if arguments is not None:
            command = documentation.commands()[arguments[0]]
            command.make_context(arguments[0], arguments[1:])  # raises click.UsageError
        if words[:2] == ["python", "-m"] and words[2].startswith("tests."):
            assert (ROOT / words[2].replace(".", "/")).with_suffix(".py").is_file()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_inline_commands_exist_with_their_options(page: Path) -> None:
    for text in documentation.inline_commands(page):
        words = text.replace("\\", "").split()
        command = documentation.commands()[words[1]]
        used = {re.sub("=.*", "", word) for word in words[2:] if word.startswith("--")}
        assert used <= documentation.options(command), text


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_modules_of_inline_python_commands_exist(page: Path) -> None:
    for module in re.findall(r"python -m (tests[\w.]*)", documentation.read(page)):
        assert (ROOT / module.replace(".", "/")).with_suffix(".py").is_file(), module


@pytest.mark.parametrize("block", CONSOLE, ids=lambda block: block.place)
def test_console_blocks_show_the_real_output(block: Block, tmp_path: Path) -> None:
    """Every command of the block is run at the root of the repository, with an empty store."""
    for shown in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        command, _, expected = shown.partition("\n")
        assert command.startswith("ftjobs ")
        result = subprocess.run(
            f"{sys.executable} -m {command}",
            shell=True,
            cwd=ROOT,
            env=os.environ | {"FTJOBS_STORE": str(tmp_path)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert [line.rstrip() for line in result.stdout.splitlines()] == expected.splitlines()


@pytest.mark.parametrize("block", blocks("python"), ids=lambda block: block.place)
def test_python_blocks_compile_and_use_the_public_api(block: Block) -> None:
    compile(block.text, block.place, "exec")
    if re.search(r"^import ftjobs$", block.text, re.MULTILINE):
        assert set(re.findall(r"\bftjobs\.(\w+)", block.text)) <= set(ftjobs.__all__)


@pytest.mark.slow
def test_python_example_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (example,) = [block for block in blocks("python") if block.page == Path("jobs/README.md")]
    (tmp_path / "jobs").symlink_to(ROOT / "jobs")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(compile(example.text, example.place, "exec"), names)
    assert (tmp_path / "best" / "model.safetensors").is_file()
    assert (tmp_path / "head" / "model.safetensors").is_file()


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_links_resolve(page: Path) -> None:
    """Links to files, and to headings of pages."""
    for link in documentation.links(page):
        if "://" in link:
            continue
        target, _, anchor = link.partition("#")
        path = (ROOT / page.parent / target.replace("\\", "")).resolve() if target else ROOT / page
        assert path.exists(), link
        if anchor:
            assert anchor in documentation.anchors(path.relative_to(ROOT)), link


def test_every_command_has_help_and_a_row_in_the_table_in_the_order_of_help() -> None:
    described = re.findall(r"^\| `ftjobs (\w+)", documentation.read(Path("jobs/README.md")), re.MULTILINE)
    assert described == list(documentation.commands())
    for name, command in documentation.commands().items():
        assert command.help, name


def test_every_feature_job_is_listed() -> None:
    listed = re.findall(r"\(features/(\w+)\.yaml\)", documentation.read(Path("jobs/README.md")))
    assert set(listed) == {path.stem for path in (ROOT / "jobs/features").glob("*.yaml")}


def test_map_names_exactly_the_existing_packages_in_import_order() -> None:
    section = documentation.read(Path("ftjobs/README.md")).partition("## Map")[2].partition("\n## ")[0]
    named = re.findall(r"^\| `([\w/]+(?:\.py)?)` \|", section, re.MULTILINE)
    package = ROOT / "ftjobs"
    packages = [path.parent.relative_to(package).as_posix() + "/" for path in package.glob("*/**/__init__.py")]
    assert sorted(named) == sorted([*packages, *(path.name for path in package.glob("*.py"))])
    layers = re.search(r"^LAYERS = \[(.*?)^\]", (ROOT / "tests/test_imports.py").read_text(), re.MULTILINE | re.DOTALL)
    assert layers
    top_level = [name.removesuffix("/").removesuffix(".py") for name in named if name.count("/") == name.endswith("/")]
    assert top_level == re.findall(r'"(\w+)"', layers[1])


def test_classes_and_functions_in_the_extension_guide_exist() -> None:
    """Names in CamelCase and with parentheses, outside of code blocks."""
    guide = documentation.prose(Path("ftjobs/README.md")).partition("## How to extend")[2]
    names = re.findall(r"`([A-Z][a-z]+(?:[A-Z][A-Za-z]+)?|\w+(?=\(\)))(?:\(\))?`", guide)
    assert {"Storage", "Tracker", "put_if_absent"} <= set(names)
    source = "\n".join(path.read_text() for path in (ROOT / "ftjobs").rglob("*.py"))
    for name in names:
        assert re.search(rf"\b(class|def) {name}\b", source), name


_SOURCE = re.compile(r"`((?:\w+/)+\w+\.(?:py|yaml|csv))`")


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=str)
def test_files_in_inline_code_exist(page: Path) -> None:
    """Relative to the repository, to the page, or to the package."""
    for name in _SOURCE.findall(documentation.read(page)):
        assert any((folder / name).is_file() for folder in (ROOT, ROOT / page.parent, ROOT / "ftjobs")), name


def test_version_is_the_same_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dynamic"] == ["version"]
    assert version("ftjobs") == ftjobs.__version__
    for page in (*PAGES, Path("docker/Dockerfile")):
        assert set(re.findall(r"\bftjobs:(\d+\.\d+\.\d+)", documentation.read(page))) <= {ftjobs.__version__}, page
    assert f"ARG VERSION={ftjobs.__version__}\n" in (ROOT / "docker/Dockerfile").read_text()


def test_metadata_names_license_and_readme() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (project["license"], project["readme"]) == ("Apache-2.0", "README.md")
    assert (ROOT / "LICENSE").read_text().startswith("SPDX-License-Identifier: Apache-2.0\n")
    assert (ROOT / "ftjobs/py.typed").is_file()


def test_every_package_that_is_needed_is_pinned() -> None:
    pins = dict(
        line.lower().replace("_", "-").split("==")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if not line.startswith("#")
    )
    for name in re.findall(r'^  "([A-Za-z0-9-]+)[>=]', (ROOT / "pyproject.toml").read_text(), re.MULTILINE):
        assert name.lower() in pins, name
    assert pins["torch"] == "2.13.0"


def test_top_level_folders() -> None:
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.splitlines()
    folders = {path.split("/")[0] for path in listed if "/" in path and not path.startswith(".")}
    assert folders <= {"jobs", "docker", "k8s", "ftjobs", "tests"}
