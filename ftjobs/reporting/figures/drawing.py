"""Style, axes and legends of the plots, and their conversion to SVG and PNG.

Matplotlib is imported when a plot is drawn, without pyplot.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftjobs.reporting.text.phrases import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colors for any color vision, on white and on black: Okabe and Ito 2008 ("Color Universal Design") without black and
#: yellow, which lack contrast on one of the two.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
#: Distinguishable lines; further ones are gray and in the background.
MAX_LINES = len(PALETTE) * len(DASHES[:2])
INK, FAINT, RULE, PAPER = "#1b1f24", "#6a7078", "#d5d9de", "#ffffff"
#: CSS variables that replace the colors in HTML; the style sheet defines them for light and dark screens.
CSS_VARIABLES = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    RULE: "var(--rule)",
    PAPER: "var(--paper)",
    **{color.lower(): f"var(--c{number})" for number, color in enumerate(PALETTE)},
}
_FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"
WIDTH = 7.6
_PNG_DPI = 144
_STYLE: Any = {
    "font.family": ["DejaVu Sans"],
    "font.size": 9,
    "text.parse_math": False,  # names may contain dollar signs
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
class DrawnPlot:
    """A plot in three formats."""

    inline_svg: str
    """SVG element for HTML, with the page's font and colors."""
    svg: str
    """SVG file, on white."""
    png: bytes


@contextmanager
def draw_in_style(name: str) -> Iterator[None]:
    """Apply the style within this block. Ids in the SVG are derived from `name`, so they are reproducible."""
    import matplotlib

    with matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        yield


def new_figure(height: float, rows: int = 1, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """Return a figure of the report's width, `height` inches high, and its axes in reading order."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(axes.reshape(-1))


def line_style(position: int) -> dict[str, Any]:
    """Return color, dashes and marker of a line; thin gray lines without markers after the first `MAX_LINES`."""
    if position >= MAX_LINES:
        return {"color": FAINT, "linestyle": "-", "marker": "", "linewidth": 0.7, "alpha": 0.5}
    colors = len(PALETTE)
    return {
        "color": PALETTE[position % colors],
        "linestyle": DASHES[position // colors],
        "marker": MARKERS[position % colors],
    }


class FirstUse:
    """Legend labels: each is shown for its first use only."""

    def __init__(self) -> None:
        self._used: set[str] = set()

    def __call__(self, label: str) -> str:
        if label in self._used:
            return "_"
        self._used.add(label)
        return label


def label_rows(axes: Axes, names: list[str]) -> None:
    """Label one row of the plot per name, from top to bottom."""
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(axis="y", visible=False)
    axes.spines["left"].set_visible(False)


def set_epoch_axis(axes: Axes) -> None:
    """Label the horizontal axis with whole epochs."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("epoch")
    axes.xaxis.set_major_locator(MaxNLocator("auto", steps=[1, 2, 5, 10], integer=True))


def add_legend(figure: Figure, axes: Axes) -> None:
    """Place the legend below the plot, in as many columns as its labels allow."""
    handles, labels = axes.get_legend_handles_labels()
    if not handles:
        return
    longest = max(map(len, labels))
    columns = max(1, min(len(labels), 110 // (longest + 8)))
    names: Iterable[str] = [shortened(label, 60) for label in labels]
    figure.legend(handles, names, loc="outside lower left", ncols=columns, handlelength=2.6, columnspacing=1.6)


def save(figure: Figure, name: str, title: str) -> DrawnPlot:
    """Convert a figure to SVG and PNG, within `draw_in_style(name)`."""
    text, picture = io.StringIO(), io.BytesIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None, "Title": title}
    figure.savefig(text, format="svg", metadata=metadata)
    figure.savefig(picture, format="png", dpi=_PNG_DPI, metadata={"Software": None, "Title": title})
    return DrawnPlot(_inline_svg(text.getvalue(), name), text.getvalue(), picture.getvalue())


def _inline_svg(svg: str, name: str) -> str:
    """Return the `<svg>` element with the page's colors and font, and with ids that are unique in the page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(
        r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false">', svg, count=1
    )
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda match: f' id="{name}-{match[1]}"' if match[1] in used else "", svg)
    svg = re.sub(r'xlink:href="#', f'href="#{name}-', svg)
    svg = re.sub(r"url\(#", f"url(#{name}-", svg)
    for color, variable in CSS_VARIABLES.items():
        svg = svg.replace(color, variable)
    svg = re.sub(r"font-family: [^;\"]*", f"font-family: {_FONT}", svg)
    # Matplotlib's style sheet would apply to the whole page.
    svg = re.sub(r"<defs>\s*<style[^>]*>.*?</style>\s*</defs>", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<title>.*?</title>\s*", "", svg, flags=re.DOTALL)
    return "\n".join(line.strip() for line in svg.splitlines() if line.strip())
