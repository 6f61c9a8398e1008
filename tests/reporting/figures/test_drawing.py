"""Plots are valid SVG, alone and within a page that defines their colors."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from importlib.resources import files

import pytest

from ftjobs.reporting.figures import drawing

STYLE_SHEET = files("ftjobs.reporting.text").joinpath("templates/report.css").read_text()
SCHEMES = dict(
    zip(("light", "dark"), STYLE_SHEET.split("@media print")[0].split("prefers-color-scheme: dark"), strict=True)
)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_style_sheet_defines_every_color_of_plots(scheme: str) -> None:
    for variable in drawing.CSS_VARIABLES.values():
        assert f"{variable.removeprefix('var(').removesuffix(')')}:" in SCHEMES[scheme]


def contrast(first: str, second: str) -> float:
    """Return the contrast ratio of two colors (WCAG 2.1)."""
    high, low = sorted((luminance(first), luminance(second)), reverse=True)
    return (high + 0.05) / (low + 0.05)


def luminance(color: str) -> float:
    channels = [int(color[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_contrast_of_text_meets_wcag_aa(scheme: str) -> None:
    colors = dict(re.findall(r"--(\w+): (#\w{6})", SCHEMES[scheme]))
    for background in ("paper", "surface"):
        for text in ("ink", "faint", "accent", "good", "bad"):
            assert contrast(colors[text], colors[background]) >= 4.5, (text, background)
    for number in range(len(drawing.PALETTE)):  # WCAG requires 3 for graphics; the lightest also differ in shape
        assert contrast(colors[f"c{number}"], colors["paper"]) >= 2


def test_plot_is_valid_alone_and_in_a_page() -> None:
    with drawing.draw_in_style("one"):
        figure, (axes,) = drawing.new_figure(2)
        axes.plot([0, 1], [0, 1], "o", color=drawing.PALETTE[0], label="$x$ <b>&")
        axes.set_title("$x$ <b>&")
        plot = drawing.save(figure, "one", "Title <i>")
    alone = ElementTree.fromstring(plot.svg)
    inline = ElementTree.fromstring(plot.inline_svg.replace("href=", "xlink_href="))
    assert any(text.text == "$x$ <b>&" for text in alone.iter("{http://www.w3.org/2000/svg}text"))
    assert inline.tag == "svg"
    assert "#0072b2" not in plot.inline_svg.lower()
    assert "var(--c0)" in plot.inline_svg
    assert "dc:date" not in plot.svg
    ids = [identifier for element in inline.iter() if (identifier := element.get("id"))]
    assert all(identifier.startswith("one-") for identifier in ids)
    assert all(f"#{identifier}" in plot.inline_svg for identifier in ids)
    assert plot.png.startswith(b"\x89PNG")
