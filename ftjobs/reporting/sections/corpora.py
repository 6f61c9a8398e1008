"""What stages learned from corpora of their own, and what that did for the task's texts."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.document import Block, Prose, Table
from ftjobs.reporting.phrases import code

#: Reasons why passages were dropped, as columns.
_DROPPED = {"contaminated": "hold a test text", "exact_duplicates": "repeated", "near_duplicates": "nearly repeated"}


def corpora(rows: list[dict[str, Any]]) -> list[Block]:
    """A table of the corpora; nothing where every stage learned from the task's texts."""
    rows = [row for row in rows if row["corpus"]]
    if not rows:
        return []
    header = ["model", "passages", "held out", *_DROPPED.values(), "an example", "tokens seen"]
    header += ["perplexity on the task's texts"]
    return [Prose(_WHAT), Table(header, [_row(row) for row in rows], numeric=1, left=frozenset({6}))]


_WHAT = (
    "Corpora: passages to train on, passages that perplexity is measured on and the best epoch is chosen by, and "
    "passages that were dropped. The task's held-out texts are measured beside, and decide nothing here."
)


def measured_on(rows: list[dict[str, Any]]) -> str:
    """The texts that the losses of adaptations are of, in words."""
    seen = ", which were trained on too" if any(row["evaluation_texts_also_trained_on"] for row in rows) else ""
    splits = dict.fromkeys(row["evaluated_on"] for row in rows if not row["corpus"])
    found = [f"the texts of the {split} split{seen}" for split in splits]
    if own := [code(row["stage"]) for row in rows if row["corpus"]]:
        found.append(f"passages held out of {'its' if len(own) == 1 else 'their'} own corpus ({', '.join(own)})")
    return " or ".join(found)


def _row(row: dict[str, Any]) -> list[str]:
    found, task = row["corpus"], row["task"]
    unit = f"{found['unit']}, isolated" if found["isolate"] else found["unit"]
    return [
        code(row["stage"]),
        *(f"{found[name]:,}" for name in ("train", "held_out", *_DROPPED)),
        unit,
        f"{found['tokens_seen']:,}",
        f"{task['before']['perplexity']:,.1f} → {task['after']['perplexity']['mean']:,.1f}" if task else "-",
    ]
