"""The report as one HTML file that needs nothing else: no script, no network, plots and style inside."""

from __future__ import annotations

import re
from typing import Any

from ftjobs.reporting.text.blocks import Document
from ftjobs.reporting.text.markdown_report import votes
from ftjobs.reporting.text.phrases import softly_cut

_MARKED = re.compile(r"(`[^`]*`|\*\*)")
_VERDICTS = ("supported", "contradicted", "undecided")


def render(document: Document, plots: dict[str, str]) -> str:
    """The whole page.

    Args:
        document: the report in words; everything in it is escaped.
        plots: name -> `<svg>` element, made by `drawing`, which is put in as it is.
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
    environment.filters["cut"] = softly_cut
    environment.filters["plain"] = _plain
    environment.tests["block"] = lambda block, name: type(block).__name__ == name
    environment.globals["votes"] = votes
    environment.globals["mark"] = _mark
    style = environment.get_template("report.css").render()
    pictures = {name: Markup(svg) for name, svg in plots.items()}
    page: str = environment.get_template("report.html.j2").render(
        document=document, plots=pictures, style=Markup(style)
    )
    return page


def _inline(text: str) -> Any:
    """Prose as HTML: our own two marks become elements, everything else is escaped."""
    from markupsafe import Markup, escape

    made, strong = Markup(), False
    for part in _MARKED.split(text):
        if part == "**":
            made += Markup("</strong>") if strong else Markup("<strong>")
            strong = not strong
        elif part[:1] == "`":
            made += Markup("<code>{}</code>").format(part[1:-1])
        else:
            made += escape(part.replace(" %", "\N{NO-BREAK SPACE}%"))
    return made + Markup("</strong>") if strong else made


def _cell(text: str) -> Any:
    """A table cell; a verdict gets its colour."""
    from markupsafe import Markup

    verdict = text.strip("*")
    if verdict in _VERDICTS:
        return Markup('<span class="verdict {0}">{0}</span>').format(verdict)
    return _inline(text)


def _plain(text: str) -> str:
    """Prose without its marks, for attributes and the title."""
    return text.replace("`", "").replace("**", "")


def _mark(strategy: dict[str, Any]) -> tuple[str, str, str]:
    """Class, sign and words for how many seeds of a strategy are right."""
    right, seeds = strategy["right"], len(strategy["predictions"])
    if right is None:  # a number is not right or wrong
        return "mixed", "≈", "predicted"
    if right == seeds:
        return "right", "✓", "right"
    return ("wrong", "✗", "wrong") if right == 0 else ("mixed", "±", f"right with {right} of {seeds} seeds")
