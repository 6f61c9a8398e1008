"""Hierarchical bootstrap over seeds and test examples, and the variance components it needs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Components:
    """Variances in the crossed model value[s, i] = mean + seed[s] + example[i] + residual[s, i].

    With one seed only their sum is observable; it is assigned to `example`.
    """

    seed: float
    example: float
    residual: float


@dataclass(frozen=True)
class MeanSquares:
    """Mean squares of a two-way analysis of variance without replication."""

    seed: float
    """Between seeds: S - 1 degrees of freedom, expectation residual + N * seed."""
    example: float
    """Between examples: N - 1 degrees of freedom, expectation residual + S * example."""
    residual: float
    """Seed by example: (S - 1)(N - 1) degrees of freedom; 0 without any."""


def mean_squares(values: np.ndarray) -> MeanSquares:
    """Compute the mean squares of values (S, N) by seed, by example, and of the residual.

    Searle, Casella, McCulloch (1992), Variance Components, section 4.4 (two-way crossed, balanced).
    """
    seeds, examples = values.shape
    by_seed, by_example, mean = values.mean(axis=1), values.mean(axis=0), values.mean()
    residuals = values - by_seed[:, None] - by_example + mean
    freedom = (seeds - 1) * (examples - 1)
    return MeanSquares(
        seed=examples * float(((by_seed - mean) ** 2).sum()) / max(seeds - 1, 1),
        example=seeds * float(((by_example - mean) ** 2).sum()) / max(examples - 1, 1),
        residual=float((residuals**2).sum()) / freedom if freedom else 0.0,
    )


def components(values: np.ndarray) -> Components:
    """Estimate variance components of values (S, N) by analysis of variance; negative estimates become 0."""
    seeds, examples = values.shape
    squares = mean_squares(values)
    return Components(
        seed=max(squares.seed - squares.residual, 0.0) / examples,
        example=max(squares.example - squares.residual, 0.0) / seeds,
        residual=squares.residual,
    )


#: Numbers in memory at a time, and distinct values up to which resamples are exact.
_MAX_NUMBERS, _MAX_VALUES = 2**22, 5_000
DRAWS = 10_000
"""Two-sided p-values near 0.05 are within 0.006 (95 %) of their limit for infinitely many draws."""


def means(values: np.ndarray, extra: tuple[float, ...], *, seed: int, draws: int = DRAWS) -> np.ndarray:
    """Draw the mean of values (S, N) over new seeds and new examples: float (draws,).

    Every seed is evaluated on the same examples, so seeds and examples are crossed, and both are resampled (Owen 2007,
    The pigeonhole bootstrap, Annals of Applied Statistics 1, 386-411):

    *Examples* with replacement, each with its values for all seeds (Efron & Tibshirani 1993, An Introduction to the
    Bootstrap, chapter 6). Only the mean of an example over seeds matters, and it takes few distinct values, so a
    resample is one multinomial draw of their frequencies: the same distribution, with time and memory independent of N.
    `extra` values are added to the examples, so that few or no errors do not imply certainty: see `pseudo_examples`.

    *Seeds* by a normal draw with a random variance: see `seed_variances`. With one seed, the variance between seeds is
    unknown, and the draws apply to this trained model on new examples.
    """
    seeds, examples = values.shape
    rng = np.random.default_rng(seed)
    sums, counts = np.unique(values.sum(axis=0), return_counts=True)  # sums of integers are exact
    support = np.concatenate([sums / seeds, pseudo_examples(values, extra)])
    weights = np.concatenate([counts, np.ones(len(extra))])
    total = examples + len(extra)
    drawn = _resampled(support, weights / total, total, rng, draws)
    if seeds > 1:
        variances = seed_variances(mean_squares(values), seeds, examples, rng.chisquare(seeds - 1, draws))
        drawn += np.sqrt(variances) * rng.standard_normal(draws)
    return drawn


def _resampled(support: np.ndarray, shares: np.ndarray, total: int, rng: np.random.Generator, draws: int) -> np.ndarray:
    """Draw means of `total` examples with replacement: float (draws,).

    Graded scores may all be distinct, so a resample has up to N numbers. Few resamples are in memory at a time, and for
    very many values the mean is drawn from its normal limit. The error of the limit is then at most hundredths of a
    standard deviation (skewness over six times the square root of N).
    """
    if len(support) > _MAX_VALUES:
        mean = support @ shares
        return np.asarray(mean + np.sqrt((support - mean) ** 2 @ shares / total) * rng.standard_normal(draws))
    chunk = max(1, min(draws, _MAX_NUMBERS // len(support)))
    parts = [
        rng.multinomial(total, shares, size=min(chunk, draws - start)) @ support / total
        for start in range(0, draws, chunk)
    ]
    return np.concatenate(parts)


def seed_variances(squares: MeanSquares, seeds: int, examples: int, chi_squares: np.ndarray) -> np.ndarray:
    """Draw the variance that seeds add to the mean, beyond that of resampled examples, from chi-square(S - 1).

    The mean square between seeds times (S - 1) / chi-square(S - 1), less the residual, at least 0: the generalized
    pivotal quantity of a variance component (Weerahandi 1993, Generalized confidence intervals, JASA 88, 899-905).

    Resampling S seeds with replacement instead gives (S - 1) / S of their variance, lacks the tails of Student's t with
    S - 1 degrees of freedom, and counts the residual three times (Owen 2007): with few seeds, it claims differences
    that do not exist. Scaling seeds to their unbiased variance, or t quantiles with Satterthwaite's degrees of freedom,
    do not help: both trust a mean square that is small by chance, and with two seeds reject up to 14 % and 13 % of true
    hypotheses at the 5 % level. This method rejects at most 5 % for any components. Without residual it is the
    Behrens-Fisher distribution, and conservative as in Banerjee's bound (1960, Sankhya 22): the error rate is a convex
    function of the variance between seeds, hence at most a mixture of the error rates with a single source of variance,
    which are 5 %. The cost is power with two or three seeds, which are too few to show that seeds matter little.
    """
    between = squares.seed * (seeds - 1) / chi_squares
    return np.maximum(between - squares.residual, 0) / (seeds * examples)


def pseudo_examples(values: np.ndarray, extra: tuple[float, ...]) -> np.ndarray:
    """Scale extra values to the weight of one example: float (len(extra),).

    With one seed, or seeds that all agree, they are unchanged. If seeds err independently, N examples with S seeds are
    worth up to S * N examples with one seed, and an extra value among N would weigh S times too much. It is therefore
    moved towards the mean by N over the effective number of examples (Kish 1965, Survey Sampling, section 8.2: the
    design effect of clusters; a cluster is the S values of an example).
    """
    mean = values.mean()
    variance = ((values - mean) ** 2).mean()
    between_examples = ((values.mean(axis=0) - mean) ** 2).mean()
    weight = between_examples / variance if variance > 0 else 1.0
    return mean + max(weight, 1 / len(values)) * (np.asarray(extra) - mean)  # type: ignore[no-any-return]


def critical_values(deviations: np.ndarray, tail: float) -> np.ndarray:
    """Return the absolute values exceeded with probability `tail` by mixtures of centered normals: float (n,).

    Args:
        deviations: float (n, m), m equally likely standard deviations of each of n mixtures
        tail: two-sided tail probability
    """
    from scipy.special import ndtr

    low, high = np.zeros(len(deviations)), deviations.max(axis=1) * 10
    for _ in range(50):
        middle = (low + high) / 2
        above = 2 * ndtr(-middle[:, None] / deviations).mean(axis=1) > tail
        low, high = np.where(above, middle, low), np.where(above, high, middle)
    return high  # type: ignore[no-any-return]
