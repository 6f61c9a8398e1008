"""Runs of words as numbers: equal runs, equal numbers; and the same numbers on every machine."""

import subprocess
import sys

import numpy as np
import pytest

from ftjobs.data.corpora.shingles import shingle_keys, words_of


def test_words_are_compared_without_case_and_marks():
    words = words_of(["What is  flu?", '"WHAT IS FLU"', "Straße", "STRASSE!", "流感?", "", "—"])
    assert words.counts.tolist() == [3, 3, 1, 1, 2, 0, 0]
    assert np.array_equal(words.of(0), words.of(1))
    assert np.array_equal(words.of(2), words.of(3))


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_grams_are_all_runs_within_a_text(size):
    texts = ["a b c a b", "", "c", "a b c", "x a b c a"]
    words = words_of(texts)
    keys, starts = words.grams(size)
    expected = {}
    for number, text in enumerate(texts):
        split = text.split()
        for place in range(len(split) - size + 1):
            expected[int(words.offsets[number]) + place] = tuple(split[place : place + size])
    assert starts.tolist() == sorted(expected)
    of_run: dict[tuple[str, ...], set[int]] = {}
    for key, start in zip(keys.tolist(), starts.tolist(), strict=True):
        of_run.setdefault(expected[start], set()).add(key)
    assert all(len(found) == 1 for found in of_run.values())
    assert len(set.union(set(), *of_run.values())) == len(of_run)


def test_order_matters():
    keys = words_of(["a b", "b a"]).keys
    one, other = shingle_keys(keys, np.array([0, 2]), 2)
    assert one != other


def test_numbers_are_the_same_in_every_process():
    script = "from ftjobs.data.corpora.shingles import words_of; print(words_of(['a b c']).grams(2)[0].tolist())"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == str(words_of(["a b c"]).grams(2)[0].tolist())
