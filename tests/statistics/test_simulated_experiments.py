"""Coverage and error rates of intervals and comparisons on simulated experiments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from ftjobs.statistics import compare, holm, mean_interval, verdict
from tests.helpers.simulated import Truth

EXPERIMENTS = 2000
DRAWS = 500  # p-values near 0.05 have a standard deviation of 0.014, which cancels over 2,000 experiments
INDEPENDENT: dict[str, float] = {}
SINGLE = {"common": 0.3, "single": 0.5}
STRONG = {"common": 0.9, "paired": 0.05}  # one in nine errors of either classifier is not shared


def at_most(rate: float, experiments: int) -> float:
    """Return the largest plausible observed rate: three standard deviations above the true one."""
    return rate + 3 * math.sqrt(rate * (1 - rate) / experiments)


def experiments(truth: Truth, count: int) -> Iterator[np.ndarray]:
    rng = np.random.default_rng(7)
    return itertools.chain.from_iterable(truth.experiments(50, rng) for _ in range(count // 50))


def rates(truth: Truth, count: int) -> dict[str, float]:
    """Return the rates of false verdicts in both directions, and the coverage of intervals."""
    margin = truth.accuracy[0] - truth.accuracy[1]
    seen = []
    for number, right in enumerate(experiments(truth, count)):
        comparison = compare(*right, margin=margin, seed=number, draws=DRAWS)
        outcome = verdict(comparison, comparison.p_value, margin)
        accuracy = mean_interval(right[0], seed=number, draws=100)
        seen.append(
            {
                "supported": outcome == "supported",
                "contradicted": outcome == "contradicted",
                "difference": comparison.interval.low <= margin <= comparison.interval.high,
                "accuracy": accuracy.low <= truth.accuracy[0] <= accuracy.high,
            }
        )
    return {what: float(np.mean([row[what] for row in seen])) for what in seen[0]}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("seeds", "examples", "accuracy", "seed_sd", "shares"),
    [
        (1, 214, 0.85, 0, INDEPENDENT),
        (1, 214, 0.97, 0, STRONG),
        (1, 1000, 0.55, 0, STRONG),
        (2, 214, 0.85, 0.03, SINGLE),
        (2, 1000, 0.85, 0.03, STRONG),
        (3, 214, 0.55, 0.03, STRONG),
        (3, 1000, 0.97, 0, SINGLE),
        (5, 214, 0.85, 0.03, STRONG),
        (5, 214, 0.97, 0.03, INDEPENDENT),
        (5, 1000, 0.85, 0, INDEPENDENT),
        (10, 214, 0.85, 0.03, SINGLE),
        (10, 1000, 0.97, 0, STRONG),
    ],
    ids=str,
)
def test_equal_methods_are_rarely_significant_and_covered(
    seeds: int, examples: int, accuracy: float, seed_sd: float, shares: dict
) -> None:
    """At most 2.5 % false verdicts in either direction; intervals cover 95 %.

    Found in these: supported 0.2 to 2.4 %, contradicted 0.1 to 2.2 %; the interval of the difference covers in 94.8 to
    99.3 %, that of the accuracy in 94.2 to 98.2 %. In a sweep of 159 settings of 500 experiments each (accuracies 0.55,
    0.85, 0.97, gaps of 0 and 5 points, 1 to 10 seeds): supported at most 3.6 %, coverage at least 93.2 % and 92.8 %,
    with one exception, that of an accuracy of 0.97 whose seeds differ by three points, most of them close to 1 and few
    far below: 92 to 95 % from two seeds. With two seeds that differ little, intervals cover 99 %, and are two or
    three times as long as with three: nothing shorter is safe where two seeds could also differ much.
    """
    truth = Truth(seeds, examples, (accuracy, accuracy), **shares, seed_sd=seed_sd)
    shares_by_verdict = rates(truth, EXPERIMENTS)
    print(f"{truth}: {shares_by_verdict}")
    assert shares_by_verdict["supported"] <= at_most(0.025, EXPERIMENTS)
    assert shares_by_verdict["contradicted"] <= at_most(0.025, EXPERIMENTS)
    assert shares_by_verdict["difference"] >= 1 - at_most(0.05, EXPERIMENTS)
    assert shares_by_verdict["accuracy"] >= 1 - at_most(0.06, EXPERIMENTS)
    if seeds in (1, 10):  # with little uncertainty, intervals are not too wide either
        assert shares_by_verdict["difference"] <= (1 if accuracy == 0.97 else 0.975)
        assert shares_by_verdict["accuracy"] <= 0.985


@pytest.mark.slow
@pytest.mark.parametrize("seeds", [1, 3, 5])
def test_interval_covers_a_true_difference(seeds: int) -> None:
    """A difference of five points with a margin of five points. Measured coverage: 95.3, 97.5 and 95.7 %."""
    truth = Truth(seeds, 214, (0.95, 0.90), **SINGLE, seed_sd=0.02 if seeds > 1 else 0)
    shares_by_verdict = rates(truth, 1000)
    print(f"{truth}: {shares_by_verdict}")
    assert shares_by_verdict["supported"] <= at_most(0.025, 1000)
    assert shares_by_verdict["contradicted"] <= at_most(0.025, 1000)
    assert shares_by_verdict["difference"] >= 1 - at_most(0.05, 1000)


def test_five_varying_seeds_keep_the_error_rate() -> None:
    """A fast case of the slow tests: five seeds with a standard deviation of three points."""
    shares_by_verdict = rates(Truth(5, 214, (0.85, 0.85), **STRONG, seed_sd=0.03), 400)
    assert shares_by_verdict["supported"] <= at_most(0.025, 400)
    assert shares_by_verdict["contradicted"] <= at_most(0.025, 400)
    assert shares_by_verdict["difference"] >= 0.93
    assert shares_by_verdict["accuracy"] >= 0.93


def test_bootstrap_of_examples_only_exceeds_alpha() -> None:
    """Seeds and examples resampled with replacement only; three seeds with a standard deviation of three points.

    It finds a difference where there is none in 23.7 % of the experiments, `compare` in 4.7 %.
    """
    truth = Truth(3, 1000, (0.85, 0.85), **STRONG, seed_sd=0.03)
    rng, count, draws = np.random.default_rng(0), 300, 500
    by_seed = rng.multinomial(3, [1 / 3] * 3, draws) / 3
    by_example = rng.multinomial(1000, [1 / 1000] * 1000, draws) / 1000
    naive, ours = 0, 0
    for number, right in enumerate(experiments(truth, count)):
        drawn = ((by_example @ (right[0].astype(float) - right[1]).T) * by_seed).sum(axis=1)
        low, high = np.quantile(drawn, [0.025, 0.975])
        naive += not low <= 0 <= high
        ours += compare(*right, seed=number, draws=DRAWS).p_value <= 0.05
    print(f"naive {naive / count:.3f}, ours {ours / count:.3f}")
    assert naive / count > 0.15
    assert ours / count <= at_most(0.05, count)


def test_holm_keeps_the_family_wise_error_rate() -> None:
    """Three null hypotheses among three methods: any is rejected in at most 5 % of the experiments."""
    wrong, count = 0, 300
    for number, right in enumerate(experiments(Truth(3, 214, (0.8, 0.8), **SINGLE, seed_sd=0.02), count)):
        first, second = right
        third = np.roll(first, 1, axis=0)  # the first with its seeds in another order
        pairs = ((first, second), (third, second), (first, third))
        comparisons = [compare(*pair, seed=number, draws=DRAWS) for pair in pairs]
        adjusted = holm([comparison.p_value for comparison in comparisons])
        wrong += any(
            verdict(comparison, p, 0.0) != "undecided" for comparison, p in zip(comparisons, adjusted, strict=True)
        )
    assert wrong / count <= at_most(0.05, count)
