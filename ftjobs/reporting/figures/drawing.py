"""How plots look, and how a figure becomes files: an SVG for the page, one that stands alone, and a PNG.

Matplotlib is used without pyplot and imported only here and when something is drawn.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that are told apart with any colour vision, on white and on black: Okabe and Ito 2008 ("Color Universal
#: Design"), less black and yellow, which each vanish on one of the two.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
#: Strategies that can be told apart; more are drawn in grey behind these.
MOST_COLOURS = len(PALETTE) * len(DASHES[:2])
INK, FAINT, RULE, PAPER = "#1b1f24", "#6a7078", "#d5d9de", "#ffffff"
#: In a page every colour is one of the style sheet's, which has others for dark screens.
_OF_PAGE = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    **{colour.lower(): f"var(--c{number})" for number, colour in enumerate(PALETTE)},
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
WIDTH = 7.6
_PNG_DPI = 144
_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # names may hold dollar signs
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": RULE,
    "axes.facecolor": "none",
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 9,
    "axes.titlelocation": "left",
    "axes.unicode_minus": True,
    "figure.facecolor": PAPER,
    "grid.color": RULE,
    "grid.linewidth": 0.6,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "ytick.minor.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.solid_capstyle": "round",
    "svg.fonttype": "none",
}


@dataclass(frozen=True)
class Drawn:
    """One plot, in the forms that the report needs."""

    page: str
    """SVG to stand in HTML: its text and lines take the page's colours."""
    svg: str
    """SVG that stands alone, on white."""
    png: bytes


@contextmanager
def style(name: str) -> Iterator[None]:
    """Draw within this block; ids inside the SVG are made from `name`, so they are the same every time."""
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        yield


def blank(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure of the report's width with a grid of axes, in reading order."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.reshape(-1))


def look(position: int) -> dict[str, Any]:
    """Colour, dashes and marker of a strategy; those after the last that can be told apart are grey and thin."""
    if position >= MOST_COLOURS:
        return {"color": FAINT, "linestyle": "-", "marker": "", "linewidth": 0.7, "alpha": 0.5}
    colours = len(PALETTE)
    return {
        "color": PALETTE[position % colours],
        "linestyle": DASHES[position // colours],
        "marker": MARKERS[position % colours],
    }


def finished(figure: Figure, name: str, title: str) -> Drawn:
    """The figure as files. To be called within `style(name)`."""
    text, picture = io.StringIO(), io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None, "Title": title}
    figure.savefig(text, format="svg", metadata=metadata)
    figure.savefig(picture, format="png", dpi=_PNG_DPI, metadata={"Software": None, "Title": title})
    return Drawn(_for_page(text.getvalue(), name), text.getvalue(), picture.getvalue())


def _for_page(svg: str, name: str) -> str:
    """The `<svg>` element alone, in the page's colours and fonts, with ids that no other plot has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', svg, count=1
    )
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    for colour, variable in _OF_PAGE.items():
        svg = svg.replace(colour, variable)
    svg = re.sub(r"font-family: [^;\"]*", f"font-family: {_FONT}", svg)
    return _restyled(svg)


def _restyled(svg: str) -> str:
    """Attributes do not take variables, styles do; matplotlib writes both, and its style sheet would reach the page."""
    svg = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<title>.*?</title>\s*", "", svg, flags=re.DOTALL)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip())
