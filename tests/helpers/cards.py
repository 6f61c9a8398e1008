"""Parts of model cards."""

from __future__ import annotations

import re


def fenced_block(card: str, language: str) -> str:
    """Return the text of the first fenced block in a language."""
    match = re.search(rf"^(```+){language}\n(.*?)\n\1$", card, re.MULTILINE | re.DOTALL)
    assert match, language
    return match[2]
