"""Render a report to a single HTML file without scripts or external resources."""

from __future__ import annotations

import re
from typing import Any

from ftjobs.reporting.findings.disagreements import StrategyVotes
from ftjobs.reporting.text.blocks import Document
from ftjobs.reporting.text.markdown_report import votes
from ftjobs.reporting.text.phrases import shortened

_MARKS = re.compile(r"(`[^`]*`|\*\*)")
_VERDICTS = ("supported", "contradicted", "undecided")


def render(document: Document, plots: dict[str, str]) -> str:
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
    environment.filters["inline"] = _inline
    environment.filters["cell"] = _cell
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


def _inline(text: str) -> Any:
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


def _cell(text: str) -> Any:
    """Convert a table cell to HTML; verdicts are colored."""
    from markupsafe import Markup

    verdict = text.strip("*")
    if verdict in _VERDICTS:
        return Markup('<span class="verdict {0}">{0}</span>').format(verdict)
    return _inline(text)


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
