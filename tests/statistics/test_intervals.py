"""Intervals of an accuracy equal statsmodels, and behave in edge cases."""

from __future__ import annotations

import numpy as np
import pytest
from statsmodels.stats.proportion import proportion_confint

from ftjobs.statistics import mean_interval, proportion_interval


@pytest.mark.parametrize(("successes", "n"), [(0, 1), (1, 1), (0, 214), (176, 214), (214, 214), (19_999, 20_000)])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_wilson_interval_equals_statsmodels(successes: int, n: int, confidence: float) -> None:
    interval = proportion_interval(successes, n, confidence)
    assert (interval.low, interval.high) == pytest.approx(
        proportion_confint(successes, n, 1 - confidence, method="wilson"), abs=1e-9
    )


@pytest.mark.parametrize("successes", [0, 107, 176, 208, 214])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_one_seed_equals_proportion_interval(successes: int, confidence: float) -> None:
    interval = mean_interval(np.arange(214)[None] < successes, seed=0, confidence=confidence)
    expected = proportion_interval(successes, 214, confidence)
    assert (interval.low, interval.high) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_higher_confidence_gives_wider_interval() -> None:
    right = np.random.default_rng(0).random((5, 214)) < 0.85
    narrow, wide = mean_interval(right, seed=1, confidence=0.8), mean_interval(right, seed=1)
    assert wide.low < narrow.low < right.mean() < narrow.high < wide.high


@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (2, 1), (5, 214)])
def test_interval_of_all_right_or_all_wrong_has_width(shape: tuple[int, int]) -> None:
    best, worst = (mean_interval(np.full(shape, right), seed=0) for right in (True, False))
    assert 0 <= worst.low < worst.high < 1
    assert 0 < best.low < best.high <= 1
    assert worst.low <= 0.001 + 1 / shape[1]
    assert (worst.low, worst.high) == pytest.approx((1 - best.high, 1 - best.low), abs=0.02 + 1 / shape[1])


def test_repeated_seed_does_not_narrow_the_interval() -> None:
    """Five copies of a seed are worth 214 examples, not 1,070."""
    right = np.random.default_rng(0).random((1, 214)) < 0.85
    once, five_times = mean_interval(right, seed=0), mean_interval(np.repeat(right, 5, axis=0), seed=0)
    assert (once.low, once.high) == pytest.approx((five_times.low, five_times.high), abs=1e-12)


def test_independent_seeds_narrow_the_interval() -> None:
    """Ten independent seeds: slightly wider than 2,140 independent examples."""
    ratios = []
    for right in np.random.default_rng(0).random((40, 10, 214)) < 0.85:
        interval, wilson = mean_interval(right, seed=0, draws=2000), proportion_interval(int(right.sum()), right.size)
        ratios.append((interval.high - interval.low) / (wilson.high - wilson.low))
    assert 1.2 < np.mean(ratios) < 1.4


def test_interval_with_same_seed_is_reproducible() -> None:
    right = np.random.default_rng(0).random((3, 50)) < 0.7
    assert mean_interval(right, seed=1) == mean_interval(right, seed=1) != mean_interval(right, seed=2)


@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (5,), (1, 2, 3)])
def test_other_shapes_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(seeds, examples\)"):
        mean_interval(np.zeros(shape, bool), seed=0)
