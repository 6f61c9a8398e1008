"""Hashed words and shingles, and exact and near-duplicate passages."""

import subprocess
import sys

import numpy as np
import pytest

from ftjobs.data.corpora.near_duplicates import DuplicateFinder, hash_words, shingle_keys
from ftjobs.data.overlap import text_keys


def test_words_ignore_case_and_punctuation():
    words = hash_words(["What is  flu?", '"WHAT IS FLU"', "Straße", "STRASSE!", "流感?", "", "—"])
    assert words.counts.tolist() == [3, 3, 1, 1, 2, 0, 0]
    assert np.array_equal(words.of_text(0), words.of_text(1))
    assert np.array_equal(words.of_text(2), words.of_text(3))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_shingles_are_all_word_sequences_within_a_text(size):
    texts = ["a b c a b", "", "c", "a b c", "x a b c a"]
    words = hash_words(texts)
    keys, starts = words.shingles(size)
    expected = {}
    for number, text in enumerate(texts):
        split = text.split()
        for position in range(len(split) - size + 1):
            expected[int(words.offsets[number]) + position] = tuple(split[position : position + size])
    assert starts.tolist() == sorted(expected)
    keys_of_shingle: dict[tuple[str, ...], set[int]] = {}
    for key, start in zip(keys.tolist(), starts.tolist(), strict=True):
        keys_of_shingle.setdefault(expected[start], set()).add(key)
    assert all(len(keys) == 1 for keys in keys_of_shingle.values())
    assert len(set.union(set(), *keys_of_shingle.values())) == len(keys_of_shingle)


def test_shingle_keys_depend_on_word_order():
    keys = hash_words(["a b", "b a"]).keys
    first, second = shingle_keys(keys, np.array([0, 2]), 2)
    assert first != second


def test_keys_are_equal_in_every_process():
    script = "from ftjobs.data.corpora.near_duplicates import hash_words; print(hash_words(['a b c']).shingles(2)[0].tolist())"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == str(hash_words(["a b c"]).shingles(2)[0].tolist())


GENERATOR = np.random.default_rng(1)


def random_words(size: int = 120) -> list[str]:
    return [f"w{number}" for number in GENERATOR.integers(0, 50_000, size)]


def replace_words(words: list[str], count: int) -> list[str]:
    words = list(words)
    for position in GENERATOR.choice(len(words), count, replace=False):
        words[position] = f"other{position}"
    return words


def jaccard(first: list[str], second: list[str]) -> float:
    shingles = [{tuple(words[start : start + 5]) for start in range(len(words) - 4)} for words in (first, second)]
    return len(shingles[0] & shingles[1]) / len(shingles[0] | shingles[1])


def first_occurrences(
    texts: list[str], threshold: float | None = 0.8, batch_size: int = 7
) -> tuple[np.ndarray, np.ndarray]:
    finder = DuplicateFinder(threshold)
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        finder.add(text_keys([batch])[:, 0], hash_words(batch))
    return finder.first_occurrences()


def test_near_duplicates_are_found_by_similarity():
    texts, similar, different = [], [], []
    for number in range(150):
        original = random_words()
        copy = replace_words(original, int(GENERATOR.integers(0, 12)))
        similarity = jaccard(original, copy)
        texts += [" ".join(original), " ".join(copy)]
        similar += [2 * number + 1] if similarity > 0.9 else []  # three standard errors above the threshold
        different += [2 * number + 1] if similarity < 0.7 else []
    _, first = first_occurrences(texts)
    assert len(similar) > 15
    assert len(different) > 50
    assert all(first[index] == index - 1 for index in similar)
    assert np.mean([first[index] == index for index in different]) > 0.99
    assert all(first[index] == index for index in range(0, 300, 2))


def test_exact_and_near_duplicates_are_distinguished():
    long = random_words()
    texts = [" ".join(long), "b c", " ".join(long).upper() + " ", "B  c", " ".join([*long, "more"]), "b c d", "c b"]
    exact, near = first_occurrences(texts)
    assert exact.tolist() == [0, 1, 0, 1, 4, 5, 6]
    assert near.tolist() == [0, 1, 0, 1, 0, 5, 6]
    exact, near = first_occurrences(texts, None)
    assert exact.tolist() == near.tolist() == [0, 1, 0, 1, 4, 5, 6]


def test_batch_size_does_not_change_duplicates():
    base = [random_words(30) for _ in range(40)]
    texts = [" ".join(replace_words(base[number % 40], number // 40)) for number in range(90)]
    for batch_size in (1, 90):
        assert np.array_equal(first_occurrences(texts, batch_size=batch_size)[1], first_occurrences(texts)[1])


def test_shared_heading_does_not_produce_all_pairs():
    texts = ["same same same same same same"] + [f"the same five words here {number}" for number in range(3_000)]
    _, near = first_occurrences(texts, batch_size=1_000)
    assert near[0] == 0


@pytest.mark.parametrize("threshold", [0.5, 0.8, 0.95])
def test_banding_finds_pairs_at_the_threshold(threshold):
    rows = DuplicateFinder(threshold)._rows
    assert 1 - (1 - threshold**rows) ** (128 // rows) >= 0.99


def test_duplicates_of_no_passage_and_of_one():
    assert [first.tolist() for first in first_occurrences([])] == [[], []]
    assert [first.tolist() for first in first_occurrences(["a"])] == [[0], [0]]
