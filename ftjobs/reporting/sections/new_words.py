"""Encoders whose tokenizers got new words, beside others: how many, what they spare, and what can be compared."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.phrases import code, listed

HEADER = "bits per character"


def has_bits(rows: list[dict[str, Any]]) -> bool:
    """Whether any adapt stage has bits per character, as all of a job have where one adds words."""
    return any("bits_per_character" in row for row in rows)


def bits(row: dict[str, Any]) -> str:
    """Bits per character of an adapt stage, before and after."""
    found = row.get("bits_per_character")
    return f"{found['before']:.3f} → {found['after']:.3f}" if found else "-"


def about(rows: list[dict[str, Any]]) -> str:
    """Of the stages that added words to the tokenizer: how many, and what they spare."""
    added = [
        f"{code(row['stage'])} {row['vocabulary']['words']:,} words, {row['vocabulary']['pieces_per_word'][0]:.3f} → "
        f"{row['vocabulary']['pieces_per_word'][1]:.3f} pieces per word"
        for row in rows
        if "vocabulary" in row
    ]
    if not added:
        return ""
    return (
        f" Words added to the tokenizer: {listed(added)}; before adapting, these words are at their initial embeddings."
        " Loss, perplexity and tokens guessed are per token, so they cannot be compared between vocabularies; bits per "
        "character (the loss of a masked token times the tokens of a character) can."
    )
