"""Read the Markdown files of this repository: code blocks, commands and links."""

from __future__ import annotations

import re
import shlex
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer.main

from ftjobs.cli import app

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    Path(line)
    for line in subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.md"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    if (ROOT / line).exists()
)
_FENCE = re.compile(r"^```(\w*)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_ASSIGNMENT = re.compile(r"^[A-Z_]+=")


@dataclass(frozen=True)
class Block:
    """A fenced code block."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        """Page and line, as test ids and messages show them."""
        return f"{self.page}:{self.line}"


def read(page: Path) -> str:
    """Return the text of a page; `page` is relative to the repository."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks(*languages: str) -> list[Block]:
    """Return every code block in one of the languages."""
    return [
        Block(page, text.count("\n", 0, match.start()) + 1, match[1], match[2])
        for page in PAGES
        for text in [read(page)]
        for match in _FENCE.finditer(text)
        if match[1] in languages
    ]


def marked(page: Path, marker: str) -> str:
    """Return the text between `<!-- MARKER -->` and `<!-- end -->`."""
    match = re.search(rf"<!-- {marker} -->\n(.*?)\n<!-- end -->", read(page), re.DOTALL)
    assert match, f"{page}: no <!-- {marker} -->"
    return match[1]


def shell_commands(block: Block) -> Iterator[list[str]]:
    """Yield the simple commands of a shell block as words, without redirections and variable assignments."""
    text = re.sub(r"\\\n", " ", block.text)
    if block.language == "console":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("$ "))
    text = re.sub(r" > \S+", "", text)
    lexer = shlex.shlex(text.replace("\n", " ; "), posix=True, punctuation_chars="();&|")
    lexer.whitespace_split = True
    words: list[str] = []
    for token in lexer:
        if set(token) <= set("();&|"):
            if words:
                yield words
            words = []
        elif words or not _ASSIGNMENT.match(token):
            words.append(token)
    if words:
        yield words


def ftjobs_arguments(words: list[str]) -> list[str] | None:
    """Return the arguments that a command passes to `ftjobs`, directly or through the image; None for other commands."""
    if words[0] in ("ftjobs", ".venv/bin/ftjobs"):
        return words[1:]
    if words[0] in ("docker", "podman") and words[1] == "run":
        image = next((number for number, word in enumerate(words) if re.search(r"(^|/)ftjobs:", word)), None)
        return None if image is None else words[image + 1 :]
    return None


def prose(page: Path) -> str:
    """Return the text of a page without its code blocks."""
    return _FENCE.sub("", read(page))


def inline_commands(page: Path) -> Iterator[str]:
    """Yield `ftjobs ...` in inline code outside of code blocks."""
    yield from re.findall(r"`(ftjobs [a-z][^`]*)`", prose(page))


def links(page: Path) -> Iterator[str]:
    """Yield the targets of links and images."""
    yield from _LINK.findall(re.sub(r"`[^`\n]*`", "", prose(page)))


def anchors(page: Path) -> set[str]:
    """Return the anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def commands() -> dict[str, Any]:
    """Return the commands of the CLI by name, as Click commands in the order of `ftjobs --help`."""
    group: Any = typer.main.get_command(app)
    return {name: group.commands[name] for name in group.list_commands(None)}


def options(command: Any) -> set[str]:
    """Return the names of the options of a command."""
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)} | {"--help"}
