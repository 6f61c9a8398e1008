"""Aligned tables on stdout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def aligned(header: list[str], rows: list[list[Any]]) -> Table:
    """Aligned columns."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(_cell(value)) for value in row))
    return table


def print_table(shown: Table) -> None:
    """Print a table on stdout; where that is no terminal nothing is cut, and lines end where their text ends."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False, markup=False).print(shown)
        return
    console = Console(width=1_000, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(shown)
    for line in captured.get().splitlines():
        print(line.rstrip())


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
