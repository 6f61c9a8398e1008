"""Words begin where the tokenizer says, of every kind; where it does not say, masking words is refused."""

from __future__ import annotations

import numpy as np
import pytest

from ftjobs.data.examples.tokenization import tokenize
from ftjobs.data.examples.words import LONGEST_WORD, word_starts
from ftjobs.errors import UserError
from tests.helpers.tokenizers import KINDS, tokenizer_of

TEXT = "Take ibuprofen (400mg), or paracetamol."
WORDS = {
    "bert": ["Take", "ibuprofen", "(", "400mg", ")", ",", "or", "paracetamol", "."],
    "roberta": ["Take", "ibuprofen", "(", "400", "mg", "),", "or", "paracetamol", "."],
    "albert": ["Take", "ibuprofen", "(400mg),", "or", "paracetamol."],
}
ALIKE = {"mpnet": "bert", "modernbert": "roberta"} | dict.fromkeys(KINDS[5:], "albert")


def words_of(kind: str, text: str) -> list[str]:
    """The texts of the words as masking sees them, special tokens left out."""
    tokenizer = tokenizer_of(kind)
    tokens = tokenize(tokenizer, [text], None, 512, words=True)
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
def test_words_of_every_kind_of_tokenizer(kind: str) -> None:
    assert words_of(kind, TEXT) == WORDS[ALIKE.get(kind, kind)]


@pytest.mark.parametrize("kind", KINDS[:7])
def test_words_are_the_tokenizers_word_ids_also_across_a_pair(kind: str) -> None:
    tokenizer = tokenizer_of(kind)
    tokens = tokenize(tokenizer, [TEXT, "Yes."], ["Yes, or no?", "or no"], 512, words=True)
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


def test_words_are_found_only_where_they_are_asked_for() -> None:
    with_words, without = (tokenize(tokenizer_of("bert"), [TEXT] * 3, None, 12, words) for words in (True, False))
    assert without.word_starts is None
    assert with_words.truncated == without.truncated == 3
    np.testing.assert_array_equal(with_words.input_ids, without.input_ids)
    np.testing.assert_array_equal(with_words.special, without.special)


def test_a_tokenizer_that_knows_no_words_is_refused() -> None:
    with pytest.raises(UserError, match=r"masking: whole words cannot be told apart .*write `masking: token`"):
        word_starts(tokenizer_of("characters"))


def test_a_text_without_spaces_is_no_word() -> None:
    """One word id for a whole Chinese sentence would be all of it masked, or nothing."""
    assert len(words_of("xlm-roberta", "血压" * LONGEST_WORD)) == 2 * LONGEST_WORD + 1  # with the mark of the space
    assert words_of("xlm-roberta", "血压 " * 5) == ["血压"] * 5
    longest = "x" * (LONGEST_WORD - 1)
    assert words_of("albert", f"{longest} or {longest}x or") == [longest, "or", "", *f"{longest}x", "or"]
