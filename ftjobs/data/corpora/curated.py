"""What a `corpus` stage publishes and adapt stages read: passages in two parquet files, and what was dropped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ftjobs.data.prepared import TextColumn

TRAIN, HELD_OUT, RECORD = "train", "held-out", "corpus.json"
"""Names of the files; those of passages end in `.parquet`."""


def read(folder: Path) -> tuple[TextColumn, TextColumn]:
    """The passages to train on, and those held out; read when they are asked for."""
    return TextColumn(folder / f"{TRAIN}.parquet", "text"), TextColumn(folder / f"{HELD_OUT}.parquet", "text")


def read_record(folder: Path) -> dict[str, Any]:
    """What was read and dropped, with examples: `corpus.json`."""
    record: dict[str, Any] = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return record
