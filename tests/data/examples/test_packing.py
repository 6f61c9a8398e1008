"""Packing: nothing lost, nothing padded, the same whoever asks; against a plain loop that does the same."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ftjobs.data.examples.batching import MaskedExamples
from ftjobs.data.examples.packed import PackedExamples
from ftjobs.data.examples.packing import Frame, Packing
from ftjobs.data.examples.tokenization import Tokens, tokenize
from ftjobs.errors import UserError
from tests.helpers.families import FAMILIES, WORDS, tiny_tokenizer

OPEN, CLOSE = 1001, 1002


def documents(lengths: list[int], words: bool = False) -> Tokens:
    """Tokens 1, 2, 3, … in documents of given lengths; every third begins a word."""
    count = sum(lengths)
    return Tokens(
        input_ids=np.arange(1, count + 1, dtype=np.int32),
        special=np.zeros(count, bool),
        token_type_ids=np.zeros(count, np.int8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        truncated=0,
        word_starts=np.arange(count) % 3 == 0 if words else None,
    )


def packing(lengths: list[int], length: int, isolated: bool = False, frame: Any = None, words: bool = False) -> Packing:
    return Packing(documents(lengths, words), frame or Frame((OPEN,), (CLOSE,)), length, isolated, seed=5)


def examples(tokens: Tokens) -> list[list[int]]:
    return [tokens.input_ids[a:b].tolist() for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]


def by_hand(packed: Packing, order: list[int]) -> list[tuple[list[int], list[int]]]:
    """Ids and numbers of documents of each example, a token at a time."""
    tokens, opening, closing = packed.documents, packed.frame.opening, packed.frame.closing
    stream: list[tuple[int, int, bool]] = []  # id, document, whether it is text
    for position, number in enumerate(order):
        text = tokens.input_ids[tokens.offsets[number] : tokens.offsets[number + 1]]
        stream += [(int(one), position, True) for one in text]
        if position < len(order) - 1:
            stream += [(one, position, False) for one in closing]
            stream += [(one, position + 1, False) for one in opening] if packed.isolated else []
    found = []
    for start in range(0, len(stream), packed.room):
        piece = stream[start : start + packed.room]
        while piece and not piece[0][2]:
            piece.pop(0)
        while piece and not piece[-1][2]:
            piece.pop()
        first, last = (piece[0][1], piece[-1][1]) if piece else (0, 0)
        ids = [*opening, *(one[0] for one in piece), *closing]
        numbers = [first] * len(opening) + [one[1] for one in piece] + [last] * len(closing)
        found.append((ids, [number - first + 1 for number in numbers]))
    return found


def test_documents_go_on_in_the_next_example():
    assert examples(packing([3, 6, 2], 6).tokens(0)) == [
        [OPEN, 1, 2, 3, CLOSE],  # the separator would have stood at its end
        [OPEN, 4, 5, 6, 7, CLOSE],
        [OPEN, 8, 9, CLOSE, 10, CLOSE],
        [OPEN, 11, CLOSE],
    ]


def test_isolated_documents_open_and_close_as_they_would_alone():
    tokens = packing([2, 3], 12, isolated=True).tokens(0)
    assert examples(tokens) == [[OPEN, 1, 2, CLOSE, OPEN, 3, 4, 5, CLOSE]]
    assert tokens.documents.tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("isolated", [False, True])
@pytest.mark.parametrize("frame", [Frame((OPEN,), (CLOSE,)), Frame((), (CLOSE,)), Frame((OPEN,), (CLOSE, CLOSE + 1))])
def test_it_is_what_a_plain_loop_makes(isolated, frame):
    generator = np.random.default_rng(1)
    for _ in range(40):
        lengths = generator.integers(0, 12, size=generator.integers(1, 9)).tolist()
        packed = packing(lengths, int(generator.integers(7, 20)), isolated, frame)
        for epoch in (0, 1):
            order = list(range(len(lengths)))
            if epoch:
                order = np.random.default_rng([5, epoch, 2]).permutation(order).tolist()
            tokens = packed.tokens(epoch)
            expected = by_hand(packed, order)
            if expected:
                assert examples(tokens) == [ids for ids, _ in expected]
                assert tokens.documents.tolist() == [number for _, numbers in expected for number in numbers]
            assert len(tokens) == len(packed)
            assert (tokens.lengths <= packed.lengths).all()
            assert tokens.special.tolist() == [one in (OPEN, CLOSE, CLOSE + 1) for one in tokens.input_ids.tolist()]


def test_pieces_make_no_difference(monkeypatch):
    packed = packing([5, 0, 9, 2, 7] * 20, 11, words=True)
    whole = packed.tokens(3)
    monkeypatch.setattr("ftjobs.data.examples.packing._PIECE", 30)
    for name in ("input_ids", "special", "offsets", "word_starts", "documents"):
        assert np.array_equal(getattr(packed.tokens(3), name), getattr(whole, name))


def test_every_token_of_every_document_stands_in_every_epoch_once():
    packed = packing([5, 0, 9, 2, 7] * 20, 11)
    epochs = [packed.tokens(epoch) for epoch in range(4)]
    for tokens in epochs:
        assert sorted(tokens.input_ids[~tokens.special].tolist()) == list(range(1, 461))
        assert len(tokens) == len(packed)
    assert epochs[1].input_ids.tolist() != epochs[2].input_ids.tolist()
    assert np.array_equal(packing([5, 0, 9, 2, 7] * 20, 11).tokens(2).input_ids, epochs[2].input_ids)


def test_the_rest_of_a_word_that_was_cut_is_a_word():
    tokens = packing([4, 8], 5, words=True).tokens(0)  # 3 tokens of the stream in an example
    assert examples(tokens)[2] == [OPEN, 6, 7, 8, CLOSE]
    starts = np.split(tokens.word_starts, tokens.offsets[1:-1])
    assert starts[2].tolist() == [True, True, True, False, True]


def masked(packed: Packing) -> PackedExamples:
    how = MaskedExamples(packed.documents, 3, 0.3, mask_token_id=999, vocab_size=1000, pad_token_id=0)
    return PackedExamples(packed, how)


def test_a_batch_is_a_function_of_indices_and_epoch():
    packed = packing([5, 9, 2, 7] * 5, 16, isolated=True)
    one, other = masked(packed), masked(packed)
    one.batch(np.arange(3), 1)
    assert np.array_equal(one.lengths, other.lengths)
    found, again = one.batch(np.array([2, 0]), 2), other.batch(np.array([2, 0]), 2)
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(found.inputs[name], again.inputs[name])
    assert torch.equal(found.labels, again.labels)
    tokens = packed.tokens(2)
    for row, index in enumerate((2, 0)):
        span = slice(tokens.offsets[index], tokens.offsets[index + 1])
        mask = found.inputs["attention_mask"][row]
        assert mask[: span.stop - span.start].tolist() == tokens.documents[span].tolist()
        assert not mask[span.stop - span.start :].any()
        assert torch.equal(mask > 0, found.inputs["input_ids"][row] != 0)
    original = np.concatenate([tokens.input_ids[tokens.offsets[i] : tokens.offsets[i + 1]] for i in (2, 0)])
    assert set(found.labels.tolist()) <= set(original.tolist()) - {OPEN, CLOSE}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_frame_is_what_the_tokenizer_puts_around_a_text(family):
    tokenizer = tiny_tokenizer(family)
    frame = Frame.of(tokenizer)
    text = " ".join(WORDS[:9])
    alone = tokenize(tokenizer, [text], None, None, special_tokens=False)
    assert not alone.special.any()
    expected = [*frame.opening, *alone.input_ids.tolist(), *frame.closing]
    assert expected == tokenizer(text).input_ids


def test_a_tokenizer_that_closes_no_text_is_refused():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UserError, match="unit: packed needs a special token that ends a text"):
        Frame.of(PreTrainedTokenizerFast(tokenizer_object=plain))
