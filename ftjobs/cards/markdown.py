"""Markdown for model cards; names from job files and data are escaped."""

from __future__ import annotations

import re

from ftjobs.errors import one_line

_LONGEST = 120
#: Characters that are no markup in code spans, tables and HTML.
_PLAIN = re.compile(r"[\w .,:;/+='()@%!?#*\[\]{}~^$-]+")


def code(text: str) -> str:
    """Format a name as inline code, on one line and truncated, safe inside tables.

    Characters that could end a code span or a cell become character references, which are never markup (CommonMark
    0.31, section 2.5).
    """
    line = one_line(text)
    if len(line) > _LONGEST:
        line = line[:_LONGEST] + "…"
    if _PLAIN.fullmatch(line) and line == line.strip():
        return f"`{line}`"
    escaped = "".join(char if char.isalnum() else f"&#{ord(char)};" for char in line)
    return f"<code>{escaped}</code>"


def fenced(text: str, language: str) -> str:
    """Format a code block, with a fence longer than any in the text."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


def table(header: list[str], rows: list[list[str]]) -> str:
    """Format a table from cells of Markdown; columns of numbers are aligned to the right."""
    rule = [
        "---:" if rows and all(_NUMBER.match(row[index]) for row in rows) else "---" for index in range(len(header))
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


_NUMBER = re.compile(r"-?\d")


def listed(items: list[str], most: int = 20) -> str:
    """Format the first `most` names as inline code, and the number of further names."""
    shown = ", ".join(code(item) for item in items[:most])
    return shown if len(items) <= most else f"{shown} and {len(items) - most} more"
