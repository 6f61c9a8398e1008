"""Collect all findings of a report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from ftjobs.artifacts import Manifest
from ftjobs.data.overlap import Overlap
from ftjobs.reporting.finding import OPTIONAL, Caveat, Finding
from ftjobs.reporting.findings import (
    adaptations,
    data_caveats,
    error_analysis,
    hypotheses,
    intermediate_tasks,
    leakage,
    provenance,
    recommendation,
    strategies,
    training_caveats,
)
from ftjobs.reporting.findings.disagreements import Disagreements, disagreements
from ftjobs.reporting.inputs import reference_study
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.tasks import DEFAULT_LABEL_TYPE, Task, get_task
from ftjobs.tasks.measures import Measure

VERSION = 2
"""Version of `report.json`. Increased when a key changes its meaning or is removed."""

#: Checks for caveats, the most severe first.
_CAVEATS: tuple[Callable[[Evidence], Iterator[Caveat]], ...] = (
    training_caveats.selection,
    leakage.leakage,
    leakage.intermediate_leakage,
    training_caveats.one_seed,
    training_caveats.collapsed_classes,
    training_caveats.collapsed,
    training_caveats.no_better_than_majority,
    training_caveats.constant_answer,
    data_caveats.small_test,
    data_caveats.class_balance,
    data_caveats.distribution,
    data_caveats.truncated,
    training_caveats.untrained_pooler,
    leakage.adapted_on_held_out,
    leakage.not_decontaminated,
    training_caveats.several_processes,
    training_caveats.different_devices,
)


@dataclass(frozen=True, kw_only=True)
class ReportedData(Finding):
    """The job's data, as `prepare` recorded it. Keys that `prepare` did not record are absent from `report.json`."""

    classes: list[str] | None = field(default=None, metadata=OPTIONAL)
    rows: dict[str, int]
    labels: dict[str, dict[str, Any]]
    """Label distribution of each split."""
    overlap: dict[str, Overlap]
    text_columns: list[str]
    tokens: dict[str, Any] | None = field(default=None, metadata=OPTIONAL)
    label_type: str | None = field(default=None, metadata=OPTIONAL)


@dataclass(frozen=True, kw_only=True)
class Findings(Finding):
    """The content of `report.json`. Shares and accuracies are fractions, times are seconds, intervals are 95 %."""

    version: int = VERSION
    pipeline: str
    seeds: list[int]
    does_adapting_pay: list[hypotheses.AdaptationComparison]
    to_ship: recommendation.Recommendation
    results: list[strategies.StrategyResult]
    reference_encoder_differs: str | None
    """The job's encoder, where the job repeats the reference study with another one."""
    adaptation: list[adaptations.AdaptationResult]
    intermediate: list[intermediate_tasks.IntermediateResult] | None = field(default=None, metadata=OPTIONAL)
    hypotheses: list[hypotheses.HypothesisResult]
    caveats: list[Caveat]
    confusion: list[error_analysis.ConfusionMatrix]
    calibration: list[error_analysis.CalibrationResult]
    labels: list[error_analysis.LabelResult] | None = field(default=None, metadata=OPTIONAL)
    disagreements: Disagreements
    data: ReportedData
    what_was_run: provenance.Provenance

    @property
    def task(self) -> Task:
        """The task of the job's data."""
        return get_task(self.data.label_type or DEFAULT_LABEL_TYPE)

    @property
    def measure(self) -> Measure:
        """The metric that strategies are compared by."""
        return self.task.measure


def collect_findings(evidence: Evidence, published: dict[str, Manifest]) -> Findings:
    """Analyze the evidence.

    Args:
        evidence: published outputs of the stages
        published: manifests by role, of `prepare` and of every `<stage>/seed-<n>`
    """
    tested = hypotheses.hypothesis_results(evidence)
    results = strategies.strategy_results(evidence)
    is_reference_study = any(result.published for result in results)
    summary = evidence.summary
    return Findings(
        pipeline=evidence.report.pipeline,
        seeds=evidence.seeds,
        does_adapting_pay=hypotheses.does_adapting_pay(evidence, tested),
        to_ship=recommendation.to_ship(evidence, published),
        results=results,
        reference_encoder_differs=reference_study.other_encoder(evidence) if is_reference_study else None,
        adaptation=adaptations.adaptation_results(evidence),
        intermediate=intermediate_tasks.intermediate_results(evidence) or None,
        hypotheses=tested,
        caveats=caveats(evidence),
        confusion=error_analysis.confusion_matrices(evidence),
        calibration=error_analysis.calibration_results(evidence),
        labels=error_analysis.label_results(evidence) if evidence.task.label_sets else None,
        disagreements=disagreements(evidence),
        data=ReportedData(
            classes=summary.get("classes"),
            rows=summary["rows"],
            labels=summary["labels"],
            overlap=summary["overlap"],
            text_columns=summary["text_columns"],
            tokens=summary.get("tokens"),
            label_type=summary.get("label_type"),
        ),
        what_was_run=provenance.provenance(evidence, published),
    )


def caveats(evidence: Evidence) -> list[Caveat]:
    """Return every caveat that applies, the most severe first."""
    return [caveat for check in _CAVEATS for caveat in check(evidence)]
