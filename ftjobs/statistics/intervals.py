"""Intervals of an accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ftjobs.statistics import bootstrap
from ftjobs.statistics.components import mean_squares


@dataclass(frozen=True)
class Interval:
    """Of a proportion or of a difference of two: fractions; 95 % unless said otherwise."""

    low: float
    high: float


def proportion_interval(successes: int, n: int, confidence: float = 0.95) -> Interval:
    """Wilson's score interval of a proportion: `successes` of `n` independent examples.

    Wilson (1927), JASA 22, 209-212; recommended for small n by Brown, Cai, DasGupta (2001), Statistical Science 16,
    section 5.

    Raises:
        ValueError: n is not positive, or successes are not among 0..n
    """
    from scipy.stats import binomtest

    found = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(float(found.low), float(found.high))


def mean_interval(right: np.ndarray, *, seed: int, confidence: float = 0.95, draws: int = bootstrap.DRAWS) -> Interval:
    """Interval of the accuracy of a method over seeds and test examples; with one seed, of this trained model only.

    Wilson's score interval with the effective number of examples: as many independent ones as would leave the accuracy
    as uncertain as seeds and shared examples do (Korn & Graubard 1998, Survey Methodology 24, 193-201; with Wilson's
    interval: Dean & Pagano 2015, Journal of Survey Statistics and Methodology 3, 484-503). Unlike percentiles of the
    bootstrap it is not too short near 0 and 1. The uncertainty is that of the hierarchical bootstrap, seeds as in
    `bootstrap.seed_variances`; one example right and one wrong under all seeds join for it, without which a few wrong
    ones, each under another seed, would pass for proof that seeds err independently. With one seed it is
    `proportion_interval`.

    Args:
        right: bool (S, N), whether seed s is right on test example i
        seed: of the draws of what seeds may add

    Raises:
        ValueError: `right` is not (S, N) with at least one of each
    """
    from scipy.stats import norm

    values = grid(right)
    seeds, examples = values.shape
    joined = np.hstack([values, np.tile([1.0, 0.0], (seeds, 1))])
    total, mean = examples + 2, joined.mean()
    variances = np.array([((joined.mean(axis=0) - mean) ** 2).mean() / total])
    if seeds > 1:
        chi_squares = np.random.default_rng(seed).chisquare(seeds - 1, draws)
        variances = variances + bootstrap.seed_variances(mean_squares(joined), seeds, total, chi_squares)
    half = bootstrap.critical(np.sqrt(variances)[None], 1 - confidence)[0]
    z = norm.isf((1 - confidence) / 2)
    effective = min(z**2 * mean * (1 - mean) / half**2, joined.size) * examples / total
    return _wilson(values.mean(), effective, z)


def score_interval(
    scores: np.ndarray, *, seed: int, confidence: float = 0.95, draws: int = bootstrap.DRAWS
) -> Interval:
    """Interval of a mean of scores of any size over seeds and test examples: percentiles of the hierarchical bootstrap.

    With one seed it speaks of this trained model only.

    Args:
        scores: float (S, N), such as squared errors
        seed: of the bootstrap

    Raises:
        ValueError: `scores` is not (S, N) with at least one of each
    """
    drawn = bootstrap.means(grid(scores), (), seed=seed, draws=draws)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Interval(float(low), float(high))


def _wilson(proportion: float, n: float, z: float) -> Interval:
    """Wilson (1927), for a number of examples that need not be whole."""
    centre = (proportion + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * np.sqrt(proportion * (1 - proportion) / n + z**2 / (4 * n**2))
    return Interval(float(max(centre - half, 0)), float(min(centre + half, 1)))


def grid(right: np.ndarray) -> np.ndarray:
    """Float (S, N) of bool (S, N).

    Raises:
        ValueError: of another shape, or empty
    """
    if right.ndim != 2 or right.size == 0:
        raise ValueError(
            f"right or wrong must be an array (seeds, examples) with at least one of each, not {right.shape}"
        )
    return right.astype(np.float64)
