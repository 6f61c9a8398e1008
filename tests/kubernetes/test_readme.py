"""Commands in k8s/README.md and docker/README.md are valid, and their paths exist."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from ftjobs.cli import app

ROOT = Path(__file__).parents[2]
READMES = [ROOT / "k8s/README.md", ROOT / "docker/README.md"]


def shell_commands(readme: Path, program: str) -> list[list[str]]:
    """Arguments of every command of a program in the shell blocks, up to a redirection."""
    blocks = re.findall(r"```sh\n(.*?)```", readme.read_text(), re.DOTALL)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    commands = [part.split(">")[0].split(" #")[0] for line in lines for part in re.split(r" && | & ", line)]
    return [shlex.split(command)[1:] for command in commands if command.split()[:1] == [program]]


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_ftjobs_commands_parse(readme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTJOBS_STORE", "s3://bucket/ftjobs")
    commands = shell_commands(readme, "ftjobs")
    assert commands
    group = get_command(app)
    for name, *arguments in commands:
        command = group.commands[name]  # type: ignore[attr-defined]
        command.make_context(name, list(arguments))
        assert (ROOT / arguments[0]).exists() or arguments[0] == "job.yaml"


def test_kustomize_folders_exist() -> None:
    text = READMES[0].read_text()
    folders = re.findall(r"--kustomize (\S+?)`?(?:\s|\.)", text)
    assert len(folders) >= 3
    for folder in folders:
        assert (ROOT / folder / "kustomization.yaml").is_file(), folder
    for path in re.findall(r"^\| `(\S+)` \|", text.partition("## Run")[0], re.MULTILINE):
        assert (ROOT / "k8s" / path).exists(), path
    assert set(re.findall(r"`(\w[\w-]*)`", text.partition("differences between clusters:")[2].split("|")[0])) == {
        path.name for path in (ROOT / "k8s/components").iterdir()
    }
