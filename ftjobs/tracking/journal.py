"""Every row of a run, in the order of its steps and each once, whichever attempts logged it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

#: Takes metrics by name, and the optimizer step they belong to.
Log = Callable[[dict[str, Any], int], None]
#: A step, and all metrics of it.
Row = tuple[int, dict[str, Any]]


def nowhere(metrics: dict[str, Any], step: int) -> None:
    """Log to no tracker."""


class Journal:
    """The rows so far. The last is open: what else is logged at its step joins it.

    A row is passed on when it is whole, so that no tracker ever holds part of one, which it would not let us complete.
    """

    def __init__(self) -> None:
        self.rows: list[Row] = []

    def add(self, metrics: dict[str, Any], step: int) -> Row | None:
        """Add metrics; what an earlier attempt has logged already is passed over. Returns the row that is whole now."""
        if not self.rows or step > self.rows[-1][0]:
            self.rows.append((step, metrics))
            return self.rows[-2] if len(self.rows) > 1 else None
        if step == self.rows[-1][0]:
            self.rows[-1] = (step, {**self.rows[-1][1], **metrics})  # a new one: the old may be being written
        return None

    def dump(self) -> str:
        """All rows as JSON."""
        return json.dumps(list(self.rows))

    def load(self, text: str) -> None:
        """Start from the rows that `dump` gave, and add those that there were."""
        later, self.rows = self.rows, [(int(step), dict(metrics)) for step, metrics in json.loads(text)]
        for step, metrics in later:
            self.add(metrics, step)
