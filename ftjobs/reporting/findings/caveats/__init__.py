"""What a reader must know before believing the tables, each found by looking and said with its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ftjobs.reporting.findings.caveats import data_splits, leakage, predictions_quality, training_setup
from ftjobs.reporting.findings.caveats.caveat import Caveat
from ftjobs.reporting.inputs.evidence import Evidence

_CHECKS: tuple[Callable[[Evidence], Iterator[Caveat]], ...] = (
    training_setup.selection,
    leakage.leakage,
    leakage.intermediate_leakage,
    training_setup.one_seed,
    predictions_quality.collapsed_classes,
    predictions_quality.collapsed,
    predictions_quality.no_better_than_majority,
    predictions_quality.constant_answer,
    data_splits.small_test,
    data_splits.class_balance,
    data_splits.distribution,
    data_splits.truncated,
    training_setup.untrained_pooler,
    leakage.adapted_on_held_out,
    leakage.not_decontaminated,
    training_setup.several_processes,
    training_setup.different_machines,
)


def caveats(evidence: Evidence) -> list[Caveat]:
    """Every caveat that applies, the gravest first."""
    return [found for check in _CHECKS for found in check(evidence)]
