"""Intermediate tasks: a table of what was reached on data that is not the job's."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.document import Prose, Section, Table
from ftjobs.reporting.phrases import code, cost, count, interval, listed, quoted, spread


def intermediate(content: dict[str, Any]) -> Section | None:
    """Figures of the stages on data of their own; None where there are none."""
    found = content.get("intermediate")
    if not found:
        return None
    header = ["model", "data", "rows", "classes", "accuracy there, %", "95 % interval", "F1, %", "best epoch"]
    header += ["training time", "examples/s", "peak memory", "device"]
    rows = [
        [
            code(row["stage"]),
            quoted(row["provenance"].get("hub_id") or row["provenance"]["files"][0]["name"]),
            ", ".join(f"{number:,} {split}" for split, number in row["rows"].items()),
            f"{len(row['classes']):,}",
            spread(row["accuracy"]["mean"], row["accuracy"]["sd"]),
            interval(*row["accuracy"]["interval"]),
            spread(**row["f1"]),
            ", ".join(map(str, row["best_epochs"])),
            *cost(row["cost"]),
        ]
        for row in found
    ]
    takers = [
        f"{listed([code(name) for name in row['taken_by']])} {'build' if len(row['taken_by']) > 1 else 'builds'} on "
        f"{code(row['stage'])}"
        for row in found
        if row["taken_by"]
    ]
    said = (
        f"{count(len(found), 'stage')} {'was' if len(found) == 1 else 'were'} trained and measured on data of "
        f"{'its' if len(found) == 1 else 'their'} own, each on the test split of that data: no figure here can be "
        "compared with those of the job's strategies."
    )
    if takers:
        said += f" {'; '.join(takers)}."
    return Section(
        "Intermediate tasks", [Prose(said), Table(header, rows, numeric=2, left=frozenset({len(header) - 1}))]
    )
