"""Intervals of an accuracy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ftjobs.statistics import bootstrap


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
    """Interval of the accuracy that a method has over seeds and test examples: percentiles of the hierarchical bootstrap.

    With one seed it is that of this trained model, not of the method. Two right and two wrong examples join the
    observed ones (Agresti & Coull 1998, American Statistician 52, 119-126), without which all right would give [1, 1].

    Args:
        right: bool (S, N), whether seed s is right on test example i
        seed: of the bootstrap

    Raises:
        ValueError: `right` is not (S, N) with at least one of each
    """
    values = grid(right)
    drawn = bootstrap.means(values, (1.0, 1.0, 0.0, 0.0), seed=seed, draws=draws)
    return percentiles(drawn, confidence, 0.0, 1.0)


def percentiles(drawn: np.ndarray, confidence: float, least: float, most: float) -> Interval:
    """The central `confidence` of draws (n,), within what is possible."""
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2]).clip(least, most)
    return Interval(float(low), float(high))


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
