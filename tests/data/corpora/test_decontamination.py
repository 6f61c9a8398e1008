"""Decontamination, compared with a plain search."""

import random

import numpy as np
import pytest

from ftjobs.data.corpora.decontamination import EvaluationTexts
from ftjobs.data.corpora.near_duplicates import hash_words

LONG = "can i take aspirin together with my usual blood pressure pills after dinner"


@pytest.mark.parametrize(
    ("passage", "contains"),
    [
        (f"A patient asked: “{LONG.upper()}?” We said no.", True),
        (LONG, True),
        (f"{LONG}s", False),
        (LONG.replace("aspirin", "ibuprofen"), False),
        ("can i take aspirin together with my usual blood pressure medicine after dinner", False),
        ("is it flu", True),
        ("this is it, flu!", True),
        ("is it the flu", False),
        ("it flu is", False),
        ("", False),
    ],
)
def test_find_matches_texts_as_word_sequences(passage, contains):
    matches = EvaluationTexts([LONG, "Is it flu?"]).find(hash_words(["unrelated", passage, "also unrelated"]))
    assert (matches >= 0).tolist() == [False, contains, False]


def test_find_equals_a_plain_search():
    generator = random.Random(1)
    words = "a b c d e".split()

    def random_text(longest: int) -> str:
        return " ".join(generator.choices(words, k=generator.randrange(1, longest)))

    for _ in range(30):
        texts = [random_text(14) for _ in range(12)]
        passages = [random_text(60) for _ in range(25)]
        index = EvaluationTexts(texts, min_words=4)
        searched = [text for text in texts if len(text.split()) >= 4]
        expected = [any(f" {text} " in f" {passage} " for text in searched) for passage in passages]
        matches = index.find(hash_words(passages))
        assert (matches >= 0).tolist() == expected
        for passage, number in zip(passages, matches, strict=True):
            assert number < 0 or f" {index.texts[number]} " in f" {passage} "
        assert index.skipped == len({text for text in texts if len(text.split()) < 4})


def test_find_without_words_or_texts_matches_nothing():
    assert (EvaluationTexts(["?", " "]).find(hash_words(["? what"])) == -1).all()
    assert np.array_equal(EvaluationTexts([]).find(hash_words(["a", "b"])), [-1, -1])
