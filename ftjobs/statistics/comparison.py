"""Paired comparisons of two classifiers, correction for multiple tests, and verdicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ftjobs.statistics import bootstrap
from ftjobs.statistics.intervals import Interval, as_grid

#: Differences added to the observed ones in `compare`, unless scores are graded.
PSEUDO_DIFFERENCES = (1.0, -1.0)


@dataclass(frozen=True)
class McNemar:
    """Examples that only one of two classifiers gets right, with the exact two-sided p-value."""

    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class SignedRank:
    """Examples on which one of two models has the higher score, with the two-sided p-value."""

    first_higher: int
    second_higher: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Accuracy, or mean score, of the first minus that of the second."""

    difference: float
    interval: Interval
    p_value: float
    """Two-sided, of the null hypothesis that the difference equals the margin."""


def check_pairs(first: np.ndarray, second: np.ndarray) -> None:
    """Raise ValueError unless both are arrays (N,)."""
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"pairs on the same examples must be two arrays (N,), not {first.shape} and {second.shape}")


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's exact test of two trained models on the same test examples.

    McNemar (1947), Psychometrika 12, 153-157; the exact binomial form: Agresti (2013), Categorical Data Analysis,
    section 11.1.2; for classifiers: Dietterich (1998), Neural Computation 10, section 3.1.

    Args:
        first, second: bool (N,), right or wrong on each example

    Raises:
        ValueError: their shapes differ, or are not (N,)
    """
    from scipy.stats import binomtest

    check_pairs(first, second)
    first, second = first.astype(bool), second.astype(bool)
    only_first, only_second = int((first & ~second).sum()), int((second & ~first).sum())
    discordant = only_first + only_second
    return McNemar(only_first, only_second, float(binomtest(only_first, discordant).pvalue) if discordant else 1.0)


def signed_rank(first: np.ndarray, second: np.ndarray) -> SignedRank:
    """Wilcoxon's signed-rank test of paired graded scores. Examples without a difference are left out.

    Wilcoxon (1945), Biometrics Bulletin 1, 80-83; for comparing learners: Demsar (2006), JMLR 7, section 3.1.3.

    Args:
        first, second: float (N,), scores of the same examples

    Raises:
        ValueError: their shapes differ, or are not (N,)
    """
    from scipy.stats import wilcoxon

    check_pairs(first, second)
    nonzero = first - second
    nonzero = nonzero[nonzero != 0]
    p_value = float(wilcoxon(nonzero).pvalue) if len(nonzero) else 1.0
    return SignedRank(int((nonzero > 0).sum()), int((nonzero < 0).sum()), p_value)


def compare(
    first: np.ndarray,
    second: np.ndarray,
    *,
    margin: float = 0.0,
    seed: int,
    confidence: float = 0.95,
    draws: int = bootstrap.DRAWS,
    graded: bool = False,
) -> Comparison:
    """Compare accuracy over seeds and test examples by a hierarchical paired bootstrap (see `bootstrap.means`).

    Differences of first and second are resampled, so effects that both share (a hard example, a lucky seed) cancel.
    p-value and interval come from the same draws: p < 1 - confidence if the interval excludes the margin.

    With one seed, interval and p-value apply to these two trained models on new examples, not to the two methods: the
    data does not show the variation between seeds.

    One example that only the first gets right, and one that only the second gets right, are added to the observed ones
    (Bonett & Price 2012, Journal of Educational and Behavioral Statistics 37, 479-488): agreement on ten examples does
    not prove two classifiers equal.

    Args:
        first, second: bool (S, N), right or wrong, paired by seed and example
        margin: fraction; 0.02 tests whether the first is better by more than 2 points
        seed: of the bootstrap
        confidence: of the interval
        draws: of the bootstrap
        graded: examples have scores float (S, N), compared by their mean; no examples are added, and the interval is
        not limited to [-1, 1]

    Raises:
        ValueError: their shapes differ, or are not (S, N) with at least one of each
    """
    values = differences(first, second)
    drawn = bootstrap.means(values, () if graded else PSEUDO_DIFFERENCES, seed=seed, draws=draws)
    tolerance = 1e-12  # equal sums of fractions may differ by rounding
    below, above = (drawn <= margin + tolerance).sum(), (drawn >= margin - tolerance).sum()
    p_value = min(2 * (min(below, above) + 1) / (draws + 1), 1.0)  # + 1: Davison & Hinkley (1997), section 4.2.2
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    if not graded:
        low, high = max(low, -1), min(high, 1)
    return Comparison(float(values.mean()), Interval(float(low), float(high)), float(p_value))


def differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return first - second for every seed and example: float (S, N).

    Raises:
        ValueError: their shapes differ, or are not (S, N) with at least one of each
    """
    if first.shape != second.shape:
        raise ValueError(f"pairs need the same seeds and examples on both sides, not {first.shape} and {second.shape}")
    paired: np.ndarray = as_grid(first) - as_grid(second)
    return paired


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that the probability of any false rejection is at most alpha. The order is kept.

    Holm (1979), A simple sequentially rejective multiple test procedure, Scandinavian Journal of Statistics 6, 65-70.
    """
    order = np.argsort(p_values, kind="stable")
    stepped = np.asarray(p_values, dtype=np.float64)[order] * np.arange(len(order), 0, -1)
    adjusted = np.empty(len(order))
    adjusted[order] = np.maximum.accumulate(stepped).clip(max=1.0)
    return [float(p) for p in adjusted]


def verdict(
    comparison: Comparison, adjusted_p: float, margin: float, alpha: float = 0.05
) -> Literal["supported", "contradicted", "undecided"]:
    """Return the verdict on "first > second by margin": undecided if the adjusted p-value exceeds alpha.

    A two-sided test at alpha with the direction of the estimate claims either wrong direction with probability at most
    alpha / 2 (Kaiser 1960, Psychological Review 67, 160-167).
    """
    if adjusted_p > alpha or comparison.difference == margin:
        return "undecided"
    return "supported" if comparison.difference > margin else "contradicted"
