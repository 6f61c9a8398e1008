"""80/10/10 of 15 %, special tokens never, and the same masks whatever the batch."""

from __future__ import annotations

import numpy as np
import torch

from ftjobs.data.batching import MaskedExamples
from ftjobs.data.masking import example_generator, mask
from ftjobs.data.tokenization import Tokens

MASK, VOCABULARY = 4, 1_000


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
