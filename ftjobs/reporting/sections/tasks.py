"""Intermediate tasks: a table of what was reached on data that is not the job's."""

from __future__ import annotations

from typing import Any

from ftjobs.reporting.document import Prose, Section, Table
from ftjobs.reporting.measures import measure_of
from ftjobs.reporting.phrases import code, cost, count, listed, quoted

_LABELS = {"class": ("class", "classes"), "multi": ("label at once", "labels at once")}


def _figures(row: dict[str, Any]) -> list[str]:
    """What was reached, by the measures of its labels, and the interval of the first of them."""
    measure = measure_of(row["label_type"])
    found = row[measure.key]
    parts = [f"{measure.name}{measure.unit} {measure.spread(found['mean'], found['sd'])}"]
    parts += [f"{header} {measure.other(**row[name])}" for name, header in measure.others]
    return ["; ".join(parts), measure.interval(*found["interval"])]


def intermediate(content: dict[str, Any]) -> Section | None:
    """Figures of the stages on data of their own; None where there are none."""
    found = content.get("intermediate")
    if not found:
        return None
    header = ["model", "data", "rows", "labels", "figures there", "95 % interval of the first", "best epoch"]
    header += ["training time", "examples/s", "peak memory", "device"]
    rows = [
        [
            code(row["stage"]),
            quoted(row["provenance"].get("hub_id") or row["provenance"]["files"][0]["name"]),
            ", ".join(f"{number:,} {split}" for split, number in row["rows"].items()),
            "numbers" if row["label_type"] == "float" else count(len(row["classes"]), *_LABELS[row["label_type"]]),
            *_figures(row),
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
        "Intermediate tasks", [Prose(said), Table(header, rows, numeric=5, left=frozenset({len(header) - 1}))]
    )
