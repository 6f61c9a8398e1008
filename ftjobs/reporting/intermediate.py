"""Intermediate tasks: what stages on data of their own reached there, apart from the strategies of the job."""

from __future__ import annotations

from typing import Any

from ftjobs.data.overlap import overlap, seen, text_keys
from ftjobs.reporting.evidence import Evidence
from ftjobs.reporting.measures import measure_of
from ftjobs.reporting.results import compared, cost, spread
from ftjobs.reporting.runs import Intermediate, Strategy


def intermediate(evidence: Evidence) -> list[dict[str, Any]]:
    """One entry per classify stage on data of its own: its data, its figures there, and who takes its encoder.

    `overlap`: texts and rows of the job's test split that also stand in the training data of this task, with the
    accuracy of the strategies that build on it on the rows that do (`in_training`) and on the others (`new`).
    """
    return [_entry(evidence, one) for one in evidence.intermediate]


def _entry(evidence: Evidence, one: Intermediate) -> dict[str, Any]:
    measure, labels = measure_of(one.label_type), one.data.splits["test"].labels
    assert labels is not None, "the job file's checks let no classify stage through without labels"
    readers = [strategy for strategy in evidence.strategies if one.name in evidence.lineage(strategy.name)]
    return {
        "stage": one.name,
        "data_stage": evidence.report.own_data[one.name],
        "rows": one.summary["rows"],
        "classes": one.data.classes,
        "provenance": one.summary["provenance"],
        "label_type": one.label_type,
        measure.key: compared(one, labels),
        **{name: spread(one.figures(name)) for name, _ in measure.others},
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
                "in_training": abs(float(strategy.scores[:, rows].mean())) if rows.any() else None,
                "new": abs(float(strategy.scores[:, ~rows].mean())) if not rows.all() else None,
            }
            for strategy in readers
        },
    }
