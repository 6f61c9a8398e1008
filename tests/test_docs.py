"""The documentation is checked: what the README says to type works, and what it shows is what is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from typer.main import get_command

from ftjobs.cli import app
from ftjobs.jobfile.read import read

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(marker: str) -> str:
    """The command between `<!-- MARKER -->` and `<!-- end -->`."""
    found = re.search(rf"<!-- {marker} -->\n```sh\n(.*?)\n```\n<!-- end -->", README, re.DOTALL)
    assert found, marker
    return found[1]


def test_the_two_commands_are_one_line_each_and_install_what_they_run() -> None:
    for marker, last in (
        ("quickstart command", ".venv/bin/ftjobs run jobs/quickstart.yaml"),
        ("test command", ".venv/bin/pytest --numprocesses 2 --dist worksteal"),
    ):
        command = block(marker)
        assert "\n" not in command
        steps = command.split(" && ")
        assert steps[0] == "python3 -m venv .venv"
        assert steps[1].startswith(".venv/bin/pip install --constraint constraints.txt --editable ")
        assert steps[2] == last


def test_continuous_integration_runs_the_readmes_test_command() -> None:
    script = (ROOT / ".ci/run").read_text()
    line = next(line for line in script.splitlines() if line.startswith("test_command="))
    found = subprocess.run(["bash", "-c", f'{line}; echo "$test_command"'], cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.strip() == block("test command")


def test_the_job_file_in_the_readme_is_valid(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert example
    (tmp_path / "job.yaml").write_text(example[1])
    job = read(tmp_path / "job.yaml")
    assert job.stage("adapted-head").freeze_encoder
    assert job.defaults.adapt.learning_rate == 1e-5


def test_every_command_is_in_the_readme_and_every_one_in_the_readme_exists() -> None:
    described = set(re.findall(r"^\| `ftjobs (\w+)", README, re.MULTILINE))
    assert described == set(get_command(app).commands)


def test_every_command_says_what_it_does() -> None:
    for name, command in get_command(app).commands.items():
        assert command.help, name


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
