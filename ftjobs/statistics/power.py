"""Power of comparisons, and the seeds or examples that they need."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ftjobs.statistics import bootstrap
from ftjobs.statistics.bootstrap import Components, components
from ftjobs.statistics.comparison import PSEUDO_DIFFERENCES, differences

MAX_NUMBER = 10**9
"""Numbers of seeds or examples above this limit count as unattainable."""


@dataclass(frozen=True)
class Needed:
    """Total seeds with the present examples, or total examples with the present seeds.

    None if no number suffices, because the variance of the other is too large.
    """

    seeds: int | None
    examples: int | None


def needed(
    first: np.ndarray,
    second: np.ndarray,
    *,
    margin: float,
    alpha: float = 0.05,
    power: float = 0.8,
    graded: bool = False,
) -> Needed:
    """Estimate the seeds, or the examples, needed to decide whether first - second differs from the margin.

    Uses the observed difference and variance components as in a pilot study (Cohen 1988, Statistical Power Analysis for
    the Behavioral Sciences, section 1.4; variance of a crossed mean: Brennan 2001, Generalizability Theory, section
    2.3). With few seeds, the result is an order of magnitude.

    With one seed, `examples` applies to these two trained models, as in `compare`, and `seeds` is None, because the
    variance between seeds is unknown.

    Args:
        first, second: bool (S, N), right or wrong, paired by seed and example
        margin: fraction
        alpha: of the two-sided test; its share of alpha in a family of hypotheses
        power: required probability of a decision
        graded: as in `compare`

    Raises:
        ValueError: their shapes differ, or are not (S, N) with at least one of each
    """
    values = differences(first, second)
    seeds, examples = values.shape
    extra = () if graded else PSEUDO_DIFFERENCES  # as in `compare`
    added = np.broadcast_to(bootstrap.pseudo_examples(values, extra), (seeds, len(extra)))
    parts = components(np.hstack([values, added]))
    effect = abs(float(values.mean()) - margin)

    def enough(seeds: float, examples: float) -> bool:
        return power_of(parts, effect, seeds, examples, alpha) >= power

    return Needed(
        seeds=_least(lambda count: enough(count, examples), seeds) if seeds > 1 else None,
        examples=_least(lambda count: enough(seeds, count), examples),
    )


def power_of(parts: Components, effect: float, seeds: float, examples: float, alpha: float = 0.05) -> float:
    """Return the power of `compare`: its rejection rate at alpha if the difference is `effect` away from the margin.

    The estimate is normal around the effect; the mean square between seeds is an independent multiple of chi-square
    with S - 1 degrees of freedom. The power is the mean over its values, each with the critical value of
    `bootstrap.means`. Either number may be infinite.
    """
    from scipy.stats import chi2, norm

    seed, example = parts.seed / seeds, parts.example / examples
    residual = 0.0 if math.inf in (seeds, examples) else parts.residual / (seeds * examples)
    deviation = math.sqrt(seed + example + residual)
    if deviation == 0:
        return float(effect > 0)
    if seeds == 1 or seeds == math.inf:
        critical = np.array([deviation * norm.isf(alpha / 2)])
    else:
        ratios = chi2.ppf((np.arange(32) + 0.5) / 32, seeds - 1) / (seeds - 1)  # mean square to its expectation
        redrawn = chi2.ppf((np.arange(256) + 0.5) / 256, seeds - 1) / (seeds - 1)
        between = (seed + residual) * ratios[:, None] / redrawn  # (32, 256): observed, and drawn given the observed
        critical = bootstrap.critical_values(np.sqrt(example + residual + np.maximum(between - residual, 0)), alpha)
    rejected = norm.sf((critical - effect) / deviation) + norm.cdf((-critical - effect) / deviation)
    return float(rejected.mean())


def _least(enough: Callable[[float], bool], current: int) -> int | None:
    """Return the least number from `current` that is enough, or None. `enough` is monotone."""
    if not enough(math.inf):
        return None
    low, high = current - 1, current
    while not enough(high):
        low, high = high, high * 2
        if high > MAX_NUMBER:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
