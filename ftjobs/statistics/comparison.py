"""Which of two classifiers is better: paired tests, their correction for many, and the verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from ftjobs.statistics import bootstrap
from ftjobs.statistics.intervals import Interval, grid

#: What joins observed differences of right and wrong: see `compare`.
JOINING = (1.0, -1.0)


@dataclass(frozen=True)
class McNemar:
    """Examples that only one of two classifiers gets right, and the exact two-sided p-value of "equally many"."""

    only_first: int
    only_second: int
    p_value: float


@dataclass(frozen=True)
class Comparison:
    """Accuracy of the first minus that of the second, as fractions."""

    difference: float
    interval: Interval
    p_value: float
    """Two-sided, of "the difference is the margin"."""


def check_pairs(first: np.ndarray, second: np.ndarray) -> None:
    """Raise ValueError unless both are scores of the same examples: two arrays (N,)."""
    if first.shape != second.shape or first.ndim != 1:
        raise ValueError(f"pairs on the same examples must be two arrays (N,), not {first.shape} and {second.shape}")


def mcnemar(first: np.ndarray, second: np.ndarray) -> McNemar:
    """McNemar's exact test: two trained models on the same test examples.

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
    apart = only_first + only_second
    return McNemar(only_first, only_second, float(binomtest(only_first, apart).pvalue) if apart else 1.0)


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
    """Difference in accuracy over seeds and test examples: hierarchical paired bootstrap (see `bootstrap.means`).

    The differences first - second are resampled, so what both share, a hard example or a lucky seed, drops out. p-value
    and interval are read from the same draws: p < 1 - confidence where the interval leaves the margin out.

    With one seed, interval and p-value speak of these two trained models on new examples, not of the two methods: how
    much another seed would change is not in the data.

    One example that only the first gets right and one that only the second does join the observed ones (Bonett & Price
    2012, Journal of Educational and Behavioral Statistics 37, 479-488): two classifiers that agree on ten examples are
    not known to be equal.

    Args:
        first, second: bool (S, N), right or wrong; row s of both from the same seed, column i the same example
        margin: fraction; 0.02 asks whether the first is better by more than 2 points
        seed: of the bootstrap
        graded: the examples have scores of any size, float (S, N), that are compared by their mean; nothing is known of
            what a score could be, so none joins the observed ones, and the interval has no bounds

    Raises:
        ValueError: their shapes differ, or are not (S, N) with at least one of each
    """
    values = differences(first, second)
    drawn = bootstrap.means(values, () if graded else JOINING, seed=seed, draws=draws)
    tolerance = 1e-12  # sums of the same fractions in another order are the same value
    below, above = (drawn <= margin + tolerance).sum(), (drawn >= margin - tolerance).sum()
    p_value = min(2 * (min(below, above) + 1) / (draws + 1), 1.0)  # + 1: Davison & Hinkley (1997), section 4.2.2
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    if not graded:
        low, high = max(low, -1), min(high, 1)
    return Comparison(float(values.mean()), Interval(float(low), float(high)), float(p_value))


def differences(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """First - second, -1, 0 or 1 for every seed and example: float (S, N).

    Raises:
        ValueError: their shapes differ, or are not (S, N) with at least one of each
    """
    if first.shape != second.shape:
        raise ValueError(f"pairs need the same seeds and examples on both sides, not {first.shape} and {second.shape}")
    paired: np.ndarray = grid(first) - grid(second)
    return paired


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p-values, in the given order: all hypotheses together are then wrongly decided with chance alpha.

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
    """What the test says of "first > second by margin": decided where the corrected p is at most alpha.

    A two-sided test at alpha whose direction is read from the estimate claims each wrong direction with chance
    alpha / 2 at most (Kaiser 1960, Psychological Review 67, 160-167).
    """
    if adjusted_p > alpha or comparison.difference == margin:
        return "undecided"
    return "supported" if comparison.difference > margin else "contradicted"
