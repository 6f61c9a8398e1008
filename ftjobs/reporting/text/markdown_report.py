"""The report as Markdown: to read in a terminal, on GitHub, or in a mail."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ftjobs.reporting.text.blocks import Command, Document, Examples, Items, Listing, Plot, Prose, Table
from ftjobs.reporting.text.phrases import TIMES, percent, softly_cut

#: Examples shown, and characters of each text; the page has all.
_EXAMPLES, _CHARACTERS = 10, 240
_MARKED = re.compile(r"(`[^`]*`|\*\*)")
_SPECIAL = re.compile(r"([\\*\[\]<>|~`#&]|(?<![^\W_])_|_(?![^\W_]))")
_START_OF_BLOCK = re.compile(r"^(\d*)([.)+=-])(?=\s|$)")


def render(document: Document) -> str:
    """The whole report."""
    lines = [f"# {document.title}", "", f"**{inline(document.headline)}**"]
    for paragraph in document.lead:
        lines += ["", inline(paragraph)]
    for block in document.ship:
        lines += ["", *_block(block)]
    for section in document.sections:
        lines += ["", f"## {inline(section.title)}"]
        for block in section.blocks:
            lines += ["", *_block(block)]
    return "\n".join(lines) + "\n"


def inline(text: str) -> str:
    """Prose with whatever would mean something in Markdown escaped, but for the marks of our own."""
    parts = _MARKED.split(" ".join(text.split()))
    return "".join(_code(part) if part[:1] == "`" else part if part == "**" else _escape(part) for part in parts)


def _code(span: str) -> str:
    return span.replace("|", "\\|")


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def _literal(text: str) -> str:
    """Somebody else's text, on one line, with nothing in it that is Markdown."""
    return _START_OF_BLOCK.sub(r"\1\\\2", _escape(" ".join(text.split())))


def _block(block: Any) -> Iterator[str]:
    match block:
        case Prose(text):
            yield inline(text)
        case Items(texts):
            yield from (f"- {inline(text)}" for text in texts)
        case Table():
            yield from ([f"{inline(block.fold)}:", ""] if block.fold else [])
            yield from _table(block)
        case Plot(name, title, caption):
            yield from (f"![{inline(title)}](plots/{name}.svg)", "", inline(caption))
        case Command(lines):
            yield from ("```sh", *lines, "```")
        case Listing(name):
            yield f"The job as resolved: [`{name}`]({name})."
        case Examples():
            yield from _examples(block)


def _table(table: Table) -> Iterator[str]:
    """A pipe table whose columns stand under one another, so that it is one in a terminal too."""
    rows = [[inline(cell.strip()) for cell in row] for row in (table.header, *table.rows)]
    if table.strong is not None:
        chosen = rows[table.strong + 1]
        rows[table.strong + 1] = [f"**{cell}**" if cell else "" for cell in chosen]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    right = [table.right_aligned(column) for column in range(len(widths))]

    def line(cells: list[str]) -> str:
        padded = [
            cell.rjust(width) if to_right else cell.ljust(width)
            for cell, width, to_right in zip(cells, widths, right, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    yield line(rows[0])
    rules = [
        f"{'-' * (width + 1)}:" if to_right else "-" * (width + 2)
        for width, to_right in zip(widths, right, strict=True)
    ]
    yield f"|{'|'.join(rules)}|"
    yield from map(line, rows[1:])


def _examples(block: Examples) -> Iterator[str]:
    """A numbered list: the texts, the label, and what every strategy said."""
    for number, entry in enumerate(block.entries[:_EXAMPLES], start=1):
        label = _literal(softly_cut(entry["label"], 60))
        seen = ", a text of it in training" if entry["in_training"] else ""
        yield f"{number}. row {entry['id']}, labelled **{label}**{seen}"
        for column, text in zip(block.columns, entry["texts"], strict=True):
            yield f"   - {_literal(column)}: {_literal(softly_cut(text, _CHARACTERS))}"
        said = [f"`{one['stage']}` {_literal(votes(one))}" for one in entry["strategies"]]
        yield f"   - {'; '.join(said)}"
    left = len(block.entries) - _EXAMPLES
    if left > 0:
        yield from ("", f"{left} more in `report.html`.")


def votes(strategy: dict[str, Any]) -> str:
    """What a strategy said over its seeds, the most frequent first, and how probable it holds the label."""
    counts = Counter(strategy["predictions"]).most_common()
    one = len(strategy["predictions"]) == 1
    said = [softly_cut(name, 40) if one else f"{softly_cut(name, 40)} {TIMES}{number}" for name, number in counts]
    if "error" in strategy:
        return f"{', '.join(said)} (off by {strategy['error']:.3g})"
    if "labels_right" in strategy:
        return f"{', '.join(said)} ({percent(strategy['labels_right'], 0)} % of labels right)"
    return f"{', '.join(said)} ({percent(strategy['label_probability'], 0)} %)"
