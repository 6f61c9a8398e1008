"""Spans of words: their lengths are those of the formula, their words whole, their share exact."""

from __future__ import annotations

import numpy as np

from ftjobs.data.examples.masking import example_generator
from ftjobs.data.examples.spans import choose_spans


def words(count: int, generator: np.random.Generator) -> np.ndarray:
    """bool (T,): words of one to four tokens."""
    lengths = generator.integers(1, 5, size=count)
    starts = np.zeros(lengths.sum(), dtype=bool)
    starts[np.cumsum(lengths) - lengths] = True
    return starts


def runs(chosen: np.ndarray, starts: np.ndarray) -> list[int]:
    """Words of each span, in the order of the text."""
    of_words = chosen[starts]
    found = [of_words[0], *of_words[1:][of_words[1:] != of_words[:-1]]]
    return [int((of_words == span).sum()) for span in found if span >= 0]


def test_lengths_are_geometric_up_to_ten_words() -> None:
    """Joshi et al. 2020, section 3.1: Geo(0.2), at most ten words, 3.8 on average."""
    generator, counts = np.random.default_rng(0), np.zeros(11)
    for example in range(400):
        starts = words(1_000, generator)
        open_ = np.ones(len(starts), dtype=bool)
        chosen = choose_spans(starts, open_, 0.15, example_generator(1, 1, example))
        counts += np.bincount(runs(chosen, starts), minlength=11)
    total = counts.sum()
    assert total > 10_000
    shares = 0.2 * 0.8 ** np.arange(10)
    shares /= shares.sum()
    assert counts[0] == 0
    assert abs(counts @ np.arange(11) / total - 3.797) < 0.1
    np.testing.assert_allclose(counts[1:] / total, shares, atol=4 * 0.5 / total**0.5)


def test_words_are_whole_and_closed_tokens_never_taken() -> None:
    generator = np.random.default_rng(1)
    for example in range(300):
        starts = words(int(generator.integers(1, 60)), generator)
        number = np.cumsum(starts) - 1
        maskable = (generator.random(number[-1] + 1) < 0.8)[number]
        chosen = choose_spans(starts, maskable, 0.3, example_generator(2, 1, example))
        assert not (chosen >= 0)[~maskable].any()
        for word in range(number[-1] + 1):
            assert len(set(chosen[number == word])) == 1
        for span in set(chosen) - {-1}:
            inside = np.flatnonzero(chosen == span)
            assert inside[0] == span
            assert (np.diff(inside) == 1).all()
            assert 1 <= len(set(number[inside])) <= 10


def test_the_expected_share_is_exact_for_short_texts_too() -> None:
    for probability, count in ((0.15, 4), (0.15, 30), (0.4, 9), (0.9, 12)):
        chosen = tokens = 0
        squares = 0.0
        generator = np.random.default_rng(count)
        for _ in range(2_000):
            starts = words(count, generator)
            found = int((choose_spans(starts, np.ones_like(starts), probability, generator) >= 0).sum())
            chosen, tokens = chosen + found, tokens + len(starts)
            squares += (found - probability * len(starts)) ** 2
        assert abs(chosen - probability * tokens) < 4 * squares**0.5


def test_nothing_to_choose_from() -> None:
    starts = np.ones(3, dtype=bool)
    assert (choose_spans(starts, np.zeros(3, dtype=bool), 0.5, np.random.default_rng(0)) == -1).all()


def test_spans_are_all_over_a_short_text() -> None:
    """Though the budget cuts most of them: a question of 20 words has room for three."""
    starts = np.ones(20, dtype=bool)
    chosen = [choose_spans(starts, starts, 0.15, example_generator(1, 1, example)) >= 0 for example in range(4_000)]
    shares = np.mean(chosen, axis=0)
    assert abs(shares.mean() - 0.15) < 0.001
    assert shares.min() > 0.05  # words at the edges are in fewer spans
    np.testing.assert_allclose(shares[2:-2], 0.15, atol=0.04)
    np.testing.assert_allclose(shares, shares[::-1], atol=0.03)
