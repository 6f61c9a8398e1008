"""Paired tests equal scipy and statsmodels; Holm's correction, verdicts, and data without variance."""

from __future__ import annotations

import time
import tracemalloc

import numpy as np
import pytest
from scipy.stats import binomtest, bootstrap
from statsmodels.stats import contingency_tables
from statsmodels.stats.multitest import multipletests

from ftjobs.statistics import Comparison, Interval, compare, holm, mcnemar, verdict


def pairs(both: int, only_first: int, only_second: int, neither: int) -> tuple[np.ndarray, np.ndarray]:
    counts = [both, only_first, only_second, neither]
    return np.repeat([True, True, False, False], counts), np.repeat([True, False, True, False], counts)


@pytest.mark.parametrize(
    "table",
    [(5, 0, 0, 5), (1, 1, 0, 0), (0, 0, 1, 0), (100, 12, 3, 9), (100, 3, 12, 9), (146, 30, 23, 15), (0, 7, 7, 0)],
)
def test_mcnemar_equals_statsmodels_and_scipy(table: tuple[int, int, int, int]) -> None:
    result = mcnemar(*pairs(*table))
    assert (result.only_first, result.only_second) == table[1:3]
    expected = contingency_tables.mcnemar(np.reshape(table, (2, 2)), exact=True).pvalue if sum(table[1:3]) else 1.0
    assert result.p_value == pytest.approx(expected, abs=1e-9)
    if sum(table[1:3]):
        assert result.p_value == pytest.approx(binomtest(table[2], sum(table[1:3])).pvalue, abs=1e-12)


def test_mcnemar_of_the_reference_study_is_not_significant() -> None:
    """69.63 % and 68.22 % of 214 differ by three pairs."""
    assert mcnemar(*pairs(146, 3, 0, 65)).p_value == 0.25
    assert mcnemar(*pairs(120, 29, 26, 39)).p_value > 0.7


@pytest.mark.parametrize(("only_first", "only_second"), [(30, 23), (25, 8), (60, 20)])
def test_one_seed_equals_paired_bootstrap_of_scipy(only_first: int, only_second: int) -> None:
    """On the same data with the two added pairs; with 10,000 draws, limits have a standard deviation of 0.0005."""
    first, second = pairs(100, only_first, only_second, 214 - 100 - only_first - only_second)
    comparison = compare(first[None], second[None], seed=0)
    joined = np.append(first, [1, 0]).astype(float), np.append(second, [0, 1]).astype(float)
    theirs = bootstrap(
        joined,
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        paired=True,
        method="percentile",
        n_resamples=10_000,
        rng=np.random.default_rng(1),
    )
    assert comparison.difference == pytest.approx((only_first - only_second) / 214)
    expected = theirs.confidence_interval
    one_example = 1.01 / 216  # limits are multiples of it
    assert (comparison.interval.low, comparison.interval.high) == pytest.approx(
        (expected.low, expected.high), abs=one_example
    )
    below = (theirs.bootstrap_distribution <= 0).mean()
    assert comparison.p_value == pytest.approx(2 * below, abs=4 * 2 * np.sqrt(2 * below * (1 - below) / 10_000) + 2e-4)


@pytest.mark.parametrize("seed", range(5))
def test_holm_equals_statsmodels(seed: int) -> None:
    p_values = list(np.random.default_rng(seed).random(seed * 3 + 1) ** 3)
    assert holm(p_values) == pytest.approx(multipletests(p_values, method="holm")[1], abs=1e-12)


def test_holm_equals_manual_computation() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.5, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


@pytest.mark.parametrize(
    ("difference", "p", "margin", "expected"),
    [
        (0.05, 0.05, 0.0, "supported"),
        (0.05, 0.051, 0.0, "undecided"),
        (0.05, 0.01, 0.1, "contradicted"),
        (-0.05, 0.01, 0.0, "contradicted"),
        (0.0, 0.01, 0.0, "undecided"),
    ],
)
def test_verdict_depends_on_p_value_and_direction(difference: float, p: float, margin: float, expected: str) -> None:
    assert verdict(Comparison(difference, Interval(-1, 1), 0.0), p, margin) == expected


@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (2, 1), (2, 214), (5, 214)])
@pytest.mark.parametrize("right", [True, False])
def test_agreeing_classifiers_are_undecided(shape: tuple[int, int], right: bool) -> None:
    """Without differences in N examples, the limits are about 3 / N: Hanley & Lippman-Hand (1983), rule of three."""
    same = np.full(shape, right)
    comparison = compare(same, same, seed=0)
    assert (comparison.difference, comparison.p_value) == (0.0, 1.0)
    assert comparison.interval.low < 0 < comparison.interval.high
    if shape[1] > 10:
        assert 2 / shape[1] < comparison.interval.high < 4 / shape[1]


@pytest.mark.parametrize("shape", [(1, 1), (3, 1), (1, 214), (5, 214)])
def test_difference_of_always_right_and_always_wrong_is_one(shape: tuple[int, int]) -> None:
    comparison = compare(np.ones(shape, bool), np.zeros(shape, bool), seed=0)
    assert comparison.difference == 1
    assert -1 <= comparison.interval.low < comparison.interval.high <= 1
    assert (comparison.p_value < 0.001) == (shape[1] > 1)  # one example is not significant
    assert np.isfinite([comparison.interval.low, comparison.interval.high, comparison.p_value]).all()


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_p_value_agrees_with_interval_and_swaps_sign_with_order(seeds: int) -> None:
    rng = np.random.default_rng(seeds)
    for _ in range(20):
        first, second = rng.random((2, seeds, 100)) < rng.uniform(0.6, 0.9, (2, 1, 1))
        comparison, turned = compare(first, second, seed=0), compare(second, first, seed=0)
        outside = not comparison.interval.low <= 0 <= comparison.interval.high
        assert outside == (comparison.p_value < 0.05) or abs(comparison.p_value - 0.05) < 0.001
        assert turned.difference == pytest.approx(-comparison.difference)
        assert turned.p_value == pytest.approx(comparison.p_value, abs=0.03)
        assert turned.interval.low == pytest.approx(-comparison.interval.high, abs=0.02, rel=0.5 if seeds == 2 else 0.1)


def test_p_value_is_that_of_the_margin() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.random((2, 5, 2000)) < np.array([0.9, 0.8])[:, None, None]
    p_values = [compare(first, second, margin=margin, seed=0).p_value for margin in (0.0, 0.1, 0.2)]
    assert p_values[0] < 0.001
    assert p_values[1] > 0.2
    assert p_values[2] < 0.001


def test_one_lucky_seed_is_not_significant() -> None:
    """One of five seeds collapsed: significant for that seed by McNemar's test, but not over seeds."""
    rng = np.random.default_rng(0)
    first = rng.random((5, 1000)) < 0.85
    second = first ^ (rng.random((5, 1000)) < 0.02)
    second[3] = rng.random(1000) < 0.5
    assert mcnemar(first[3], second[3]).p_value < 1e-6
    comparison = compare(first, second, seed=0)
    assert comparison.difference > 0.05
    assert comparison.p_value > 0.1


def test_bootstrap_with_same_seed_is_reproducible() -> None:
    first, second = np.random.default_rng(0).random((2, 3, 50)) < 0.7
    assert compare(first, second, seed=1) == compare(first, second, seed=1) != compare(first, second, seed=2)


def test_mismatched_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(1, 5\) and \(1, 6\)"):
        compare(np.ones((1, 5), bool), np.ones((1, 6), bool), seed=0)
    with pytest.raises(ValueError, match=r"\(seeds, examples\)"):
        compare(np.ones((0, 5), bool), np.ones((0, 5), bool), seed=0)
    with pytest.raises(ValueError, match=r"\(2, 5\)"):
        mcnemar(np.ones((2, 5), bool), np.ones((2, 5), bool))


@pytest.mark.parametrize(("examples", "seconds", "megabytes"), [(214, 0.05, 5), (20_000, 0.2, 15)])
def test_comparison_is_within_time_and_memory_limits(examples: int, seconds: float, megabytes: float) -> None:
    """Minimum CPU time of five runs, to exclude the load of the machine. Measured: 0.02 s and 0.03 s."""
    first, second = np.random.default_rng(0).random((2, 5, examples)) < 0.85
    taken = []
    for _ in range(5):
        start = time.process_time()
        compare(first, second, seed=0)
        taken.append(time.process_time() - start)
    assert min(taken) < seconds
    tracemalloc.start()
    compare(first, second, seed=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < megabytes * 1e6
