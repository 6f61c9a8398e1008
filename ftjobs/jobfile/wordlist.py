"""A file of words, one a line."""

from __future__ import annotations

import os
from pathlib import Path

from ftjobs.errors import UserError


def read(source: str, field: str) -> list[str]:
    """The words of a file, in its order and each once; errors call it `field`. Blank lines are skipped.

    Raises:
        UserError: no such file, not text, no words in it, or more than one word on a line.
    """
    path = Path(os.path.expanduser(source))
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UserError(
            f"{field}: {source!r} cannot be read ({reason}; looked at {path.absolute()}); give a text file with one "
            "word a line"
        ) from error
    words = dict.fromkeys(line.strip() for line in lines if line.strip())
    for word in words:
        if word.split() != [word]:
            number = 1 + next(index for index, line in enumerate(lines) if line.strip() == word)
            raise UserError(f"{field}: {source}, line {number}: {word!r} is not one word; write one word a line")
    if not words:
        raise UserError(f"{field}: {source} holds no words; write one word a line")
    return list(words)
