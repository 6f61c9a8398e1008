"""The document model of a report, rendered to Markdown and to HTML.

Text is prose as defined in `phrases`. Renderers escape everything in it except the two marks.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ftjobs.reporting.findings.disagreements import ExampleRow


@dataclass(frozen=True)
class Prose:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Items:
    """A list of short paragraphs."""

    texts: list[str]


@dataclass(frozen=True)
class Table:
    """Rows of prose under a header."""

    header: list[str]
    rows: list[list[str]]
    numeric: int = 0
    """First right-aligned column; 0 for none."""
    left: frozenset[int] = frozenset()
    """Left-aligned columns after `numeric`."""
    strong: int | None = None
    """Index of the row in bold."""
    fold: str | None = None
    """Summary of a table that HTML folds."""

    def right_aligned(self, column: int) -> bool:
        """Return whether a column holds numbers."""
        return bool(self.numeric) and column >= self.numeric and column not in self.left


@dataclass(frozen=True)
class Plot:
    """One file of `plots/`."""

    name: str
    title: str
    """Also the alternative text."""
    caption: str


@dataclass(frozen=True)
class Command:
    """Shell lines to copy."""

    lines: list[str]


@dataclass(frozen=True)
class Listing:
    """A file of the report's folder. HTML includes its text; Markdown links to it."""

    name: str
    text: str


@dataclass(frozen=True)
class Examples:
    """Test rows with the predictions of every strategy."""

    entries: list[ExampleRow]
    columns: list[str]
    """Names of the text columns."""


Block = Prose | Items | Table | Plot | Command | Listing | Examples


@dataclass(frozen=True)
class Section:
    """A heading and its blocks."""

    title: str
    blocks: list[Block]

    @property
    def anchor(self) -> str:
        """The heading as a URL fragment."""
        return "-".join("".join(char if char.isalnum() else " " for char in self.title.lower()).split())


@dataclass(frozen=True)
class Document:
    """A report."""

    title: str
    headline: str
    lead: list[str]
    """Paragraphs after the headline."""
    ship: list[Block]
    """The recommended checkpoint."""
    sections: list[Section] = field(default_factory=list)

    @property
    def plots(self) -> list[Plot]:
        """Every plot, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Plot)]
