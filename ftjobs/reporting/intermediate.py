"""Intermediate tasks: what stages on data of their own reached there, apart from the strategies of the job."""

from __future__ import annotations

from typing import Any

from ftjobs.data.splits import overlap, seen, text_keys
from ftjobs.reporting.evidence import Evidence, Intermediate, Strategy
from ftjobs.reporting.results import accuracy, cost, spread


def intermediate(evidence: Evidence) -> list[dict[str, Any]]:
    """One entry per classify stage on data of its own: its data, its figures there, and who takes its encoder.

    `overlap`: texts and rows of the job's test split that also stand in the training data of this task, with the
    accuracy of the strategies that build on it on the rows that do (`in_training`) and on the others (`new`).
    """
    return [_entry(evidence, one) for one in evidence.intermediate]


def _entry(evidence: Evidence, one: Intermediate) -> dict[str, Any]:
    readers = [strategy for strategy in evidence.strategies if one.name in evidence.lineage(strategy.name)]
    return {
        "stage": one.name,
        "data_stage": evidence.report.own_data[one.name],
        "rows": one.summary["rows"],
        "classes": one.data.classes,
        "provenance": one.summary["provenance"],
        "accuracy": accuracy(one),
        "f1": spread(one.figures("f1")),
        "best_epochs": one.figures("best_epoch"),
        "selected_on": one.runs[0].metrics["selected_on"],
        "cost": cost(one),
        "taken_by": [strategy.name for strategy in readers],
        "overlap": _overlap(evidence, one, readers),
    }


def _overlap(evidence: Evidence, one: Intermediate, readers: list[Strategy]) -> dict[str, Any]:
    train, test = text_keys(one.data.splits["train"].columns), text_keys(evidence.data.splits["test"].columns)
    rows = seen(train, test)
    return {
        **overlap(train, test),
        "accuracy": {
            strategy.name: {
                "in_training": float(strategy.right[:, rows].mean()) if rows.any() else None,
                "new": float(strategy.right[:, ~rows].mean()) if not rows.all() else None,
            }
            for strategy in readers
        },
    }
