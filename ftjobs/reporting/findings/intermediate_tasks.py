"""Results of intermediate tasks: classify stages on their own data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ftjobs.data.overlap import measure_overlap, shares_text, text_keys
from ftjobs.reporting.finding import Estimate, Finding, Spread, spread
from ftjobs.reporting.findings.strategies import Cost, score_estimate, training_cost
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Intermediate, Strategy


@dataclass(frozen=True, kw_only=True)
class SplitScores(Finding):
    """A score on the test rows that share a text with a training split, and on the others; None without such rows."""

    in_training: float | None
    new: float | None


@dataclass(frozen=True, kw_only=True)
class TrainingOverlap(Finding):
    """Texts and rows of the job's test split that also occur in the training data of an intermediate task."""

    texts: int
    texts_in_training: int
    rows: int
    rows_in_training: int
    accuracy: dict[str, SplitScores]
    """By strategy that builds on the task."""


@dataclass(frozen=True, kw_only=True)
class IntermediateResult(Finding):
    """A classify stage on its own data, evaluated on the test split of that data."""

    stage: str
    data_stage: str
    rows: dict[str, int]
    classes: list[str]
    provenance: dict[str, Any]
    label_type: str
    metric: str
    score: Estimate
    other_metrics: dict[str, Spread]
    best_epochs: list[int]
    selected_on: str
    cost: Cost
    taken_by: list[str]
    """Strategies that build on its encoder."""
    overlap: TrainingOverlap

    def json_fields(self) -> dict[str, Any]:
        """Name keys after the metric."""
        fields = super().json_fields()
        metric, score, others = fields.pop("metric"), fields.pop("score"), fields.pop("other_metrics")
        return {**fields, metric: score, **others}


def intermediate_results(evidence: Evidence) -> list[IntermediateResult]:
    """Return one result per classify stage on its own data."""
    return [_intermediate_result(evidence, stage) for stage in evidence.intermediate]


def _intermediate_result(evidence: Evidence, stage: Intermediate) -> IntermediateResult:
    measure, labels = stage.task.measure, stage.data.splits["test"].labels
    assert labels is not None, "the job file's checks require labels for classify stages"
    dependents = [strategy for strategy in evidence.strategies if stage.name in evidence.lineage(strategy.name)]
    return IntermediateResult(
        stage=stage.name,
        data_stage=evidence.report.own_data[stage.name],
        rows=stage.summary["rows"],
        classes=stage.data.classes,
        provenance=stage.summary["provenance"],
        label_type=stage.task.name,
        metric=measure.key,
        score=score_estimate(stage, labels),
        other_metrics={name: spread(stage.figures(name)) for name, _ in measure.others},
        best_epochs=stage.best_epochs,
        selected_on=stage.runs[0].metrics["selected_on"],
        cost=training_cost(stage),
        taken_by=[strategy.name for strategy in dependents],
        overlap=_training_overlap(evidence, stage, dependents),
    )


def _training_overlap(evidence: Evidence, stage: Intermediate, dependents: list[Strategy]) -> TrainingOverlap:
    train, test = text_keys(stage.data.splits["train"].columns), text_keys(evidence.data.splits["test"].columns)
    shared = shares_text(train, test)
    accuracy = {
        strategy.name: SplitScores(
            in_training=abs(float(strategy.scores[:, shared].mean())) if shared.any() else None,
            new=abs(float(strategy.scores[:, ~shared].mean())) if not shared.all() else None,
        )
        for strategy in dependents
    }
    return TrainingOverlap(**measure_overlap(train, test), accuracy=accuracy)
