"""What a caveat is, and how its sentences are put together."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from ftjobs.reporting.inputs.evidence import Evidence

#: Stages named in a sentence before it says how many more there are.
_NAMED = 6

Caveat = dict[str, Any]
"""`kind`, `text` (prose), `figures` (what the text says, as data)."""


def caveat(kind: str, text: str, **figures: Any) -> Caveat:
    """One caveat."""
    return {"kind": kind, "text": text, "figures": figures}


def majority(evidence: Evidence) -> tuple[float, str]:
    """Share of the most frequent class among the test rows, and its name."""
    labels = evidence.data.splits["test"].labels
    assert labels is not None
    counts = np.bincount(labels, minlength=len(evidence.data.classes))
    return float(counts.max() / len(labels)), evidence.data.classes[int(counts.argmax())]


def some(items: Iterable[str], separator: str = ", ") -> str:
    """The first few of many, and how many more there are."""
    every = list(items)
    more = f" and {len(every) - _NAMED} more" if len(every) > _NAMED else ""
    return separator.join(every[:_NAMED]) + more
