# ruff: noqa: RUF001 (punctuation of several scripts)
"""Sentence splitting."""

import random
import time

import pytest

from ftjobs.data.examples.documents import split_sentences


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One. Two! Three? Four", ["One.", "Two!", "Three?", "Four"]),
        ('He said "Stop." Then he left.', ['He said "Stop."', "Then he left."]),
        ("Wait... What?! (No.) Yes.", ["Wait...", "What?!", "(No.)", "Yes."]),
        ("Dr. Smith saw Mrs. Jones at 3.5 mg, e.g. Tuesday.", ["Dr. Smith saw Mrs. Jones at 3.5 mg, e.g. Tuesday."]),
        ("See Fig. 3 and vol. 7. Then stop.", ["See Fig. 3 and vol. 7.", "Then stop."]),
        ("J. R. Smith wrote it. So did I. Good.", ["J. R. Smith wrote it.", "So did I.", "Good."]),
        ("He left at 5 p.m. The end.", ["He left at 5 p.m.", "The end."]),
        ("1. Wash your hands. 2. Dry them.", ["1. Wash your hands.", "2. Dry them."]),
        ("It is 5 mg. not more", ["It is 5 mg. not more"]),
        ("A heading\n\nA text. And more", ["A heading", "A text.", "And more"]),
        ("Wrapped\nline. Next\nline.", ["Wrapped\nline.", "Next\nline."]),
        ("¿Qué tal? ¡Bien! Él vino.", ["¿Qué tal?", "¡Bien!", "Él vino."]),
        ("我有病。你呢？「好。」是", ["我有病。", "你呢？", "「好。」", "是"]),
        (" \n ", []),
        ("", []),
    ],
)
def test_texts_are_split_at_sentence_boundaries(text, expected):
    assert split_sentences(text) == expected


def test_sentences_keep_all_characters_and_are_not_empty():
    generator = random.Random(1)
    pieces = [*"aB1.!?\"')(…。”-", " ", "  ", "\n", "\n\n", "Dr.", "e.g.", "word", "Word"]
    for _ in range(2_000):
        text = "".join(generator.choices(pieces, k=generator.randrange(30)))
        sentences = split_sentences(text)
        assert "".join("".join(sentences).split()) == "".join(text.split())
        assert all(sentence == sentence.strip() != "" for sentence in sentences)


def test_splitting_time_is_linear():
    def seconds(size: int) -> float:
        started = time.process_time()
        split_sentences("a" * size + ". " + "b. " * size + "no mark " * size + "." * size + "\n" * size + "x")
        return time.process_time() - started

    small = min(seconds(2_000) for _ in range(3))
    assert seconds(20_000) < 100 * small + 0.2
