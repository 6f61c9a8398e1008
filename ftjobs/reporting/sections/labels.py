"""Several labels at once: how well each of them is told."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.document import Prose, Section, Table
from ftjobs.reporting.phrases import code, quoted, spread

#: Labels in the table; all are in `report.json`.
_MOST = 30


def by_label(content: dict[str, Any]) -> Section | None:
    """F1 of every label under every strategy; None where labels are not several at once."""
    found = content.get("labels")
    if not found or not content["results"]:
        return None
    names = [row["stage"] for row in content["results"]]
    rows = [
        [
            quoted(one["label"]),
            f"{one['rows']['train']:,}",
            f"{one['rows']['test']:,}",
            *(spread(**one["strategies"][name]["f1"]) for name in names),
        ]
        for one in found[:_MOST]
    ]
    text = "F1 of each label in per cent, the most frequent first, with the rows that have it in training and test. "
    text += f"The {_MOST} most frequent; all" if len(found) > _MOST else "Precision and recall"
    text += " are in `report.json`."
    return Section(
        "Labels", [Prose(text), Table(["label", "in training", "in test", *map(code, names)], rows, numeric=1)]
    )
