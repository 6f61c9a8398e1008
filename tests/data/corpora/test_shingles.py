"""Hashed words and shingles."""

import subprocess
import sys

import numpy as np
import pytest

from ftjobs.data.corpora.shingles import hash_words, shingle_keys


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
    script = "from ftjobs.data.corpora.shingles import hash_words; print(hash_words(['a b c']).shingles(2)[0].tolist())"
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert process.stdout.strip() == str(hash_words(["a b c"]).shingles(2)[0].tolist())
