"""Scores of any size: what `compare`, `score_interval` and `needed` say of experiments whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import wilcoxon

from ftjobs import statistics
from ftjobs.statistics import bootstrap

EXPERIMENTS = 200


def experiments(seeds: int, examples: int, difference: float, seed_sd: float = 0.0) -> np.ndarray:
    """float (count, 2, S, N): squared errors with a minus sign of two regressions on the same examples.

    Errors of an example are shared in part, and each seed of each method has an error of its own.
    """
    rng = np.random.default_rng([seeds, examples, round(1000 * difference)])
    shared = rng.standard_normal((EXPERIMENTS, 1, 1, examples))
    own = rng.standard_normal((EXPERIMENTS, 2, seeds, examples))
    scores = -((shared + 0.7 * own) ** 2)
    scores += seed_sd * rng.standard_normal((EXPERIMENTS, 2, seeds, 1))
    scores[:, 0] += difference
    return scores


@pytest.mark.parametrize(("seeds", "seed_sd"), [(1, 0.0), (3, 0.0), (3, 0.1)])
def test_a_difference_that_is_not_there_is_seldom_found(seeds: int, seed_sd: float) -> None:
    found = [
        statistics.compare(first, second, seed=0, draws=500, graded=True).p_value
        for first, second in experiments(seeds, 80, 0.0, seed_sd)
    ]
    assert np.mean(np.array(found) <= 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / EXPERIMENTS)


def test_a_large_difference_is_found_and_a_margin_counts() -> None:
    pairs = experiments(3, 80, 2.0)
    for margin, share in ((0.0, 1.0), (2.0, 0.03)):
        found = [statistics.compare(*pair, margin=margin, seed=0, draws=500, graded=True) for pair in pairs]
        assert np.mean([one.p_value <= 0.05 for one in found]) == pytest.approx(share, abs=0.05)
    assert np.mean([one.difference for one in found]) == pytest.approx(2.0, abs=0.05)


def test_an_interval_holds_the_truth_as_often_as_it_says() -> None:
    """The mean squared error is 1 + 0.49, whatever the sample."""
    scores = -experiments(1, 200, 0.0)[:, 0]
    found = [statistics.score_interval(one, seed=0, draws=500) for one in scores]
    covered = np.mean([one.low <= 1.49 <= one.high for one in found])
    assert 0.90 <= covered <= 0.98  # the bootstrap's percentiles are a little short where errors are skewed


def test_one_seed_is_the_plain_bootstrap() -> None:
    values = np.random.default_rng(1).exponential(size=(1, 60))
    found = statistics.score_interval(values, seed=3)
    rng = np.random.default_rng(4)
    plain = [rng.choice(values[0], 60).mean() for _ in range(10_000)]
    low, high = np.quantile(plain, [0.025, 0.975])
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)


def test_memory_does_not_limit_the_number_of_examples(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few resamples at a time are the same as all at once."""
    values = np.random.default_rng(2).normal(size=(2, 50))
    whole = bootstrap.means(values, (), seed=1, draws=500)
    monkeypatch.setattr(bootstrap, "_NUMBERS", 50 * 7)
    assert bootstrap.means(values, (), seed=1, draws=500) == pytest.approx(whole)


def test_what_it_takes_to_decide_falls_with_the_difference() -> None:
    """At no difference but the one that is asked for: a second experiment is the first, moved."""
    first, second = experiments(1, 80, 0.0)[0]
    first += second.mean() - first.mean()
    most, less, least = (
        statistics.needed(first + by, second, margin=0.0, graded=True).examples for by in (0.2, 0.4, 0.8)
    )
    assert most is not None
    assert less is not None
    assert most == pytest.approx(4 * less, rel=0.02)  # a standard error falls with the root of the examples
    assert least is not None
    assert 80 <= least <= less


def test_signed_ranks_are_those_of_scipy() -> None:
    first, second = experiments(1, 40, 0.3)[0][:, 0]
    second[:5] = first[:5]  # without a difference: left out
    found = statistics.signed_rank(first, second)
    assert found.p_value == pytest.approx(wilcoxon(first[5:], second[5:]).pvalue)
    higher = np.arange(6.0)
    assert statistics.signed_rank(higher + np.arange(1, 7), higher).p_value == pytest.approx(2 / 2**6)  # all one way
    assert found.first_higher == (first > second).sum()
    assert found.second_higher == (first < second).sum()
    assert found.first_higher + found.second_higher == 35
    assert statistics.signed_rank(first, first).p_value == 1.0
    with pytest.raises(ValueError, match="two arrays"):
        statistics.signed_rank(first, second[:3])


def test_of_very_many_values_the_mean_is_drawn_from_its_normal_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).exponential(size=(1, 3_000)) ** 2  # skewed, as squared errors are
    one_by_one = bootstrap.means(values, (), seed=1, draws=4_000)
    monkeypatch.setattr(bootstrap, "_MOST_VALUES", 100)
    limit = bootstrap.means(values, (), seed=1, draws=4_000)
    deviation = values.std() / np.sqrt(values.size)
    for share in (0.025, 0.25, 0.5, 0.75, 0.975):
        assert np.quantile(limit, share) == pytest.approx(np.quantile(one_by_one, share), abs=0.2 * deviation)
