"""80/10/10 of 15 %, words whole, special tokens never, and the same masks whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ftjobs.data.examples.batching import MaskedExamples
from ftjobs.data.examples.masking import example_generator, mask
from ftjobs.data.examples.tokenization import Tokens, tokenize
from ftjobs.jobfile.fields import Replace
from tests.helpers.tokenizers import KINDS, tokenizer_of

MASK, VOCABULARY = 4, 1_000
NO_TOKEN = 49_999  # as the mask token, where any other may be in a text


def corpus(examples: int, seed: int = 0) -> Tokens:
    """Random texts of 3 to 40 tokens between a first and a last special token."""
    generator = np.random.default_rng(seed)
    lengths = generator.integers(5, 43, size=examples)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = generator.integers(5, VOCABULARY, size=offsets[-1]).astype(np.int32)
    special = np.zeros(len(ids), dtype=bool)
    special[offsets[:-1]] = special[offsets[1:] - 1] = True
    ids[offsets[:-1]], ids[offsets[1:] - 1] = 2, 3
    return Tokens(ids, special, None, offsets, truncated=0)


def masked_examples(tokens: Tokens, probability: float = 0.15) -> MaskedExamples:
    return MaskedExamples(tokens, 1, probability, mask_token_id=MASK, vocab_size=VOCABULARY, pad_token_id=0)


def within_sampling_error(count: int, total: int, share: float) -> bool:
    """Four standard errors of a binomial share: missed by chance once in 16,000 tries; the seed is fixed besides."""
    return abs(count / total - share) < 4 * (share * (1 - share) / total) ** 0.5


def test_shares_at_a_hundred_thousand_tokens() -> None:
    tokens = corpus(6_000)
    chosen = masked = replaced = kept = 0
    maskable = int((~tokens.special).sum())
    assert maskable > 100_000
    for index in range(len(tokens)):
        span = slice(tokens.offsets[index], tokens.offsets[index + 1])
        original = tokens.input_ids[span]
        inputs, positions = mask(
            original,
            ~tokens.special[span],
            probability=0.15,
            mask_token_id=MASK,
            vocab_size=VOCABULARY,
            generator=example_generator(1, 1, index),
        )
        untouched = np.ones(len(original), dtype=bool)
        untouched[positions] = False
        assert (inputs[untouched] == original[untouched]).all()
        assert not tokens.special[span][positions].any()
        chosen += len(positions)
        masked += int((inputs[positions] == MASK).sum())
        kept += int((inputs[positions] == original[positions]).sum())
        replaced += int(((inputs[positions] != MASK) & (inputs[positions] != original[positions])).sum())
    assert within_sampling_error(chosen, maskable, 0.15)
    same_by_chance = 0.1 / VOCABULARY  # a random token may be the mask token or the original one
    assert within_sampling_error(masked, chosen, 0.8 + same_by_chance)
    assert within_sampling_error(replaced, chosen, 0.1 - 2 * same_by_chance)
    assert within_sampling_error(kept, chosen, 0.1 + same_by_chance)


def test_random_tokens_are_uniform_over_the_vocabulary() -> None:
    ids = np.full(200_000, 7, dtype=np.int32)
    inputs, positions = mask(
        ids,
        np.ones(len(ids), dtype=bool),
        probability=0.9,
        mask_token_id=MASK,
        vocab_size=10,
        generator=np.random.default_rng(0),
    )
    random = inputs[positions][(inputs[positions] != MASK) & (inputs[positions] != 7)]
    counts = np.bincount(random, minlength=10)
    assert counts[[MASK, 7]].tolist() == [0, 0]
    assert all(within_sampling_error(int(count), len(random), 1 / 8) for count in np.delete(counts, [MASK, 7]))


def test_masks_do_not_depend_on_the_batch_and_change_with_the_epoch() -> None:
    examples = masked_examples(corpus(20))
    alone = [examples.batch(np.array([index]), epoch=3) for index in range(20)]
    together = examples.batch(np.arange(20)[::-1], epoch=3)
    width = together.inputs["input_ids"].shape[1]
    for row, index in enumerate(range(19, -1, -1)):
        length = examples.lengths[index]
        assert torch.equal(together.inputs["input_ids"][row, :length], alone[index].inputs["input_ids"][0, :length])
        of_row = (together.positions // width) == row
        assert torch.equal(together.positions[of_row] % width, alone[index].positions)
        assert torch.equal(together.labels[of_row], alone[index].labels)
    other_epoch = examples.batch(np.arange(20)[::-1], epoch=4)
    assert not torch.equal(together.inputs["input_ids"], other_epoch.inputs["input_ids"])


def test_padding_is_never_masked_and_labels_are_the_original_tokens() -> None:
    tokens = corpus(50)
    examples = masked_examples(tokens, probability=0.5)
    batch = examples.batch(np.arange(50), epoch=1)
    attention = batch.inputs["attention_mask"].flatten()
    assert (attention[batch.positions] == 1).all()
    assert (batch.inputs["input_ids"].flatten()[attention == 0] == 0).all()
    width = batch.inputs["input_ids"].shape[1]
    original = [tokens.input_ids[tokens.offsets[p // width] + p % width] for p in batch.positions.tolist()]
    assert batch.labels.tolist() == original


def test_a_batch_may_have_nothing_to_predict() -> None:
    batch = masked_examples(corpus(1), probability=1e-9).batch(np.array([0]), epoch=1)
    assert batch.labels.shape == batch.positions.shape == (0,)
    assert batch.labels.dtype == batch.positions.dtype == torch.int64


TEXTS = [" ".join(["ibuprofen", "or", "paracetamol,", "400mg", "pain"][: 2 + row % 4] * 3) for row in range(400)]


def with_words(kind: str) -> Tokens:
    return tokenize(tokenizer_of(kind), TEXTS, None, 512, words=True)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_words_are_masked_whole_and_the_shares_stay(kind: str) -> None:
    """80/10/10 of each piece on its own, and 15 % of the pieces, whatever the tokenizer."""
    tokens = with_words(kind)
    examples = MaskedExamples(tokens, 1, 0.15, NO_TOKEN, 50_000, 0, masking="whole-word")
    chosen = masked = kept = 0
    variance = 0.0
    for epoch in range(1, 4):
        batch = examples.batch(np.arange(len(tokens)), epoch)
        inputs, width = batch.inputs["input_ids"].flatten().numpy(), batch.inputs["input_ids"].shape[1]
        flat = np.zeros(len(tokens) * width, dtype=bool)
        flat[batch.positions.numpy()] = True
        rows = flat.reshape(-1, width)
        for row in range(len(tokens)):
            span = slice(tokens.offsets[row], tokens.offsets[row + 1])
            word = np.cumsum(tokens.word_starts[span]) - 1
            sizes = np.bincount(word)
            of_word = np.bincount(word, rows[row, : len(word)])
            assert set(of_word / sizes) <= {0.0, 1.0}
            assert not rows[row, : len(word)][tokens.special[span]].any()
            variance += float((sizes[word[~tokens.special[span]]]).sum()) * 0.15 * 0.85
        chosen += len(batch.labels)
        masked += int((inputs[batch.positions.numpy()] == NO_TOKEN).sum())
        kept += int((inputs[batch.positions.numpy()] == batch.labels.numpy()).sum())
    maskable = 3 * int((~tokens.special).sum())
    assert abs(chosen - 0.15 * maskable) < 4 * variance**0.5
    assert within_sampling_error(masked, chosen, 0.8)
    assert within_sampling_error(kept, chosen, 0.1)


def test_a_span_is_replaced_as_a_whole() -> None:
    tokens = with_words("bert")
    fates = {"mask": 0, "random": 0, "keep": 0}
    chosen = 0
    for row in range(len(tokens)):
        span = slice(tokens.offsets[row], tokens.offsets[row + 1])
        original, starts, maskable = tokens.input_ids[span], tokens.word_starts[span], ~tokens.special[span]
        how = {
            "probability": 0.15,
            "mask_token_id": NO_TOKEN,
            "vocab_size": 50_000,
            "masking": "span",
            "word_starts": starts,
        }
        inputs, positions = mask(original, maskable, **how, generator=example_generator(1, 1, row))
        chosen += len(positions)
        for run in np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1):
            if len(run):
                alike = {
                    "mask": inputs[run] == NO_TOKEN,
                    "keep": inputs[run] == original[run],
                    "random": (inputs[run] != NO_TOKEN) & (inputs[run] != original[run]),
                }
                fates[next(fate for fate, those in alike.items() if those.all())] += 1
    spans = sum(fates.values())
    assert spans > 400
    assert abs(chosen / (~tokens.special).sum() - 0.15) < 0.01
    for fate, share in (("mask", 0.8), ("random", 0.1), ("keep", 0.1)):
        assert within_sampling_error(fates[fate], spans, share)


@pytest.mark.parametrize("masking", ["token", "whole-word", "span"])
def test_shares_are_settable_and_change_nothing_but_the_replacement(masking: str) -> None:
    tokens = with_words("roberta")
    batches = {}
    for shares in ((0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.0, 0.0, 1.0)):
        replace = Replace(mask=shares[0], random=shares[1], keep=shares[2])
        examples = MaskedExamples(tokens, 1, 0.3, NO_TOKEN, 50_000, 0, masking=masking, replace=replace)
        batch = batches[shares] = examples.batch(np.arange(len(tokens)), 1)
        given = batch.inputs["input_ids"].flatten()[batch.positions]
        units = len(given) if masking != "span" else len(given) / 12  # tokens of a span share one draw
        for found, share in zip((given == NO_TOKEN, None, given == batch.labels), shares, strict=True):
            if found is not None:
                assert abs(float(found.float().mean()) - share) <= 4 * (share * (1 - share) / units) ** 0.5
    first = batches[0.8, 0.1, 0.1]
    assert all(torch.equal(batch.positions, first.positions) for batch in batches.values())
    assert all(torch.equal(batch.labels, first.labels) for batch in batches.values())


@pytest.mark.parametrize("masking", ["whole-word", "span"])
def test_masks_of_words_do_not_depend_on_the_batch(masking: str) -> None:
    tokens = with_words("albert")
    examples = MaskedExamples(tokens, 1, 0.2, NO_TOKEN, 50, 0, masking=masking)
    together = examples.batch(np.arange(30)[::-1], epoch=2)
    width = together.inputs["input_ids"].shape[1]
    for row, index in enumerate(range(29, -1, -1)):
        alone = examples.batch(np.array([index]), epoch=2)
        of_row = (together.positions // width) == row
        assert torch.equal(together.positions[of_row] % width, alone.positions)
        length = int(tokens.lengths[index])
        assert torch.equal(together.inputs["input_ids"][row, :length], alone.inputs["input_ids"][0, :length])


@pytest.mark.parametrize("masking", ["whole-word", "span"])
def test_the_rest_of_a_word_that_was_cut_is_a_word_of_its_own(masking: str) -> None:
    """An example may begin, also behind a special token, with pieces of a word whose beginning another example has."""
    ids = np.arange(10, 18)
    maskable = np.array([1, 1, 1, 0, 1, 1, 1, 1], dtype=bool)
    starts = np.array([0, 0, 1, 1, 0, 0, 1, 1], dtype=bool)
    words = [[0, 1], [2], [4, 5], [6], [7]]
    counts = np.zeros(8)
    for example in range(3_000):
        _, chosen = mask(
            ids,
            maskable,
            probability=0.3,
            mask_token_id=MASK,
            vocab_size=50,
            generator=example_generator(1, 1, example),
            masking=masking,
            word_starts=starts,
        )
        assert all(set(word) <= set(chosen) or not set(word) & set(chosen) for word in words)
        counts[chosen] += 1
    assert counts[3] == 0
    assert counts[maskable].min() > 200
    assert abs(counts.sum() / (3_000 * 7) - 0.3) < 0.02
