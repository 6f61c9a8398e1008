"""docker/README.md describes the Dockerfile."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "docker/README.md").read_text()
DOCKERFILE = (ROOT / "docker/Dockerfile").read_text()


def test_build_arguments_are_those_of_the_dockerfile() -> None:
    described = set(re.findall(r"`([A-Z_]+)`", README.partition("## Build arguments")[2].partition("A CPU image")[0]))
    assert described == set(re.findall(r"^ARG ([A-Z_]+)", DOCKERFILE, re.MULTILINE))
    assert set(re.findall(r"--build-arg ([A-Z_]+)=", README)) <= described


def test_writable_folders_are_those_of_the_dockerfile() -> None:
    mkdir = re.search(r"mkdir --mode=1777 (.*)", DOCKERFILE)
    assert mkdir
    assert set(re.findall(r"--tmpfs (\S+)", README)) == set(mkdir[1].split())


def test_requirements_include_every_extra_but_dev(tmp_path: Path) -> None:
    """The Dockerfile's own script, on this pyproject.toml."""
    script = re.search(r"RUN python3 -c '(.*?)' > /requirements.txt", DOCKERFILE, re.DOTALL)
    assert script
    (tmp_path / "pyproject.toml").write_text(
        '[project]\ndependencies = ["a>=1"]\n[project.optional-dependencies]\nx = ["b", "c"]\ndev = ["d"]\n'
    )
    code = script[1].replace("\\\n", "").replace("/pyproject.toml", str(tmp_path / "pyproject.toml"))
    requirements: list[str] = []
    exec(code, {"print": lambda *lines, sep: requirements.extend(lines)})
    assert requirements == ["a>=1", "b", "c"]
