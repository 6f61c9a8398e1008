"""The job's hypotheses set against what was found, and comparisons that the report makes of its own accord."""

from __future__ import annotations

from dataclasses import astuple
from typing import Any

import numpy as np

from ftjobs import statistics
from ftjobs.jobfile.fields import Hypothesis
from ftjobs.reporting.findings.classifiers import SEED
from ftjobs.reporting.inputs.evidence import Evidence

ALPHA = 0.05


def tested(evidence: Evidence) -> list[dict[str, Any]]:
    """One entry per hypothesis of the job; p-values are adjusted for all of them together (Holm 1979)."""
    return compared(evidence, [Hypothesis.parse(text) for text in evidence.report.hypotheses])


def compared(evidence: Evidence, hypotheses: list[Hypothesis]) -> list[dict[str, Any]]:
    """Each hypothesis with difference, interval, p-values and verdict; adjusted as one family."""
    found = []
    for hypothesis in hypotheses:
        first, second = evidence.strategy(hypothesis.better).scores, evidence.strategy(hypothesis.worse).scores
        graded = evidence.measure.graded
        found.append(statistics.compare(first, second, margin=hypothesis.by, seed=SEED, graded=graded))
    adjusted = statistics.holm([one.p_value for one in found])
    return [
        _entry(evidence, hypothesis, comparison, p, len(hypotheses))
        for hypothesis, comparison, p in zip(hypotheses, found, adjusted, strict=True)
    ]


def _entry(
    evidence: Evidence, hypothesis: Hypothesis, comparison: statistics.Comparison, adjusted: float, family: int
) -> dict[str, Any]:
    better, worse = evidence.strategy(hypothesis.better), evidence.strategy(hypothesis.worse)
    verdict = statistics.verdict(comparison, adjusted, hypothesis.by, ALPHA)
    needed = None
    if verdict == "undecided":
        # Each of a family has its share of the level (Bonferroni), a little less than Holm leaves it.
        estimate = statistics.needed(
            better.scores, worse.scores, margin=hypothesis.by, alpha=ALPHA / family, graded=evidence.measure.graded
        )
        seeds, examples = better.scores.shape
        needed = {"more_seeds": _more(estimate.seeds, seeds), "more_examples": _more(estimate.examples, examples)}
    margin = f" by {hypothesis.by:g}" if hypothesis.by else ""
    return {
        "hypothesis": f"{hypothesis.better} > {hypothesis.worse}{margin}",
        "better": hypothesis.better,
        "worse": hypothesis.worse,
        "margin": hypothesis.by,
        "difference": comparison.difference,
        "interval": [comparison.interval.low, comparison.interval.high],
        "p_value": comparison.p_value,
        "adjusted_p_value": adjusted,
        "verdict": verdict,
        "needed": needed,
        "seeds": {
            str(seed): _one_seed(first, second, evidence.measure.graded)
            for seed, first, second in zip(evidence.seeds, better.scores, worse.scores, strict=True)
        },
    }


def _more(total: int | None, now: int) -> int | None:
    """How many more than now; None where no number would do, or it would take no more but better luck."""
    return None if total is None or total <= now else total - now


def _one_seed(first: np.ndarray, second: np.ndarray, graded: bool) -> dict[str, Any]:
    """The difference, the rows that only one of the two gets right, or that it is nearer to where scores are graded,
    and the p-value of McNemar's exact test, or of Wilcoxon's signed-rank test."""
    only_better, only_worse, p_value = astuple(
        (statistics.signed_rank if graded else statistics.mcnemar)(first, second)
    )
    return {
        "difference": float(first.mean() - second.mean()),
        "only_better": only_better,
        "only_worse": only_worse,
        "p_value": p_value,
    }
