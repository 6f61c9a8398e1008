"""Graded scores in `compare`, `score_interval` and `needed`, on simulated experiments."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from ftjobs import statistics
from ftjobs.statistics import bootstrap

EXPERIMENTS = 200


def experiments(seeds: int, examples: int, difference: float, seed_sd: float = 0.0) -> np.ndarray:
    """Return negative squared errors of two regressions on the same examples: float (count, 2, S, N).

    Errors of an example are shared in part, and each seed of each method adds an individual error.
    """
    rng = np.random.default_rng([seeds, examples, round(1000 * difference)])
    shared = rng.standard_normal((EXPERIMENTS, 1, 1, examples))
    individual = rng.standard_normal((EXPERIMENTS, 2, seeds, examples))
    scores = -((shared + 0.7 * individual) ** 2)
    scores += seed_sd * rng.standard_normal((EXPERIMENTS, 2, seeds, 1))
    scores[:, 0] += difference
    return scores


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.0), (3, 0.1)])
def test_equal_scores_are_rarely_significant(seeds: int, seed_sd: float) -> None:
    p_values = [
        statistics.compare(first, second, seed=0, draws=500, graded=True).p_value
        for first, second in experiments(seeds, 80, 0.0, seed_sd)
    ]
    assert np.mean(np.array(p_values) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / EXPERIMENTS)


def test_large_difference_is_significant_up_to_the_margin() -> None:
    pairs = experiments(3, 80, 2.0)
    for margin, share in ((0.0, 1.0), (2.0, 0.03)):
        comparisons = [statistics.compare(*pair, margin=margin, seed=0, draws=500, graded=True) for pair in pairs]
        assert np.mean([comparison.p_value <= 0.05 for comparison in comparisons]) == pytest.approx(share, abs=0.05)
    assert np.mean([comparison.difference for comparison in comparisons]) == pytest.approx(2.0, abs=0.05)


def test_interval_covers_the_truth_at_its_confidence() -> None:
    """The true mean squared error is 1 + 0.49."""
    scores = -experiments(1, 200, 0.0)[:, 0]
    intervals = [statistics.score_interval(interval, seed=0, draws=500) for interval in scores]
    covered = np.mean([interval.low <= 1.49 <= interval.high for interval in intervals])
    assert 0.90 <= covered <= 0.98  # bootstrap percentiles are slightly too narrow for skewed errors


def test_one_seed_equals_plain_bootstrap() -> None:
    values = np.random.default_rng(1).exponential(size=(1, 60))
    interval = statistics.score_interval(values, seed=3)
    rng = np.random.default_rng(4)
    plain = [rng.choice(values[0], 60).mean() for _ in range(10_000)]
    low, high = np.quantile(plain, [0.025, 0.975])
    assert (interval.low, interval.high) == pytest.approx((low, high), abs=0.02)


def test_batches_of_resamples_give_the_same_result(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resamples in batches equal resamples at once."""
    values = np.random.default_rng(2).normal(size=(2, 50))
    expected = bootstrap.means(values, (), seed=1, draws=500)
    monkeypatch.setattr(bootstrap, "_MAX_NUMBERS", 50 * 7)
    assert bootstrap.means(values, (), seed=1, draws=500) == pytest.approx(expected)


def test_needed_examples_decrease_with_the_difference() -> None:
    """The second experiment is the first with shifted scores."""
    first, second = experiments(1, 80, 0.0)[0]
    first += second.mean() - first.mean()
    most, less, least = (
        statistics.needed(first + by, second, margin=0.0, graded=True).examples for by in (0.2, 0.4, 0.8)
    )
    assert most is not None
    assert less is not None
    assert most == pytest.approx(4 * less, rel=0.02)  # standard errors decrease with the square root of the examples
    assert least is not None
    assert 80 <= least <= less


def test_signed_rank_equals_scipy() -> None:
    first, second = experiments(1, 40, 0.3)[0][:, 0]
    second[:5] = first[:5]  # equal scores are left out
    result = statistics.signed_rank(first, second)
    assert result.p_value == pytest.approx(wilcoxon(first[5:], second[5:]).pvalue)
    higher = np.arange(6.0)
    assert statistics.signed_rank(higher + np.arange(1, 7), higher).p_value == pytest.approx(
        2 / 2**6
    )  # all differences positive
    assert result.first_higher == (first > second).sum()
    assert result.second_higher == (first < second).sum()
    assert result.first_higher + result.second_higher == 35
    assert statistics.signed_rank(first, first).p_value == 1.0
    with pytest.raises(ValueError, match="two arrays"):
        statistics.signed_rank(first, second[:3])


def test_normal_limit_is_used_for_many_values(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).exponential(size=(1, 3_000)) ** 2  # skewed like squared errors
    one_by_one = bootstrap.means(values, (), seed=1, draws=4_000)
    monkeypatch.setattr(bootstrap, "_MAX_VALUES", 100)
    limit = bootstrap.means(values, (), seed=1, draws=4_000)
    deviation = values.std() / np.sqrt(values.size)
    for share in (0.025, 0.25, 0.5, 0.75, 0.975):
        assert np.quantile(limit, share) == pytest.approx(np.quantile(one_by_one, share), abs=0.2 * deviation)
