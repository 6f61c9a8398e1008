"""Render a report document to Markdown, and to a single HTML file without scripts or external resources."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from itertools import chain
from typing import Any

from ftjobs.reporting.findings.disagreements import StrategyVotes
from ftjobs.reporting.text.blocks import Block, Command, Document, Examples, Items, Listing, Plot, Prose, Table
from ftjobs.reporting.text.phrases import TIMES, percent, shortened

#: Examples shown, and characters of each text; HTML has all.
_MAX_EXAMPLES, _MAX_CHARACTERS = 10, 240
_MARKS = re.compile(r"(`[^`]*`|\*\*)")
_SPECIAL = re.compile(r"([\\*\[\]<>|~`#&]|(?<![^\W_])_|_(?![^\W_]))")
_START_OF_BLOCK = re.compile(r"^(\d*)([.)+=-])(?=\s|$)")


def render_markdown(document: Document) -> str:
    """Return the report as Markdown."""
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


def rendered_headline(markdown: str) -> str:
    """Return the headline of a rendered report, as prose."""
    line = next(line for line in markdown.splitlines() if line.startswith("**"))
    parts = _MARKS.split(line.removeprefix("**").removesuffix("**"))
    return "".join(part if part[:1] == "`" else re.sub(r"\\(.)", r"\1", part) for part in parts)


def inline(text: str) -> str:
    """Escape everything in prose but its marks."""
    parts = _MARKS.split(" ".join(text.split()))
    return "".join(_code(part) if part[:1] == "`" else part if part == "**" else _escape(part) for part in parts)


def _code(span: str) -> str:
    return span.replace("|", "\\|")


def _escape(text: str) -> str:
    return _SPECIAL.sub(r"\\\1", text)


def literal(text: str) -> str:
    """Escape text of the data, on one line, so that none of it is Markdown."""
    return _START_OF_BLOCK.sub(r"\1\\\2", _escape(" ".join(text.split())))


def _block(block: Block) -> Iterator[str]:
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
            yield f"The resolved job file: [`{name}`]({name})."
        case Examples():
            yield from _examples(block)


def _table(table: Table) -> Iterator[str]:
    """Yield a pipe table with padded columns, readable in a terminal too."""
    rows = [[inline(cell.strip()) for cell in row] for row in (table.header, *table.rows)]
    if table.strong is not None:
        rows[table.strong + 1] = [f"**{cell}**" if cell else "" for cell in rows[table.strong + 1]]
    widths = [max(3, *map(len, column)) for column in zip(*rows, strict=True)]
    right = [table.right_aligned(column) for column in range(len(widths))]

    def line(cells: list[str]) -> str:
        padded = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(cells, widths, right, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    yield line(rows[0])
    rules = [
        f"{'-' * (width + 1)}:" if is_right else "-" * (width + 2)
        for width, is_right in zip(widths, right, strict=True)
    ]
    yield f"|{'|'.join(rules)}|"
    yield from map(line, rows[1:])


def _examples(block: Examples) -> Iterator[str]:
    """Yield a numbered list: texts, label, and predictions of every strategy."""
    for number, row in enumerate(block.entries[:_MAX_EXAMPLES], start=1):
        shared = ", shares a text with training" if row.in_training else ""
        yield f"{number}. row {row.id}, labeled **{literal(shortened(row.label, 60))}**{shared}"
        for column, text in zip(block.columns, row.texts, strict=True):
            yield f"   - {literal(column)}: {literal(shortened(text, _MAX_CHARACTERS))}"
        predictions = [f"`{strategy.stage}` {literal(votes(strategy))}" for strategy in row.strategies]
        yield f"   - {'; '.join(predictions)}"
    left = len(block.entries) - _MAX_EXAMPLES
    if left > 0:
        yield from chain([""], [f"{left} more in `report.html`."])


def votes(strategy: StrategyVotes) -> str:
    """Return the predictions over seeds, the most frequent first, and in brackets how close they are to the label."""
    several = len(strategy.predictions) > 1
    counts = Counter(strategy.predictions).most_common()
    predictions = ", ".join(
        f"{shortened(name, 40)} {TIMES}{number}" if several else shortened(name, 40) for name, number in counts
    )
    if strategy.error is not None:
        return f"{predictions} (off by {strategy.error:.3g})"
    if strategy.labels_right is not None:
        return f"{predictions} ({percent(strategy.labels_right, 0)} % of labels right)"
    assert strategy.label_probability is not None, "classes have probabilities"
    return f"{predictions} ({percent(strategy.label_probability, 0)} %)"


_VERDICTS = ("supported", "contradicted", "undecided")


def render_html(document: Document, plots: dict[str, str]) -> str:
    """Return the report as HTML.

    Args:
        document: the report; all its text is escaped
        plots: `<svg>` elements by plot name, from `drawing`; not escaped
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined
    from markupsafe import Markup

    environment = Environment(
        loader=PackageLoader("ftjobs.reporting.text"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = _inline_html
    environment.filters["cell"] = _cell_html
    environment.filters["shortened"] = shortened
    environment.filters["plain"] = _plain
    environment.tests["block"] = lambda block, name: type(block).__name__ == name
    environment.globals["votes"] = votes
    environment.globals["outcome"] = _outcome
    style = environment.get_template("report.css").render()
    pictures = {name: Markup(svg) for name, svg in plots.items()}
    page: str = environment.get_template("report.html.j2").render(
        document=document, plots=pictures, style=Markup(style)
    )
    return page


def _inline_html(text: str) -> Any:
    """Convert prose to HTML: its marks become elements, everything else is escaped."""
    from markupsafe import Markup, escape

    html, is_strong = Markup(), False
    for part in _MARKS.split(text):
        if part == "**":
            html += Markup("</strong>") if is_strong else Markup("<strong>")
            is_strong = not is_strong
        elif part[:1] == "`":
            html += Markup("<code>{}</code>").format(part[1:-1])
        else:
            html += escape(part.replace(" %", "\N{NO-BREAK SPACE}%"))
    return html + Markup("</strong>") if is_strong else html


def _cell_html(text: str) -> Any:
    """Convert a table cell to HTML; verdicts are colored."""
    from markupsafe import Markup

    verdict = text.strip("*")
    if verdict in _VERDICTS:
        return Markup('<span class="verdict {0}">{0}</span>').format(verdict)
    return _inline_html(text)


def _plain(text: str) -> str:
    """Remove the marks from prose, for attributes and the title."""
    return text.replace("`", "").replace("**", "")


def _outcome(strategy: StrategyVotes) -> tuple[str, str, str]:
    """Return CSS class, symbol and label for the number of seeds that are right."""
    right, seeds = strategy.right, len(strategy.predictions)
    if right is None:
        return "mixed", "≈", "predicted"
    if right == seeds:
        return "right", "✓", "right"
    return ("wrong", "✗", "wrong") if right == 0 else ("mixed", "±", f"right with {right} of {seeds} seeds")
