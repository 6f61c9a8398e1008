"""How often a comparison would find a difference, and how many seeds or examples it needs."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ftjobs.statistics import bootstrap
from ftjobs.statistics.comparison import JOINING, differences
from ftjobs.statistics.components import Components, components

MOST = 10**9
"""More seeds or examples than this are none that anybody will have."""


@dataclass(frozen=True)
class Needed:
    """Seeds in total with the examples there are, or examples in total with the seeds there are.

    None where no number of them alone would do: the variance that the other brings is too large.
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
    """How many seeds, or how many examples, it would likely take to decide whether first - second is the margin.

    Takes the observed difference and its variance components for the true ones, as a pilot study is used (Cohen 1988,
    Statistical Power Analysis for the Behavioral Sciences, section 1.4; variance of a crossed mean: Brennan 2001,
    Generalizability Theory, section 2.3). An order of magnitude: from few seeds neither is known well.

    With one seed `examples` speaks of these two trained models, like `compare`, and `seeds` is None: the data say
    nothing of what seeds bring.

    Args:
        first, second: bool (S, N), right or wrong, paired by seed and example
        margin: fraction
        alpha: of the two-sided test; smaller where several hypotheses share it
        power: chance to decide that is asked for
        graded: as `compare` has it

    Raises:
        ValueError: their shapes differ, or are not (S, N) with at least one of each
    """
    values = differences(first, second)
    seeds, examples = values.shape
    extra = () if graded else JOINING  # as in `compare`
    joining = np.broadcast_to(bootstrap.joining(values, extra), (seeds, len(extra)))
    parts = components(np.hstack([values, joining]))
    effect = abs(float(values.mean()) - margin)

    def enough(seeds: float, examples: float) -> bool:
        return chance(parts, effect, seeds, examples, alpha) >= power

    return Needed(
        seeds=_least(lambda count: enough(count, examples), seeds) if seeds > 1 else None,
        examples=_least(lambda count: enough(seeds, count), examples),
    )


def chance(parts: Components, effect: float, seeds: float, examples: float, alpha: float = 0.05) -> float:
    """Power of `compare`: how often it rejects at alpha when the difference is `effect` away from the margin.

    The estimate is normal around the effect; the mean square between seeds is a multiple of chi-square with S - 1
    degrees of freedom, independent of it. For each of its values the critical value is that of `bootstrap.means`, and
    the power is the mean over them. Either number may be infinite.
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
        ratios = chi2.ppf((np.arange(32) + 0.5) / 32, seeds - 1) / (seeds - 1)  # of a mean square to its expectation
        unknown = chi2.ppf((np.arange(256) + 0.5) / 256, seeds - 1) / (seeds - 1)
        between = (seed + residual) * ratios[:, None] / unknown  # (32, 256): observed, and drawn from what was observed
        critical = bootstrap.critical(np.sqrt(example + residual + np.maximum(between - residual, 0)), alpha)
    found = norm.sf((critical - effect) / deviation) + norm.cdf((-critical - effect) / deviation)
    return float(found.mean())


def _least(enough: Callable[[float], bool], now: int) -> int | None:
    """The least number from `now` on that is enough, or None; what is enough stays so for more."""
    if not enough(math.inf):
        return None
    low, high = now - 1, now
    while not enough(high):
        low, high = high, high * 2
        if high > MOST:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
