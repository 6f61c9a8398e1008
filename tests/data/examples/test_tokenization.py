"""Tokens equal those of `transformers` for any batch size; word starts of every kind of tokenizer."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ftjobs.data.examples import tokenization
from ftjobs.data.examples.tokenization import LONGEST_WORD, count_tokens, tokenize, word_start_finder
from ftjobs.errors import UserError
from ftjobs.models.checkpoints import load_tokenizer
from tests.helpers.families import WORDS
from tests.helpers.tokenizers import KINDS, tokenizer_of


def texts(count: int, longest: int, seed: int) -> list[str]:
    generator = random.Random(seed)
    words = [*WORDS, "unknown1", "[SEP]", "fevers", "é"]
    return [" ".join(generator.choices(words, k=generator.randint(1, longest))) for _ in range(count)]


@pytest.mark.parametrize("types", [True, False])
@pytest.mark.parametrize("paired", [False, True])
def test_tokens_equal_those_of_transformers(
    types: bool, paired: bool, make_encoder: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokenization, "_BATCH_TEXTS", 7)
    monkeypatch.setattr(tokenization, "_BATCH_CHARACTERS", 150)
    tokenizer = load_tokenizer(make_encoder())
    if not types:
        tokenizer.model_input_names = ["input_ids", "attention_mask"]
    first, second = texts(50, 30, 1), texts(50, 12, 2) if paired else None
    tokens = tokenize(tokenizer, iter(first), iter(second) if second else None, 24)
    expected: Any = load_tokenizer(make_encoder())(
        first, second, truncation="longest_first", max_length=24, return_special_tokens_mask=True
    )
    assert len(tokens) == 50
    for row in range(50):
        span = slice(tokens.offsets[row], tokens.offsets[row + 1])
        assert tokens.input_ids[span].tolist() == expected["input_ids"][row]
        assert tokens.special[span].tolist() == [bool(special) for special in expected["special_tokens_mask"][row]]
        if tokens.token_type_ids is not None:
            assert tokens.token_type_ids[span].tolist() == expected["token_type_ids"][row]
    full_lengths = count_tokens(tokenizer, first, second)
    assert full_lengths.tolist() == [len(ids) for ids in load_tokenizer(make_encoder())(first, second)["input_ids"]]
    assert tokens.truncated == (full_lengths > 24).sum() > 0
    assert tokens.lengths.tolist() == np.minimum(full_lengths, 24).tolist()
    assert (tokens.token_type_ids is not None) == types


def test_tokenize_without_texts(make_encoder: Callable[..., Path]) -> None:
    tokenizer = load_tokenizer(make_encoder())
    tokens = tokenize(tokenizer, [], None, 24)
    assert (len(tokens), tokens.truncated, tokens.input_ids.tolist()) == (0, 0, [])
    assert count_tokens(tokenizer, [], None).shape == (0,)


TEXT = "Take ibuprofen (400mg), or paracetamol."
EXPECTED_WORDS = {
    "bert": ["Take", "ibuprofen", "(", "400mg", ")", ",", "or", "paracetamol", "."],
    "roberta": ["Take", "ibuprofen", "(", "400", "mg", "),", "or", "paracetamol", "."],
    "albert": ["Take", "ibuprofen", "(400mg),", "or", "paracetamol."],
}
ALIKE = {"mpnet": "bert", "modernbert": "roberta"} | dict.fromkeys(KINDS[5:], "albert")


def masked_words(kind: str, text: str) -> list[str]:
    """Return the words that masking chooses, without special tokens."""
    tokenizer = tokenizer_of(kind)
    tokens = tokenize(tokenizer, [text], None, 512, with_word_starts=True)
    assert tokens.word_starts is not None
    assert tokens.word_starts.dtype == bool
    assert tokens.word_starts[tokens.special].all()
    pieces = [piece.removeprefix("##").strip("▁Ġ") for piece in tokenizer.convert_ids_to_tokens(tokens.input_ids)]
    words: list[str] = []
    for piece, starts, special in zip(pieces, tokens.word_starts, tokens.special, strict=True):
        if starts and not special:
            words.append("")
        if not special:
            words[-1] += piece
    return words


@pytest.mark.parametrize("kind", KINDS)
def test_word_starts_of_every_kind_of_tokenizer(kind: str) -> None:
    assert masked_words(kind, TEXT) == EXPECTED_WORDS[ALIKE.get(kind, kind)]


@pytest.mark.parametrize("kind", KINDS[:7])
def test_word_starts_equal_changes_of_word_id_in_pairs(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    tokens = tokenize(tokenizer, [TEXT, "Yes."], ["Yes, or no?", "or no"], 512, with_word_starts=True)
    for row, pair in enumerate([(TEXT, "Yes, or no?"), ("Yes.", "or no")]):
        expected = tokenizer(*pair)
        span = slice(tokens.offsets[row], tokens.offsets[row + 1])
        assert tokens.input_ids[span].tolist() == expected.input_ids
        ids, texts = expected.word_ids(), expected.sequence_ids()
        starts = [
            index == 0 or ids[index] is None or (ids[index], texts[index]) != (ids[index - 1], texts[index - 1])
            for index in range(len(ids))
        ]
        assert tokens.word_starts[span].tolist() == starts


def test_word_starts_are_optional_and_do_not_change_tokens() -> None:
    with_words, without = (tokenize(tokenizer_of("bert"), [TEXT] * 3, None, 12, words) for words in (True, False))
    assert without.word_starts is None
    assert with_words.truncated == without.truncated == 3
    np.testing.assert_array_equal(with_words.input_ids, without.input_ids)
    np.testing.assert_array_equal(with_words.special, without.special)


def test_tokenizer_without_word_boundaries_is_rejected() -> None:
    with pytest.raises(UserError, match=r"^masking: .*`masking: token`"):
        word_start_finder(tokenizer_of("characters"))


def test_long_text_without_spaces_is_not_one_word() -> None:
    """Otherwise a whole Chinese sentence with a single word id would be masked entirely or not at all."""
    assert len(masked_words("xlm-roberta", "血压" * LONGEST_WORD)) == 2 * LONGEST_WORD + 1  # with the mark of the space
    assert masked_words("xlm-roberta", "血压 " * 5) == ["血压"] * 5
    longest = "x" * (LONGEST_WORD - 1)
    assert masked_words("albert", f"{longest} or {longest}x or") == [longest, "or", "", *f"{longest}x", "or"]
