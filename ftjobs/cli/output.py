"""Output of commands: aligned tables on stdout, and the termination message of a container."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

#: Longest termination message that the kubelet keeps, in bytes (MaxContainerTerminationMessageLength).
MAX_TERMINATION_MESSAGE_BYTES = 4096


def make_table(header: list[str], rows: list[list[Any]]) -> Table:
    """Build a table with aligned columns. None is shown as `-`, floats with four decimals."""
    from rich.table import Table
    from rich.text import Text

    table = Table(*header, box=None, pad_edge=False, header_style="bold")
    for row in rows:
        table.add_row(*(Text(_format_cell(value)) for value in row))
    return table


def print_table(table: Table) -> None:
    """Print a table on stdout. Unless stdout is a terminal, nothing is truncated and lines have no trailing spaces."""
    from rich.console import Console

    if sys.stdout.isatty():
        Console(highlight=False, markup=False).print(table)
        return
    console = Console(width=1_000, highlight=False, markup=False)
    with console.capture() as captured:
        console.print(table)
    for line in captured.get().splitlines():
        print(line.rstrip())


def write_termination_message(text: str) -> None:
    """Write a text to the file that FTJOBS_TERMINATION_LOG names, if set. Kubernetes shows it in the pod's status."""
    path = os.environ.get("FTJOBS_TERMINATION_LOG")
    if not path:
        return
    # Decoding drops a character that the limit cuts in half.
    message = text.encode(errors="replace")[: MAX_TERMINATION_MESSAGE_BYTES - 1].decode(errors="ignore")
    with suppress(OSError), open(path, "w", encoding="utf-8") as file:  # stdout or stderr have the message too
        file.write(message)


def _format_cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.4f}" if isinstance(value, float) else str(value)
