"""The parts that a report is put together from, before they are Markdown or HTML.

Prose is as `phrases` describes it: `code` and **strong**, nothing else. A renderer escapes everything in it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
    """Columns from this one on are aligned to the right; 0 for none."""
    left: frozenset[int] = frozenset()
    """Columns that are not, in spite of that."""
    strong: int | None = None
    """The row to bring out."""
    fold: str | None = None
    """Where there is room to fold (HTML): what to say in place of the table."""

    def right_aligned(self, column: int) -> bool:
        """Whether a column holds figures."""
        return bool(self.numeric) and column >= self.numeric and column not in self.left


@dataclass(frozen=True)
class Plot:
    """One of `plots/`."""

    name: str
    title: str
    """What it shows, for those who do not see it too."""
    caption: str


@dataclass(frozen=True)
class Command:
    """Shell lines to copy."""

    lines: list[str]


@dataclass(frozen=True)
class Listing:
    """A file in full. Markdown only names it: it lies beside the report."""

    name: str
    text: str


@dataclass(frozen=True)
class Examples:
    """Test rows as `disagreements` gives them."""

    entries: list[dict[str, Any]]
    columns: list[str]


Block = Prose | Items | Table | Plot | Command | Listing | Examples


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: list[Block]

    @property
    def anchor(self) -> str:
        """The heading as part of an address."""
        return "-".join("".join(char if char.isalnum() else " " for char in self.title.lower()).split())


@dataclass(frozen=True)
class Document:
    """The whole report."""

    title: str
    headline: str
    lead: list[str]
    ship: list[Block]
    sections: list[Section] = field(default_factory=list)
