"""Caveats: limitations of the results, each detected in the published artifacts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ftjobs.reporting.findings.caveats import constant_predictions, data_splits, leakage, training_setup
from ftjobs.reporting.findings.caveats.caveat import Caveat
from ftjobs.reporting.inputs.evidence import Evidence

__all__ = ["Caveat", "caveats"]

#: Most severe first.
_CHECKS: tuple[Callable[[Evidence], Iterator[Caveat]], ...] = (
    training_setup.selection,
    leakage.leakage,
    leakage.intermediate_leakage,
    training_setup.one_seed,
    constant_predictions.collapsed_classes,
    constant_predictions.collapsed,
    constant_predictions.no_better_than_majority,
    constant_predictions.constant_answer,
    data_splits.small_test,
    data_splits.class_balance,
    data_splits.distribution,
    data_splits.truncated,
    training_setup.untrained_pooler,
    leakage.adapted_on_held_out,
    leakage.not_decontaminated,
    training_setup.several_processes,
    training_setup.different_devices,
)


def caveats(evidence: Evidence) -> list[Caveat]:
    """Return every caveat that applies, most severe first."""
    return [caveat for check in _CHECKS for caveat in check(evidence)]
