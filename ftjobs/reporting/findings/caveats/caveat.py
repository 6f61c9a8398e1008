"""The caveat type, and helpers for the sentences of caveats."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ftjobs.reporting.finding import Finding
from ftjobs.reporting.inputs.evidence import Evidence

#: Items listed in a sentence before the rest is counted.
_MAX_ITEMS = 6


@dataclass(frozen=True, kw_only=True)
class Caveat(Finding):
    """A limitation of the results."""

    name: str
    """Stable name; `kind` in `report.json`."""
    text: str
    """One or more sentences, in the prose format of `phrases`."""
    figures: Finding | dict[str, Any]
    """The figures in the text."""

    def json_fields(self) -> dict[str, Any]:
        """Name the first key `kind`."""
        return {"kind": self.name, "text": self.text, "figures": self.figures}


def majority(evidence: Evidence) -> tuple[float, str]:
    """Return the share of the most frequent class in the test split, and its name."""
    labels = evidence.data.splits["test"].labels
    assert labels is not None
    counts = np.bincount(labels, minlength=len(evidence.data.classes))
    return float(counts.max() / len(labels)), evidence.data.classes[int(counts.argmax())]


def first_items(items: Iterable[str], separator: str = ", ") -> str:
    """List the first items and count the rest."""
    every = list(items)
    more = f" and {len(every) - _MAX_ITEMS} more" if len(every) > _MAX_ITEMS else ""
    return separator.join(every[:_MAX_ITEMS]) + more
