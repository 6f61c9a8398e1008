"""Numbers and texts of the data in prose."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from ftjobs.reporting.finding import Finding, map_strings
from ftjobs.reporting.text.phrases import (
    duration,
    file_size,
    listed,
    p_equation,
    round_up,
    shortened,
    without_control_characters,
)

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True, kw_only=True)
class Named(Finding):
    name: str
    children: list[Named]


def test_control_characters_are_replaced_at_any_depth() -> None:
    finding = Named(name="a\x1b[31m", children=[Named(name="b\x00c\u202ed\ne", children=[])])
    clean = map_strings({"key\x1b": finding}, without_control_characters)[f"key{REPLACEMENT}"]
    assert clean.name == f"a{REPLACEMENT}[31m"
    assert clean.children[0].name == f"b{REPLACEMENT}c{REPLACEMENT}d\ne"


def test_joiners_of_scripts_and_emoji_are_kept() -> None:
    text = "नमस्ते \N{ZERO WIDTH JOINER} 👩\N{ZERO WIDTH JOINER}🔬"
    assert without_control_characters(text) == text


def test_texts_are_shortened_between_words() -> None:
    assert shortened("one two three", 13) == "one two three"
    assert shortened("one two three", 12) == "one two…"
    assert shortened("a" * 50, 10) == "a" * 9 + "…"


@pytest.mark.parametrize(
    ("formatted", "expected"),
    [
        (duration(4.56), "4.6 s"),
        (duration(725), "12 min 5 s"),
        (duration(12_000), "3 h 20 min"),
        (file_size(900), "900 B"),
        (file_size(5_120), "5.1 kB"),
        (file_size(512_000_000), "512 MB"),
        (p_equation(0.034), "p = 0.034"),
        (p_equation(0.00001), "p < 0.001"),
        (round_up(1_234), 1_300),
        (round_up(7), 7),
        (listed(["a", "b", "c"]), "a, b and c"),
    ],
)
def test_numbers_are_formatted(formatted: object, expected: object) -> None:
    assert formatted == expected
