"""What a reader must know before believing the tables, each found by looking and said with its figures."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from ftjobs.reporting.caveats import data, labels, training
from ftjobs.reporting.caveats.caveat import Caveat
from ftjobs.reporting.evidence import Evidence

_CHECKS: tuple[Callable[[Evidence], Iterator[Caveat]], ...] = (
    training.selection,
    data.leakage,
    data.intermediate_leakage,
    training.one_seed,
    training.collapsed,
    labels.collapsed,
    training.no_better_than_majority,
    labels.constant_answer,
    data.small_test,
    data.class_balance,
    labels.distribution,
    data.truncated,
    training.untrained_pooler,
    training.adapted_on_held_out,
    training.not_decontaminated,
    training.several_processes,
    training.different_machines,
)


def caveats(evidence: Evidence) -> list[Caveat]:
    """Every caveat that applies, the gravest first."""
    return [found for check in _CHECKS for found in check(evidence)]
