"""Verdicts on the job's hypotheses and on adaptation: paired comparisons, corrected for multiple testing."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Literal

import numpy as np

from ftjobs import statistics
from ftjobs.jobfile.fields import Hypothesis
from ftjobs.reporting.finding import BOOTSTRAP_SEED, OPTIONAL, Finding, Interval
from ftjobs.reporting.inputs.evidence import Evidence
from ftjobs.reporting.inputs.runs import Stage, Strategy

ALPHA = 0.05
#: Fields in which an adapted strategy and its counterpart differ by construction.
_IGNORED_FIELDS = {"encoder", "data"}

Verdict = Literal["supported", "contradicted", "undecided"]


@dataclass(frozen=True, kw_only=True)
class SeedComparison(Finding):
    """Two trained models with the same seed on the test rows."""

    difference: float
    only_better: int
    """Rows that only the first model gets right or, with graded scores, rows on which the first model is closer."""
    only_worse: int
    p_value: float
    """Two-sided: McNemar's exact test, or Wilcoxon's signed-rank test of graded scores."""


@dataclass(frozen=True, kw_only=True)
class RequiredEvidence(Finding):
    """Additional seeds or test rows, either alone, that would likely decide a hypothesis; None where none would."""

    more_seeds: int | None
    more_examples: int | None


@dataclass(frozen=True, kw_only=True)
class HypothesisResult(Finding):
    """A hypothesis `better > worse` with its evidence."""

    hypothesis: str
    better: str
    worse: str
    margin: float
    difference: float
    interval: Interval
    p_value: float
    adjusted_p_value: float
    """Adjusted for all hypotheses of the family (Holm 1979)."""
    verdict: Verdict
    needed: RequiredEvidence | None
    """Given for undecided hypotheses only."""
    seeds: dict[str, SeedComparison]


@dataclass(frozen=True, kw_only=True)
class AdaptationComparison(HypothesisResult):
    """An adapted strategy compared with its counterpart on the original encoder."""

    stated: bool
    """The comparison is a hypothesis of the job file, with the hypothesis's margin."""
    also_differ_in: list[str]
    """Further settings in which the two strategies differ."""
    frozen: bool
    intermediate: bool | None = field(default=None, metadata=OPTIONAL)
    """True where an intermediate task is the only adaptation."""


def hypothesis_results(evidence: Evidence) -> list[HypothesisResult]:
    """Test the job's hypotheses as one family."""
    return compare_pairs(evidence, [Hypothesis.parse(text) for text in evidence.report.hypotheses])


def compare_pairs(evidence: Evidence, hypotheses: list[Hypothesis]) -> list[HypothesisResult]:
    """Test hypotheses as one family: p-values are adjusted for all of them together."""
    graded = evidence.measure.graded
    comparisons = [
        statistics.compare(
            evidence.strategy(hypothesis.better).scores,
            evidence.strategy(hypothesis.worse).scores,
            margin=hypothesis.by,
            seed=BOOTSTRAP_SEED,
            graded=graded,
        )
        for hypothesis in hypotheses
    ]
    adjusted = statistics.holm([comparison.p_value for comparison in comparisons])
    return [
        _result(evidence, hypothesis, comparison, p_value, len(hypotheses))
        for hypothesis, comparison, p_value in zip(hypotheses, comparisons, adjusted, strict=True)
    ]


def _result(
    evidence: Evidence,
    hypothesis: Hypothesis,
    comparison: statistics.Comparison,
    adjusted_p_value: float,
    family_size: int,
) -> HypothesisResult:
    better, worse = evidence.strategy(hypothesis.better), evidence.strategy(hypothesis.worse)
    graded = evidence.measure.graded
    verdict = statistics.verdict(comparison, adjusted_p_value, hypothesis.by, ALPHA)
    needed = None
    if verdict == "undecided":
        # Each hypothesis gets an equal share of alpha (Bonferroni), slightly less than Holm's procedure allows.
        estimate = statistics.needed(
            better.scores, worse.scores, margin=hypothesis.by, alpha=ALPHA / family_size, graded=graded
        )
        seeds, examples = better.scores.shape
        needed = RequiredEvidence(
            more_seeds=_additional(estimate.seeds, seeds), more_examples=_additional(estimate.examples, examples)
        )
    margin = f" by {hypothesis.by:g}" if hypothesis.by else ""
    return HypothesisResult(
        hypothesis=f"{hypothesis.better} > {hypothesis.worse}{margin}",
        better=hypothesis.better,
        worse=hypothesis.worse,
        margin=hypothesis.by,
        difference=comparison.difference,
        interval=(comparison.interval.low, comparison.interval.high),
        p_value=comparison.p_value,
        adjusted_p_value=adjusted_p_value,
        verdict=verdict,
        needed=needed,
        seeds={
            str(seed): _seed_comparison(first, second, graded)
            for seed, first, second in zip(evidence.seeds, better.scores, worse.scores, strict=True)
        },
    )


def _additional(total: int | None, current: int) -> int | None:
    """Return the missing number; None if no number suffices or the current one already should."""
    return None if total is None or total <= current else total - current


def _seed_comparison(first: np.ndarray, second: np.ndarray, graded: bool) -> SeedComparison:
    if graded:
        ranks = statistics.signed_rank(first, second)
        only_better, only_worse, p_value = ranks.first_higher, ranks.second_higher, ranks.p_value
    else:
        pairs = statistics.mcnemar(first, second)
        only_better, only_worse, p_value = pairs.only_first, pairs.only_second, pairs.p_value
    return SeedComparison(
        difference=float(first.mean() - second.mean()),
        only_better=only_better,
        only_worse=only_worse,
        p_value=p_value,
    )


def does_adapting_pay(evidence: Evidence, hypotheses: list[HypothesisResult]) -> list[AdaptationComparison]:
    """Compare each adapted strategy with its counterpart on the original encoder.

    Training on an intermediate task counts as adapting. The counterpart trains the same part of the model (head only,
    or encoder too); among several, it is the one with the fewest other differences in settings, then the one with the
    best selection score. If the job states the hypothesis `adapted > counterpart`, its result is returned. Otherwise
    the comparison is made here, without a margin.
    """
    stated = {(result.better, result.worse): result for result in hypotheses}
    pairs = [
        (strategy, counterpart)
        for strategy in evidence.strategies
        if (counterpart := _counterpart(evidence, strategy)) is not None
    ]
    missing = [
        Hypothesis(better=strategy.name, worse=counterpart.name)
        for strategy, counterpart in pairs
        if (strategy.name, counterpart.name) not in stated
    ]
    results = {(result.better, result.worse): result for result in compare_pairs(evidence, missing)} | stated
    inherited = [field.name for field in fields(HypothesisResult)]
    return [
        AdaptationComparison(
            **{name: getattr(results[strategy.name, counterpart.name], name) for name in inherited},
            stated=(strategy.name, counterpart.name) in stated,
            also_differ_in=_differing_settings(strategy, counterpart),
            frozen=strategy.settings["freeze_encoder"],
            intermediate=None if evidence.is_adapted(strategy.name, to_texts=True) else True,
        )
        for strategy, counterpart in pairs
    ]


def _counterpart(evidence: Evidence, strategy: Strategy) -> Strategy | None:
    """Return the strategy without adaptation that is most like an adapted one."""
    if not evidence.is_adapted(strategy.name):
        return None
    plain = [
        other
        for other in evidence.strategies
        if not evidence.is_adapted(other.name)
        and other.settings["freeze_encoder"] == strategy.settings["freeze_encoder"]
    ]
    return min(plain, key=lambda other: (len(_differing_settings(strategy, other)), other.rank), default=None)


def _differing_settings(first: Stage, second: Stage) -> list[str]:
    """Return the fields in which two stages differ, and `--num-processes` if they ran on different numbers of them."""
    keys = (first.settings.keys() | second.settings.keys()) - _IGNORED_FIELDS
    differing = sorted(key for key in keys if first.settings.get(key) != second.settings.get(key))
    return differing + (["--num-processes"] if first.processes != second.processes else [])
