"""Intervals of accuracies and mean scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ftjobs.statistics import bootstrap
from ftjobs.statistics.bootstrap import mean_squares


@dataclass(frozen=True)
class Interval:
    """Confidence interval, 95 % by default. Proportions and differences are fractions."""

    low: float
    high: float


def proportion_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Return Wilson's score interval of a proportion of `n` independent examples.

    Wilson (1927), JASA 22, 209-212; recommended for small n by Brown, Cai, DasGupta (2001), Statistical Science 16,
    section 5.

    Raises:
        ValueError: n is not positive, or successes are not in 0..n
    """
    from scipy.stats import binomtest

    wilson = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(wilson.low), float(wilson.high))


def mean_interval(right: np.ndarray, *, seed: int, confidence: float = 0.95, draws: int = bootstrap.DRAWS) -> Interval:
    """Return the interval of an accuracy over seeds and test examples; with one seed, of this trained model only.

    Wilson's score interval with the effective number of examples, i.e. the number of independent examples that give the
    same variance as seeds and shared examples (Korn & Graubard 1998, Survey Methodology 24, 193-201; with Wilson's
    interval: Dean & Pagano 2015, Journal of Survey Statistics and Methodology 3, 484-503). Unlike percentiles of the
    bootstrap, it is not too short near 0 and 1. The variance is that of the hierarchical bootstrap, with seeds as in
    `bootstrap.seed_variances`. One example that all seeds get right and one that all get wrong are added; otherwise a
    few errors, each of another seed, would imply that seeds err independently. With one seed, the result equals
    `proportion_interval`.

    Args:
        right: bool (S, N), right or wrong by seed and test example
        seed: of the random draws
        confidence: of the interval
        draws: of the variance between seeds

    Raises:
        ValueError: `right` is not (S, N), or is empty
    """
    from scipy.stats import norm

    values = as_grid(right)
    seeds, examples = values.shape
    joined = np.hstack([values, np.tile([1.0, 0.0], (seeds, 1))])
    total, mean = examples + 2, joined.mean()
    variances = np.array([((joined.mean(axis=0) - mean) ** 2).mean() / total])
    if seeds > 1:
        chi_squares = np.random.default_rng(seed).chisquare(seeds - 1, draws)
        variances = variances + bootstrap.seed_variances(mean_squares(joined), seeds, total, chi_squares)
    half = bootstrap.critical_values(np.sqrt(variances)[None], 1 - confidence)[0]
    z = norm.isf((1 - confidence) / 2)
    effective = min(z**2 * mean * (1 - mean) / half**2, joined.size) * examples / total
    return _wilson(values.mean(), effective, z)


def score_interval(
    scores: np.ndarray, *, seed: int, confidence: float = 0.95, draws: int = bootstrap.DRAWS
) -> Interval:
    """Return the interval of a mean of graded scores over seeds and test examples: bootstrap percentiles.

    With one seed, it applies to this trained model only.

    Args:
        scores: float (S, N), such as squared errors
        seed: of the bootstrap
        confidence: of the interval
        draws: of the bootstrap

    Raises:
        ValueError: `scores` is not (S, N), or is empty
    """
    drawn = bootstrap.means(as_grid(scores), (), seed=seed, draws=draws)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def _wilson(proportion: float, n: float, z: float) -> Interval:
    """Return Wilson's interval for a real number of examples."""
    center = (proportion + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2))
    return Interval(float(max(center - half, 0)), float(min(center + half, 1)))


def as_grid(right: np.ndarray) -> np.ndarray:
    """Convert values (S, N) to float.

    Raises:
        ValueError: another shape, or empty
    """
    if right.ndim != 2 or right.size == 0:
        raise ValueError(f"values need the shape (seeds, examples) with at least one of each, not {right.shape}")
    return right.astype(np.float64)
