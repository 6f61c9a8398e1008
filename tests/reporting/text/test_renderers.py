"""Markdown and HTML show names and texts of the data literally."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from markdown_it import MarkdownIt

from ftjobs.reporting.findings.disagreements import ExampleRow, StrategyVotes
from ftjobs.reporting.text.blocks import (
    Block,
    Command,
    Document,
    Examples,
    Items,
    Listing,
    Plot,
    Prose,
    Section,
    Table,
)
from ftjobs.reporting.text.phrases import quoted
from ftjobs.reporting.text.renderers import literal, render_html, render_markdown, rendered_headline

HOSTILE = "<script>alert(1)</script> | **a** `b` [c](javascript:d) <!-- &lt; _e_ # ~~f~~ \\"
ROW = ExampleRow(
    id=7,
    texts=[HOSTILE, "# 1. no heading\n- no list"],
    characters=[len(HOSTILE), 900],
    label=HOSTILE,
    in_training=True,
    strategies=[
        StrategyVotes(stage="head", predictions=[HOSTILE, "b", "b"], right=0, label_probability=0.25),
        StrategyVotes(stage="tail", predictions=["b", "b", "b"], right=3, label_probability=0.75),
    ],
)
BLOCKS: list[Block] = [
    Prose(f"text {quoted(HOSTILE)}"),
    Items([quoted(HOSTILE), "`code`"]),
    Table(["name", "figure"], [[quoted(HOSTILE), "1"], ["`b`", "**supported**"]], numeric=1, strong=0),
    Table(["name"], [["`c`"]], fold="more"),
    Listing("job.yaml", HOSTILE),
    Examples([ROW], ["question", HOSTILE]),
]


def document(*blocks: Block) -> Document:
    section = Section("Caveats and <more>", list(blocks))
    ship: list[Block] = [Command(["ftjobs pull 'x'"])]
    return Document("name", f"`a` beats {quoted(HOSTILE)}", ["One. **Two.**"], ship, [section])


class Tags(HTMLParser):
    """Collects the tags of a page, and checks that they are nested."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        assert not any(name.startswith("on") for name, _ in attributes)
        self.names.append(tag)
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_well_formed_and_escapes_the_data() -> None:
    plot = Plot("p", "A plot", "Its caption.")
    page = render_html(document(*BLOCKS, plot), {"p": "<svg viewBox='0 0 1 1'></svg>"})
    tags = Tags(page)
    assert tags.open == []
    assert "script" not in tags.names
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert '<span class="verdict supported">supported</span>' in page
    assert '<a href="#caveats-and-more">' in page
    assert 'id="caveats-and-more"' in page


def test_html_has_no_external_resources() -> None:
    page = render_html(document(*BLOCKS), {})
    assert not {"link", "iframe", "img", "object"} & set(Tags(page).names)
    assert "http://" not in page
    assert "https://" not in page


def rendered(text: str) -> str:
    return str(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def test_markdown_escapes_the_data() -> None:
    page = rendered(render_markdown(document(*BLOCKS)))
    assert "<script" not in page
    assert "javascript" not in page.replace("(javascript:d)", "")
    assert "<a href" not in page.replace('<a href="job.yaml">', "")
    assert page.count("<h1>") == 1
    assert page.count("<h2>") == 1
    assert "<s>" not in page
    assert "<em>" not in page


def test_headline_of_rendered_markdown_is_that_of_the_document() -> None:
    assert rendered_headline(render_markdown(document())) == document().headline


def test_table_cells_with_pipes_keep_their_columns() -> None:
    table = Table(["name", "figure"], [[quoted("a|b||c"), "`x`"], ["**supported**", "-1.0"]], numeric=1)
    lines = render_markdown(document(table)).splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("| name"))
    rows = lines[start : start + 4]
    assert len({len(row) for row in rows}) == 1  # aligned in a terminal
    assert rows[1].endswith("-:|")
    assert rendered("\n".join(rows)).count("<td") == 4


@pytest.mark.parametrize("text", ["1. one", "- item", "+ item", "2) two", "= rule", "-"])
def test_texts_of_the_data_start_no_block(text: str) -> None:
    assert rendered(f"x\n\n{literal(text)}") == f"<p>x</p>\n<p>{text}</p>\n"
