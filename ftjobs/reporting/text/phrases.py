"""Formatting of numbers and names, the same in Markdown, HTML and plots.

Prose in this package is plain text with two marks that both renderers convert: `code` in backticks and **strong** in
asterisks.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from unicodedata import category

from ftjobs.tasks.measures import MINUS, interval, percent, point_interval, points, spread

if TYPE_CHECKING:
    from ftjobs.reporting.findings.strategies import Cost

__all__ = ["MINUS", "interval", "percent", "point_interval", "points", "spread"]

TIMES = "\N{MULTIPLICATION SIGN}"
#: Items that `first_items` lists.
_MAX_ITEMS = 6
_UNITS = ("B", "kB", "MB", "GB", "TB")
#: Characters that change the direction of the surrounding text.
_DIRECTIONAL = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def without_control_characters(text: str) -> str:
    """Replace control characters of the data with U+FFFD.

    Terminals execute them, SVG does not allow them, and directional ones reorder the surrounding text.
    """
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_control(char) else char for char in text)


def _is_control(char: str) -> bool:
    return char in _DIRECTIONAL or (category(char) in ("Cc", "Cs") and not char.isspace())


def p_value(p: float) -> str:
    """Format `0.034`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_equation(p: float) -> str:
    """Format `p = 0.034`, or `p < 0.001`."""
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def duration(seconds: float) -> str:
    """Format `4.6 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def file_size(number: float) -> str:
    """Format bytes as `512 MB`."""
    for unit in _UNITS:
        if number < 1000 or unit == _UNITS[-1]:
            break
        number /= 1000
    return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"


COST_HEADER = ("training time", "examples/s", "peak memory", "device")


def cost_cells(cost: Cost) -> list[str]:
    """Return the cells under `COST_HEADER`."""
    memory = file_size(cost.peak_memory_bytes) if cost.peak_memory_bytes is not None else "-"
    speed = cost.examples_per_second
    return [
        duration(cost.stage_seconds),
        f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}",
        memory,
        listed(cost.devices),
    ]


def count(number: int, noun: str, plural: str | None = None) -> str:
    """Format `1 seed`, `3 seeds`, `2,834 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def round_up(number: int) -> int:
    """Round up to two significant digits: 12345 to 13000."""
    unit = int(10 ** max(len(str(number)) - 2, 0))
    return -(-number // unit) * unit


def listed(items: Sequence[str]) -> str:
    """Join as `a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def first_items(items: Iterable[str], separator: str = ", ") -> str:
    """Join the first items and count the others: `a, b, c, d, e, f and 3 more`."""
    every = list(items)
    more = f" and {len(every) - _MAX_ITEMS} more" if len(every) > _MAX_ITEMS else ""
    return separator.join(every[:_MAX_ITEMS]) + more


def capitalized(text: str) -> str:
    """Return the text with its first character in upper case."""
    return text[0].upper() + text[1:]


def code(name: object) -> str:
    """Mark a name of the job or of ftjobs."""
    return f"`{name}`"


def quoted(text: str, limit: int = 60) -> str:
    """Quote text of the data in prose: on one line, without marks, shortened."""
    plain = shortened(" ".join(text.split()), limit).replace("`", "'").replace("*", "\N{ASTERISK OPERATOR}")
    return f"“{plain}”"


def shortened(text: str, limit: int) -> str:
    """Shorten to `limit` characters, between words where possible, with an ellipsis at the end."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    at_word = head.rsplit(None, 1)[0] if " " in head[limit // 2 :] else head
    return at_word.rstrip(" ,;:") + "…"
