"""How the report writes figures and names: the same everywhere, in Markdown, HTML and plots.

Prose is plain text with two marks, `code` in backticks and **strong** in asterisks, which the renderers understand.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unicodedata import category

from ftjobs.tasks.measures import MINUS, interval, percent, point_interval, points, spread

__all__ = ["MINUS", "interval", "percent", "point_interval", "points", "spread"]

TIMES = "\N{MULTIPLICATION SIGN}"
_UNITS = ("B", "kB", "MB", "GB", "TB")
#: Characters that turn the direction of the text around them.
_TURNING = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


def visible(value: Any) -> Any:
    """Findings with every control character replaced that stands in a name or a text of the data.

    A terminal would obey it, an SVG would not be XML any more, and text could show in another order than it stands.
    """
    if isinstance(value, str):
        return "".join(_REPLACEMENT if _controls(char) else char for char in value)
    if isinstance(value, dict):
        return {visible(key): visible(one) for key, one in value.items()}
    return [visible(one) for one in value] if isinstance(value, list) else value


_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def _controls(char: str) -> bool:
    return char in _TURNING or (category(char) in ("Cc", "Cs") and not char.isspace())


def p_value(p: float) -> str:
    """`0.034`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def p_sentence(p: float) -> str:
    """`p = 0.034`, or `p < 0.001`."""
    return f"p {p_value(p)}" if p < 0.001 else f"p = {p_value(p)}"


def duration(seconds: float) -> str:
    """`4.6 s`, `12 min 5 s`, `3 h 20 min`."""
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def size(number: float) -> str:
    """Bytes as `512 MB`."""
    for unit in _UNITS:
        if number < 1000 or unit == _UNITS[-1]:
            break
        number /= 1000
    return f"{number:.0f} {unit}" if number >= 10 or unit == "B" else f"{number:.1f} {unit}"


def cost(cost: dict[str, Any]) -> list[str]:
    """What training took, as cells: time, examples per second, peak memory, devices."""
    memory = size(cost["peak_memory_bytes"]) if cost["peak_memory_bytes"] is not None else "-"
    speed = cost["examples_per_second"]
    return [
        duration(cost["stage_seconds"]),
        f"{speed:,.0f}" if speed >= 10 else f"{speed:.1f}",
        memory,
        listed(cost["devices"]),
    ]


def count(number: int, noun: str, plural: str | None = None) -> str:
    """`1 seed`, `3 seeds`, `2,834 rows`."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def roughly(number: int) -> int:
    """The number, or its first two figures where it has more: 12345 as 12000."""
    unit = int(10 ** max(len(str(number)) - 2, 0))
    return -(-number // unit) * unit


def listed(items: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return items[0] if len(items) == 1 else f"{', '.join(items[:-1])} and {items[-1]}"


def code(name: object) -> str:
    """A name of ours in prose."""
    return f"`{name}`"


def quoted(text: str, limit: int = 60) -> str:
    """Somebody else's words within our prose: one line, no marks of ours, cut softly."""
    plain = softly_cut(" ".join(text.split()), limit).replace("`", "'").replace("*", "\N{ASTERISK OPERATOR}")
    return f"“{plain}”"


def softly_cut(text: str, limit: int) -> str:
    """At most `limit` characters, ended at a word and an ellipsis where something is missing."""
    if len(text) <= limit:
        return text
    head = text[: limit - 1]
    at_word = head.rsplit(None, 1)[0] if " " in head[limit // 2 :] else head
    return at_word.rstrip(" ,;:") + "…"
