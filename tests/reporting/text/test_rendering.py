"""Markdown and HTML: what a hostile name or text holds is shown and does nothing."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from ftjobs.reporting.text import html_report, markdown_report
from ftjobs.reporting.text.blocks import Command, Document, Examples, Items, Listing, Plot, Prose, Section, Table
from ftjobs.reporting.text.phrases import quoted, softly_cut, visible

HOSTILE = "<script>alert(1)</script> | **a** `b` [c](javascript:d) <!-- &lt; _e_ # ~~f~~ \\"
ENTRY = {
    "id": 7, "texts": [HOSTILE, "# 1. no heading\n- no list"], "characters": [len(HOSTILE), 900], "label": HOSTILE,
    "in_training": True,
    "strategies": [
        {"stage": "head", "predictions": [HOSTILE, "b", "b"], "right": 0, "label_probability": 0.25},
        {"stage": "tail", "predictions": ["b", "b", "b"], "right": 3, "label_probability": 0.75},
    ],
}  # fmt: skip


def document(*blocks: object) -> Document:
    section = Section("Caveats and <more>", list(blocks))  # type: ignore[arg-type]
    return Document(
        "made", f"`a` beats {quoted(HOSTILE)}", ["One. **Two.**"], [Command(["ftjobs pull 'x'"])], [section]
    )


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") for name, _ in attributes)
        self.found.append(tag)
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


BLOCKS = [
    Prose(f"said {quoted(HOSTILE)}"),
    Items([quoted(HOSTILE), "`code`"]),
    Table(["name", "figure"], [[quoted(HOSTILE), "1"], ["`b`", "**supported**"]], numeric=1, strong=0),
    Table(["name"], [["`c`"]], fold="more"),
    Listing("job.yaml", HOSTILE),
    Examples([ENTRY], ["question", HOSTILE]),
]


def test_html_is_well_formed_and_holds_no_tag_of_the_datas() -> None:
    page = html_report.render(document(*BLOCKS, Plot("p", "A plot", "Of it.")), {"p": "<svg viewBox='0 0 1 1'></svg>"})
    tags = Tags(page)
    assert tags.open == []
    assert "script" not in tags.found
    assert not {"link", "iframe", "img", "object"} & set(tags.found)  # nothing is fetched
    assert "http://" not in page
    assert "https://" not in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert '<span class="verdict supported">supported</span>' in page
    assert '<a href="#caveats-and-more">' in page
    assert 'id="caveats-and-more"' in page


def rendered(text: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def test_markdown_shows_hostile_text_as_it_is() -> None:
    page = rendered(markdown_report.render(document(*BLOCKS)))
    assert "<script" not in page
    assert "javascript" not in page.replace("(javascript:d)", "")
    assert "<a href" not in page.replace('<a href="job.yaml">', "")
    assert page.count("<h1>") == 1
    assert page.count("<h2>") == 1
    assert "<s>" not in page
    assert "<em>" not in page


def test_a_table_keeps_its_columns_whatever_stands_in_it() -> None:
    table = Table(["name", "figure"], [[quoted("a|b||c"), "`x`"], ["**supported**", "-1.0"]], numeric=1)
    lines = markdown_report.render(document(table)).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("| name"))
    assert len({len(line) for line in lines[at : at + 4]}) == 1  # aligned for a terminal
    assert lines[at + 1].endswith("-:|")
    assert rendered("\n".join(lines[at : at + 4])).count("<td") == 4


@pytest.mark.parametrize("text", ["1. one", "- item", "+ item", "2) two", "= rule", "-"])
def test_texts_of_the_data_start_no_list(text: str) -> None:
    shown = rendered(f"x\n\n{markdown_report._literal(text)}")
    assert shown == f"<p>x</p>\n<p>{text}</p>\n"


def test_control_characters_are_seen_and_not_obeyed() -> None:
    assert visible({"a\x1b[31m": ["b\x00c\u202ed\ne", 1, None]}) == {
        "a\N{REPLACEMENT CHARACTER}[31m": ["b\N{REPLACEMENT CHARACTER}c\N{REPLACEMENT CHARACTER}d\ne", 1, None]
    }
    assert (
        visible("नमस्ते \N{ZERO WIDTH JOINER} 👩\N{ZERO WIDTH JOINER}🔬")
        == "नमस्ते \N{ZERO WIDTH JOINER} 👩\N{ZERO WIDTH JOINER}🔬"
    )


def test_texts_are_cut_at_a_word() -> None:
    assert softly_cut("one two three", 13) == "one two three"
    assert softly_cut("one two three", 12) == "one two…"
    assert softly_cut("a" * 50, 10) == "a" * 9 + "…"


def test_the_style_sheet_knows_every_colour_that_plots_use() -> None:
    from importlib.resources import files

    from ftjobs.reporting.figures import drawing

    style = files("ftjobs.reporting.text").joinpath("templates/report.css").read_text()
    light, dark = style.split("prefers-color-scheme: dark")[:2]
    for variable in drawing._OF_PAGE.values():
        name = variable.removeprefix("var(").removesuffix(")")
        assert f"{name}:" in light
        assert f"{name}:" in dark


def luminance(colour: str) -> float:
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_text_contrast_is_that_of_wcag_aa_on_both_backgrounds() -> None:
    import re
    from importlib.resources import files

    style = files("ftjobs.reporting.text").joinpath("templates/report.css").read_text().split("@media print")[0]
    light, dark = (
        dict(re.findall(r"--(\w+): (#\w{6})", part)) for part in style.split("prefers-color-scheme: dark")[:2]
    )
    for scheme in (light, dark):
        for ground in ("paper", "surface"):
            for text in ("ink", "faint", "accent", "good", "bad"):
                high, low = sorted((luminance(scheme[text]), luminance(scheme[ground])), reverse=True)
                assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)
        for number in range(6):  # lines and marks: 3 to 1 is asked of graphics; the palette's lightest have shapes too
            high, low = sorted((luminance(scheme[f"c{number}"]), luminance(scheme["paper"])), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= 2


def test_plots_stand_alone_and_in_the_page() -> None:
    from ftjobs.reporting.figures import drawing

    with drawing.style("one"):
        figure, (axes,) = drawing.blank(2)
        axes.plot([0, 1], [0, 1], "o", color=drawing.PALETTE[0], label="$x$ <b>&")
        axes.set_title("$x$ <b>&")
        drawn = drawing.finished(figure, "one", "Title <i>")
    alone, within = (
        ElementTree.fromstring(drawn.svg),
        ElementTree.fromstring(drawn.page.replace("href=", "xlink_href=")),
    )
    assert any(text.text == "$x$ <b>&" for text in alone.iter("{http://www.w3.org/2000/svg}text"))
    assert within.tag == "svg"
    assert "#0072b2" not in drawn.page.lower()
    assert "var(--c0)" in drawn.page
    assert "dc:date" not in drawn.svg
    ids = [element.get("id") for element in within.iter() if element.get("id")]
    assert all(one.startswith("one-") for one in ids if one)
    assert all(f"#{one}" in drawn.page for one in ids)
    assert drawn.png.startswith(b"\x89PNG")
