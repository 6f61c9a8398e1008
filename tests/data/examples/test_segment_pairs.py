"""Segment pairs for NSP and SOP: half positive, independent of the batch; tokenized documents."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ftjobs.data.examples import segment_pairs
from ftjobs.data.examples.documents import Documents, split_sentences, tokenize_documents
from ftjobs.data.examples.masked_examples import MaskedExamples
from ftjobs.data.examples.segment_pairs import PairExamples, Relation
from tests.helpers.documents import documents_of
from tests.helpers.tokenizers import tokenizer_of

ROOM = 45


def pair_examples(kind: str, relation: Relation, count: int = 60, **masks: Any) -> PairExamples:
    tokenizer = tokenizer_of(kind)
    template = segment_pairs.pair_template(tokenizer)
    room = ROOM - template.size
    documents = tokenize_documents(tokenizer, documents_of(count), room // 2, with_word_starts=True)
    runs, siblings = segment_pairs.divide_into_runs(documents, room, seed=3)
    settings = {"seed": 3, "probability": 0.15, "mask_token_id": 4, "vocab_size": 50, "pad_token_id": 0, **masks}
    return PairExamples(
        documents, runs, siblings, relation, room, template, MaskedExamples(tokens=documents.tokens, **settings)
    )


def document_of(documents: Documents, segment: segment_pairs.Segment) -> int:
    """Return the document of a segment, which has only one."""
    first, last = np.searchsorted(documents.offsets, [segment.start, segment.end - 1], side="right") - 1
    assert first == last
    return int(first)


def test_documents_contain_every_token_of_their_sentences_once() -> None:
    tokenizer, texts = tokenizer_of("bert"), documents_of(20)
    documents = tokenize_documents(tokenizer, texts, 10)
    assert len(documents) == 20
    lengths = documents.tokens.lengths
    assert lengths.max() == 10
    assert lengths.min() >= 1
    for index, text in enumerate(texts):
        first, last = documents.offsets[index : index + 2]
        span = slice(documents.tokens.offsets[first], documents.tokens.offsets[last])
        expected = [tokenizer(sentence, add_special_tokens=False).input_ids for sentence in split_sentences(text)]
        assert documents.tokens.input_ids[span].tolist() == [token for sentence in expected for token in sentence]
        parts = sum(-(-len(sentence) // 10) for sentence in expected)
        assert documents.sentences[index] == last - first == parts


def test_text_dropped_by_the_tokenizer_is_not_a_sentence() -> None:
    documents = tokenize_documents(tokenizer_of("bert"), ["One. \x00\x01. Two.", "\x00", "Three."], 10)
    assert documents.sentences.tolist() == [3, 0, 1]  # the period after the dropped characters remains
    assert (documents.tokens.lengths > 0).all()


def test_runs_fit_and_cover_all_documents_of_several_sentences() -> None:
    examples = pair_examples("bert", "next")
    documents, lengths = examples.documents, examples.documents.tokens.lengths
    covered = np.zeros(len(lengths), dtype=bool)
    for (start, end), (low, high), index in zip(examples.runs, examples.siblings, range(len(examples)), strict=True):
        assert end - start >= 2
        assert lengths[start:end].sum() <= examples.room
        covered[start:end] = True
        assert low <= index < high
        document = document_of(documents, segment_pairs.Segment(start, end))
        assert all(document_of(documents, segment_pairs.Segment(*run)) == document for run in examples.runs[low:high])
    of_several = np.repeat(documents.sentences > 1, documents.sentences)
    assert (covered == of_several).all()
    full = [lengths[start : end + 1].sum() > examples.room for start, end in examples.runs[:-1]]
    assert np.mean(full) > 0.3  # most others end with their document


@pytest.mark.parametrize("kind", ["bert", "albert", "roberta"])
def test_next_segments_are_adjacent_and_random_ones_from_other_documents(kind: str) -> None:
    examples = pair_examples(kind, "next")
    labels = []
    for epoch in range(1, 31):
        for index in range(len(examples)):
            first, second, label = examples.pair(index, epoch)
            labels.append(label)
            same = document_of(examples.documents, first) == document_of(examples.documents, second)
            if label == 0:
                assert (first.start, second.end) == tuple(examples.runs[index])
                assert first.end == second.start
            assert same == (label == 0)
            assert min(first.end - first.start, second.end - second.start) >= 1
    assert len(labels) > 2_000
    assert abs(np.mean(labels) - 0.5) < 4 * 0.5 / len(labels) ** 0.5


def test_random_segments_are_uniform_over_other_documents() -> None:
    examples = pair_examples("bert", "next", count=6)
    counts = np.zeros(len(examples))
    for epoch in range(1, 4_001):
        _, second, label = examples.pair(0, epoch)
        if label:
            counts[np.flatnonzero((examples.runs[:, 0] < second.end) & (second.start < examples.runs[:, 1]))[0]] += 1
    low, high = examples.siblings[0]
    assert counts[low:high].sum() == 0
    others = np.delete(counts, np.arange(low, high))
    assert abs(others / others.sum() - 1 / len(others)).max() < 4 * (1 / len(others) / others.sum()) ** 0.5


def test_segments_are_in_order_or_swapped() -> None:
    examples = pair_examples("albert", "order")
    labels = []
    for epoch in range(1, 31):
        for index in range(len(examples)):
            first, second, label = examples.pair(index, epoch)
            labels.append(label)
            if label:
                first, second = second, first
            assert first.end == second.start
            assert (first.start, second.end) == tuple(examples.runs[index])
    assert abs(np.mean(labels) - 0.5) < 4 * 0.5 / len(labels) ** 0.5


@pytest.mark.parametrize("kind", ["bert", "albert", "roberta", "deberta-v2"])
def test_joined_pair_equals_the_tokenizers_pair(kind: str) -> None:
    tokenizer, examples = tokenizer_of(kind), pair_examples(kind, "next", probability=1e-9)
    expected = tokenizer("One.", "Two or three.", return_special_tokens_mask=True)
    documents = tokenize_documents(tokenizer, ["One. Two or three."], 20, with_word_starts=True)
    joined = PairExamples(
        documents, np.array([[0, 2]]), np.array([[0, 1]]), "next", 40, examples.template, examples.masks
    )._join([(segment_pairs.Segment(0, 1), segment_pairs.Segment(1, 2))])
    assert joined.input_ids.tolist() == expected.input_ids
    assert joined.special.tolist() == [bool(special) for special in expected["special_tokens_mask"]]
    assert joined.token_type_ids is not None
    assert joined.token_type_ids.tolist() == expected.get("token_type_ids", joined.token_type_ids.tolist())
    assert joined.token_type_ids.tolist() == sorted(joined.token_type_ids)
    assert set(joined.token_type_ids) == {0, 1}
    words, texts = expected.word_ids(), expected.sequence_ids()
    assert joined.word_starts.tolist() == [
        word is None or (word, text) != before
        for word, text, before in zip(words, texts, [None, *zip(words, texts, strict=True)][:-1], strict=True)
    ]


@pytest.mark.parametrize("masking", ["token", "whole-word", "span"])
def test_pairs_and_masks_depend_on_the_epoch_but_not_on_the_batch(masking: str) -> None:
    examples = pair_examples("bert", "next", masking=masking)
    order = np.arange(40)[::-1]
    together = examples.batch(order, epoch=2)
    width = together.inputs["input_ids"].shape[1]
    assert width <= ROOM + 7
    for row, index in enumerate(order):
        alone = examples.batch(np.array([index]), epoch=2)
        length = int(alone.inputs["attention_mask"].sum())
        for name in ("input_ids", "token_type_ids", "attention_mask"):
            assert torch.equal(together.inputs[name][row, :length], alone.inputs[name][0, :length])
        assert together.pair_labels[row] == alone.pair_labels[0]
        assert torch.equal(together.positions[together.positions // width == row] % width, alone.positions)
    other = examples.batch(order, epoch=3)
    assert not torch.equal(other.pair_labels, together.pair_labels)
    empty = examples.batch(np.zeros(0, dtype=np.int64), 1)
    assert len(empty.labels) == len(empty.pair_labels) == 0
