"""Markdown in which names from a job file or its data are shown as they are, and never read as markup."""

from __future__ import annotations

import re

from ftjobs.errors import one_line

_LONGEST = 120
#: Neither markup in a code span, nor in a table, nor in HTML.
_PLAIN = re.compile(r"[\w .,:;/+='()@%!?#*\[\]{}~^$-]+")


def code(text: str) -> str:
    """A foreign string as code: on one line, cut if it is long, and read as nothing else, also inside a table.

    What could end a code span or a table's cell is written as character references, which Markdown never takes for
    markup (CommonMark 0.31, section 2.5).
    """
    line = one_line(text)
    if len(line) > _LONGEST:
        line = line[:_LONGEST] + "…"
    if _PLAIN.fullmatch(line) and line == line.strip():
        return f"`{line}`"
    escaped = "".join(char if char.isalnum() else f"&#{ord(char)};" for char in line)
    return f"<code>{escaped}</code>"


def fenced(text: str, language: str) -> str:
    """A block of code, in a fence that nothing in it can close."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """A table; numbers stand to the right. Cells are Markdown."""
    rule = [
        "---:" if rows and all(_NUMBER.match(row[index]) for row in rows) else "---" for index in range(len(header))
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


_NUMBER = re.compile(r"-?\d")


def listed(items: list[str], most: int = 20) -> str:
    """Foreign strings, one after the other, and how many more there are."""
    shown = ", ".join(code(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
