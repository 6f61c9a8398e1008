"""Packing, compared with a plain loop over tokens."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ftjobs.data.examples.masked_examples import MaskedExamples, PackedExamples
from ftjobs.data.examples.packing import Packing, SpecialTokens
from ftjobs.data.examples.tokenization import Tokens, tokenize
from ftjobs.errors import UserError
from tests.helpers.families import FAMILIES, WORDS, tiny_tokenizer

OPEN, CLOSE = 1001, 1002


def documents(lengths: list[int], words: bool = False) -> Tokens:
    """Return documents of the given lengths with token ids 1, 2, 3, ...; every third token begins a word."""
    count = sum(lengths)
    return Tokens(
        input_ids=np.arange(1, count + 1, dtype=np.int32),
        special=np.zeros(count, bool),
        token_type_ids=np.zeros(count, np.int8),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        truncated=0,
        word_starts=np.arange(count) % 3 == 0 if words else None,
    )


def packing(
    lengths: list[int], length: int, document_masking: bool = False, special_tokens: Any = None, words: bool = False
) -> Packing:
    return Packing(
        documents(lengths, words), special_tokens or SpecialTokens((OPEN,), (CLOSE,)), length, document_masking, seed=5
    )


def examples(tokens: Tokens) -> list[list[int]]:
    return [tokens.input_ids[a:b].tolist() for a, b in zip(tokens.offsets[:-1], tokens.offsets[1:], strict=True)]


def pack_in_a_loop(packed: Packing, order: list[int]) -> list[tuple[list[int], list[int]]]:
    """Return token ids and document numbers per example, packed one token at a time."""
    tokens, opening, closing = packed.documents, packed.special_tokens.opening, packed.special_tokens.closing
    stream: list[tuple[int, int, bool]] = []  # id, document, is text
    for position, number in enumerate(order):
        text = tokens.input_ids[tokens.offsets[number] : tokens.offsets[number + 1]]
        stream += [(int(token), position, True) for token in text]
        if position < len(order) - 1:
            stream += [(token, position, False) for token in closing]
            stream += [(token, position + 1, False) for token in opening] if packed.document_masking else []
    packed_examples = []
    for start in range(0, len(stream), packed.room):
        piece = stream[start : start + packed.room]
        while piece and not piece[0][2]:
            piece.pop(0)
        while piece and not piece[-1][2]:
            piece.pop()
        first, last = (piece[0][1], piece[-1][1]) if piece else (0, 0)
        ids = [*opening, *(token[0] for token in piece), *closing]
        numbers = [first] * len(opening) + [token[1] for token in piece] + [last] * len(closing)
        packed_examples.append((ids, [number - first + 1 for number in numbers]))
    return packed_examples


def test_documents_continue_in_the_next_example():
    assert examples(packing([3, 6, 2], 6).tokens(0)) == [
        [OPEN, 1, 2, 3, CLOSE],  # the separator at its end is dropped
        [OPEN, 4, 5, 6, 7, CLOSE],
        [OPEN, 8, 9, CLOSE, 10, CLOSE],
        [OPEN, 11, CLOSE],
    ]


def test_document_masking_adds_special_tokens_around_every_document():
    tokens = packing([2, 3], 12, document_masking=True).tokens(0)
    assert examples(tokens) == [[OPEN, 1, 2, CLOSE, OPEN, 3, 4, 5, CLOSE]]
    assert tokens.documents.tolist() == [1, 1, 1, 1, 2, 2, 2, 2, 2]


@pytest.mark.parametrize("document_masking", [False, True])
@pytest.mark.parametrize(
    "special_tokens",
    [SpecialTokens((OPEN,), (CLOSE,)), SpecialTokens((), (CLOSE,)), SpecialTokens((OPEN,), (CLOSE, CLOSE + 1))],
)
def test_packing_equals_a_plain_loop(document_masking, special_tokens):
    generator = np.random.default_rng(1)
    for _ in range(40):
        lengths = generator.integers(0, 12, size=generator.integers(1, 9)).tolist()
        packed = packing(lengths, int(generator.integers(7, 20)), document_masking, special_tokens)
        for epoch in (0, 1):
            order = list(range(len(lengths)))
            if epoch:
                order = np.random.default_rng([5, epoch, 2]).permutation(order).tolist()
            tokens = packed.tokens(epoch)
            expected = pack_in_a_loop(packed, order)
            if expected:
                assert examples(tokens) == [ids for ids, _ in expected]
                assert tokens.documents.tolist() == [number for _, numbers in expected for number in numbers]
            assert len(tokens) == len(packed)
            assert (tokens.lengths <= packed.lengths).all()
            assert tokens.special.tolist() == [
                token_id in (OPEN, CLOSE, CLOSE + 1) for token_id in tokens.input_ids.tolist()
            ]


def test_chunk_size_does_not_change_examples(monkeypatch):
    packed = packing([5, 0, 9, 2, 7] * 20, 11, words=True)
    expected = packed.tokens(3)
    monkeypatch.setattr("ftjobs.data.examples.packing._CHUNK_TOKENS", 30)
    for name in ("input_ids", "special", "offsets", "word_starts", "documents"):
        assert np.array_equal(getattr(packed.tokens(3), name), getattr(expected, name))


def test_every_epoch_contains_every_token_once():
    packed = packing([5, 0, 9, 2, 7] * 20, 11)
    epochs = [packed.tokens(epoch) for epoch in range(4)]
    for tokens in epochs:
        assert sorted(tokens.input_ids[~tokens.special].tolist()) == list(range(1, 461))
        assert len(tokens) == len(packed)
    assert epochs[1].input_ids.tolist() != epochs[2].input_ids.tolist()
    assert np.array_equal(packing([5, 0, 9, 2, 7] * 20, 11).tokens(2).input_ids, epochs[2].input_ids)


def test_tail_of_a_split_word_starts_a_word():
    tokens = packing([4, 8], 5, words=True).tokens(0)  # 3 tokens of the stream per example
    assert examples(tokens)[2] == [OPEN, 6, 7, 8, CLOSE]
    starts = np.split(tokens.word_starts, tokens.offsets[1:-1])
    assert starts[2].tolist() == [True, True, True, False, True]


def masked(packed: Packing) -> PackedExamples:
    settings = MaskedExamples(packed.documents, 3, 0.3, mask_token_id=999, vocab_size=1000, pad_token_id=0)
    return PackedExamples(packed, settings)


def test_batch_depends_on_indices_and_epoch_only():
    packed = packing([5, 9, 2, 7] * 5, 16, document_masking=True)
    first, second = masked(packed), masked(packed)
    first.batch(np.arange(3), 1)
    assert np.array_equal(first.lengths, second.lengths)
    batch, repeated = first.batch(np.array([2, 0]), 2), second.batch(np.array([2, 0]), 2)
    for name in ("input_ids", "attention_mask"):
        assert torch.equal(batch.inputs[name], repeated.inputs[name])
    assert torch.equal(batch.labels, repeated.labels)
    tokens = packed.tokens(2)
    for row, index in enumerate((2, 0)):
        span = slice(tokens.offsets[index], tokens.offsets[index + 1])
        mask = batch.inputs["attention_mask"][row]
        assert mask[: span.stop - span.start].tolist() == tokens.documents[span].tolist()
        assert not mask[span.stop - span.start :].any()
        assert torch.equal(mask > 0, batch.inputs["input_ids"][row] != 0)
    original = np.concatenate([tokens.input_ids[tokens.offsets[i] : tokens.offsets[i + 1]] for i in (2, 0)])
    assert set(batch.labels.tolist()) <= set(original.tolist()) - {OPEN, CLOSE}


@pytest.mark.parametrize("family", FAMILIES)
def test_special_tokens_equal_those_around_a_text(family):
    tokenizer = tiny_tokenizer(family)
    special_tokens = SpecialTokens.of_tokenizer(tokenizer)
    text = " ".join(WORDS[:9])
    alone = tokenize(tokenizer, [text], None, None, special_tokens=False)
    assert not alone.special.any()
    expected = [*special_tokens.opening, *alone.input_ids.tolist(), *special_tokens.closing]
    assert expected == tokenizer(text).input_ids


def test_tokenizer_without_closing_token_is_rejected():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    plain = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    with pytest.raises(UserError, match=r"corpus\.unit.*unit: document"):
        SpecialTokens.of_tokenizer(PreTrainedTokenizerFast(tokenizer_object=plain))
