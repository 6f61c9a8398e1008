"""Repetitions: exact ones always, near ones as their similarity says, and nothing else."""

import numpy as np
import pytest

from ftjobs.data.corpora.duplicates import Duplicates
from ftjobs.data.corpora.shingles import words_of
from ftjobs.data.overlap import text_keys

GENERATOR = np.random.default_rng(1)


def passage(size: int = 120) -> list[str]:
    return [f"w{number}" for number in GENERATOR.integers(0, 50_000, size)]


def changed(words: list[str], changes: int) -> list[str]:
    words = list(words)
    for place in GENERATOR.choice(len(words), changes, replace=False):
        words[place] = f"other{place}"
    return words


def similarity(one: list[str], other: list[str]) -> float:
    runs = [{tuple(words[start : start + 5]) for start in range(len(words) - 4)} for words in (one, other)]
    return len(runs[0] & runs[1]) / len(runs[0] | runs[1])


def repeated(texts: list[str], threshold: float | None = 0.8, batch: int = 7) -> tuple[np.ndarray, np.ndarray]:
    duplicates = Duplicates(threshold)
    for start in range(0, len(texts), batch):
        some = texts[start : start + batch]
        duplicates.add(text_keys([some])[:, 0], words_of(some))
    return duplicates.repeated()


def test_near_ones_are_found_and_others_are_not():
    texts, near, unlike = [], [], []
    for number in range(150):
        first = passage()
        other = changed(first, int(GENERATOR.integers(0, 12)))
        found = similarity(first, other)
        texts += [" ".join(first), " ".join(other)]
        near += [2 * number + 1] if found > 0.9 else []
        unlike += [2 * number + 1] if found < 0.7 else []
    _, first_of = repeated(texts)
    assert len(near) > 15
    assert len(unlike) > 50
    assert all(first_of[one] == one - 1 for one in near)  # three standard errors above the threshold
    assert np.mean([first_of[one] == one for one in unlike]) > 0.99
    assert all(first_of[one] == one for one in range(0, 300, 2))  # the first of each is kept


def test_exact_ones_and_near_ones_are_told_apart():
    long = passage()
    texts = [" ".join(long), "b c", " ".join(long).upper() + " ", "B  c", " ".join([*long, "more"]), "b c d", "c b"]
    exact, near = repeated(texts)
    assert exact.tolist() == [0, 1, 0, 1, 4, 5, 6]
    assert near.tolist() == [0, 1, 0, 1, 0, 5, 6]
    exact, near = repeated(texts, None)
    assert exact.tolist() == near.tolist() == [0, 1, 0, 1, 4, 5, 6]


def test_how_passages_come_in_makes_no_difference():
    base = [passage(30) for _ in range(40)]
    texts = [" ".join(changed(base[number % 40], number // 40 * 1)) for number in range(90)]
    for batch in (1, 90):
        assert np.array_equal(repeated(texts, batch=batch)[1], repeated(texts)[1])


def test_what_stands_everywhere_makes_no_square_of_pairs():
    texts = [" ".join(["same"] * 6)] * 1 + [f"the same five words here {number}" for number in range(3_000)]
    _, near = repeated(texts, batch=1_000)
    assert near[0] == 0


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_pairs_at_the_threshold_would_be_found(threshold):
    rows = Duplicates(threshold)._rows
    assert 1 - (1 - threshold**rows) ** (128 // rows) >= 0.99


def test_nothing_and_one():
    assert [found.tolist() for found in repeated([])] == [[], []]
    assert [found.tolist() for found in repeated(["a"])] == [[0], [0]]
