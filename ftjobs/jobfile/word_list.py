"""Files of words, one a line: their words take their place in a job, which then needs no file to be planned or run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ftjobs.errors import UserError


def put_words(data: dict[str, Any], folder: Path) -> None:
    """Put the words of each file that a `vocabulary.add` names in its place. Paths are relative to `folder`.

    Raises:
        UserError: a file cannot be read, holds no words, or more than one on a line.
    """
    for field, vocabulary in _vocabularies(data):
        source = vocabulary.get("add")
        if isinstance(source, str) and source and "://" not in source:
            vocabulary["add"] = read(folder / os.path.expanduser(source), field)


def read(path: Path, field: str) -> list[str]:
    """The words of a file, in its order and each once; errors call it `field`. Blank lines are skipped.

    Raises:
        UserError: no such file, not text, no words in it, or more than one word on a line.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8 text"
        raise UserError(
            f"{field}: {path.name!r} cannot be read ({reason}; looked at {path.absolute()}); give a number, words, or "
            "a text file with one word a line, relative to the job file"
        ) from error
    words = dict.fromkeys(line.strip() for line in lines if line.strip())
    for word in words:
        if word.split() != [word]:
            number = 1 + next(index for index, line in enumerate(lines) if line.strip() == word)
            raise UserError(f"{field}: {path}, line {number}: {word!r} is not one word; write one word a line")
    if not words:
        raise UserError(f"{field}: {path} holds no words; write one word a line")
    return list(words)


def _vocabularies(data: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The `vocabulary` mappings of a job file as it was parsed, right or wrong, with the path of their `add`."""
    for part in ("defaults", "stages"):
        stages = data.get(part)
        for name, stage in stages.items() if isinstance(stages, dict) else []:
            vocabulary = stage.get("vocabulary") if isinstance(stage, dict) else None
            if isinstance(vocabulary, dict):
                yield f"{part}.{name}.vocabulary.add", vocabulary
