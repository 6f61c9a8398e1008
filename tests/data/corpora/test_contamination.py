"""Test texts inside passages: found wherever they stand, and nowhere else; against a plain search."""

import random

import numpy as np
import pytest

from ftjobs.data.corpora.contamination import HeldTexts
from ftjobs.data.corpora.shingles import words_of

LONG = "can i take aspirin together with my usual blood pressure pills after dinner"


@pytest.mark.parametrize(
    ("passage", "held"),
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
def test_a_passage_holds_a_text_as_a_run_of_words(passage, held):
    found = HeldTexts([LONG, "Is it flu?"]).find(words_of(["unrelated", passage, "also unrelated"]))
    assert (found >= 0).tolist() == [False, held, False]


def test_it_finds_what_a_plain_search_finds():
    generator = random.Random(1)
    words = "a b c d e".split()

    def text(longest: int) -> str:
        return " ".join(generator.choices(words, k=generator.randrange(1, longest)))

    for _ in range(30):
        texts = [text(14) for _ in range(12)]
        passages = [text(60) for _ in range(25)]
        held = HeldTexts(texts, shortest=4)
        expected = [any(f" {one} " in f" {passage} " for one in texts if len(one.split()) >= 4) for passage in passages]
        found = held.find(words_of(passages))
        assert (found >= 0).tolist() == expected
        for passage, number in zip(passages, found, strict=True):
            assert number < 0 or f" {held.texts[number]} " in f" {passage} "
        assert held.passed_over == len({one for one in texts if len(one.split()) < 4})


def test_texts_without_words_and_no_texts_hold_nothing():
    assert (HeldTexts(["?", " "]).find(words_of(["? what"])) == -1).all()
    assert np.array_equal(HeldTexts([]).find(words_of(["a", "b"])), [-1, -1])
