"""Token, whole-word and span masking: 15 % of tokens, replaced 80/10/10, independent of the batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from ftjobs.data.examples.masked_examples import MaskedExamples
from ftjobs.data.examples.masking import choose_spans, example_generator, mask
from ftjobs.data.examples.tokenization import Tokens, tokenize
from ftjobs.jobfile.fields import Replace
from tests.helpers.tokenizers import KINDS, tokenizer_of

MASK, VOCABULARY = 4, 1_000
UNUSED_ID = 49_999  # serves as the mask token where texts may contain any other id


def corpus(examples: int, seed: int = 0) -> Tokens:
    """Return random texts of 3 to 40 tokens between two special tokens."""
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
    """Return whether a binomial share is within four standard errors, which chance exceeds once in 16,000."""
    return abs(count / total - share) < 4 * (share * (1 - share) / total) ** 0.5


def test_masking_shares_of_a_hundred_thousand_tokens() -> None:
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


def test_masks_depend_on_the_epoch_but_not_on_the_batch() -> None:
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


def test_padding_is_not_masked_and_labels_are_original_tokens() -> None:
    tokens = corpus(50)
    examples = masked_examples(tokens, probability=0.5)
    batch = examples.batch(np.arange(50), epoch=1)
    attention = batch.inputs["attention_mask"].flatten()
    assert (attention[batch.positions] == 1).all()
    assert (batch.inputs["input_ids"].flatten()[attention == 0] == 0).all()
    width = batch.inputs["input_ids"].shape[1]
    original = [tokens.input_ids[tokens.offsets[p // width] + p % width] for p in batch.positions.tolist()]
    assert batch.labels.tolist() == original


def test_batch_without_masked_tokens() -> None:
    batch = masked_examples(corpus(1), probability=1e-9).batch(np.array([0]), epoch=1)
    assert batch.labels.shape == batch.positions.shape == (0,)
    assert batch.labels.dtype == batch.positions.dtype == torch.int64


TEXTS = [" ".join(["ibuprofen", "or", "paracetamol,", "400mg", "pain"][: 2 + row % 4] * 3) for row in range(400)]


def tokens_with_word_starts(kind: str) -> Tokens:
    return tokenize(tokenizer_of(kind), TEXTS, None, 512, with_word_starts=True)


@pytest.mark.parametrize("kind", KINDS)
def test_whole_word_masking_keeps_the_shares(kind: str) -> None:
    """15 % of tokens, each replaced 80/10/10 independently, with every tokenizer."""
    tokens = tokens_with_word_starts(kind)
    examples = MaskedExamples(tokens, 1, 0.15, UNUSED_ID, 50_000, 0, masking="whole-word")
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
        masked += int((inputs[batch.positions.numpy()] == UNUSED_ID).sum())
        kept += int((inputs[batch.positions.numpy()] == batch.labels.numpy()).sum())
    maskable = 3 * int((~tokens.special).sum())
    assert abs(chosen - 0.15 * maskable) < 4 * variance**0.5
    assert within_sampling_error(masked, chosen, 0.8)
    assert within_sampling_error(kept, chosen, 0.1)


def test_span_masking_draws_one_replacement_per_span() -> None:
    tokens = tokens_with_word_starts("bert")
    outcomes = {"mask": 0, "random": 0, "keep": 0}
    chosen = 0
    for row in range(len(tokens)):
        span = slice(tokens.offsets[row], tokens.offsets[row + 1])
        original, starts, maskable = tokens.input_ids[span], tokens.word_starts[span], ~tokens.special[span]
        settings = {
            "probability": 0.15,
            "mask_token_id": UNUSED_ID,
            "vocab_size": 50_000,
            "masking": "span",
            "word_starts": starts,
        }
        inputs, positions = mask(original, maskable, **settings, generator=example_generator(1, 1, row))
        chosen += len(positions)
        for run in np.split(positions, np.flatnonzero(np.diff(positions) > 1) + 1):
            if len(run):
                outcomes_of_run = {
                    "mask": inputs[run] == UNUSED_ID,
                    "keep": inputs[run] == original[run],
                    "random": (inputs[run] != UNUSED_ID) & (inputs[run] != original[run]),
                }
                outcomes[next(outcome for outcome, matches in outcomes_of_run.items() if matches.all())] += 1
    spans = sum(outcomes.values())
    assert spans > 400
    assert abs(chosen / (~tokens.special).sum() - 0.15) < 0.01
    for outcome, share in (("mask", 0.8), ("random", 0.1), ("keep", 0.1)):
        assert within_sampling_error(outcomes[outcome], spans, share)


@pytest.mark.parametrize("masking", ["token", "whole-word", "span"])
def test_replace_changes_the_replacements_only(masking: str) -> None:
    tokens = tokens_with_word_starts("roberta")
    batches = {}
    for shares in ((0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.5, 0.5, 0.0), (0.0, 0.0, 1.0)):
        replace = Replace(mask=shares[0], random=shares[1], keep=shares[2])
        examples = MaskedExamples(tokens, 1, 0.3, UNUSED_ID, 50_000, 0, masking=masking, replace=replace)
        batch = batches[shares] = examples.batch(np.arange(len(tokens)), 1)
        masked_ids = batch.inputs["input_ids"].flatten()[batch.positions]
        units = len(masked_ids) if masking != "span" else len(masked_ids) / 12  # tokens of a span share one draw
        for matches, share in zip((masked_ids == UNUSED_ID, None, masked_ids == batch.labels), shares, strict=True):
            if matches is not None:
                assert abs(float(matches.float().mean()) - share) <= 4 * (share * (1 - share) / units) ** 0.5
    first = batches[0.8, 0.1, 0.1]
    assert all(torch.equal(batch.positions, first.positions) for batch in batches.values())
    assert all(torch.equal(batch.labels, first.labels) for batch in batches.values())


@pytest.mark.parametrize("masking", ["whole-word", "span"])
def test_word_masks_do_not_depend_on_the_batch(masking: str) -> None:
    tokens = tokens_with_word_starts("albert")
    examples = MaskedExamples(tokens, 1, 0.2, UNUSED_ID, 50, 0, masking=masking)
    together = examples.batch(np.arange(30)[::-1], epoch=2)
    width = together.inputs["input_ids"].shape[1]
    for row, index in enumerate(range(29, -1, -1)):
        alone = examples.batch(np.array([index]), epoch=2)
        of_row = (together.positions // width) == row
        assert torch.equal(together.positions[of_row] % width, alone.positions)
        length = int(tokens.lengths[index])
        assert torch.equal(together.inputs["input_ids"][row, :length], alone.inputs["input_ids"][0, :length])


@pytest.mark.parametrize("masking", ["whole-word", "span"])
def test_tail_of_a_split_word_counts_as_a_word(masking: str) -> None:
    """An example, or the text after a special token, may begin with tokens of a word that starts in another example."""
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


def random_word_starts(count: int, generator: np.random.Generator) -> np.ndarray:
    """bool (T,): starts of words of one to four tokens."""
    lengths = generator.integers(1, 5, size=count)
    starts = np.zeros(lengths.sum(), dtype=bool)
    starts[np.cumsum(lengths) - lengths] = True
    return starts


def span_lengths(chosen: np.ndarray, starts: np.ndarray) -> list[int]:
    """Return the words per span, in text order."""
    span_of_word = chosen[starts]
    spans = [span_of_word[0], *span_of_word[1:][span_of_word[1:] != span_of_word[:-1]]]
    return [int((span_of_word == span).sum()) for span in spans if span >= 0]


def test_span_lengths_are_geometric_up_to_ten_words() -> None:
    """Joshi et al. 2020, section 3.1: Geo(0.2), at most ten words, 3.8 on average."""
    generator, counts = np.random.default_rng(0), np.zeros(11)
    for example in range(400):
        starts = random_word_starts(1_000, generator)
        maskable = np.ones(len(starts), dtype=bool)
        chosen = choose_spans(starts, maskable, 0.15, example_generator(1, 1, example))
        counts += np.bincount(span_lengths(chosen, starts), minlength=11)
    total = counts.sum()
    assert total > 10_000
    shares = 0.2 * 0.8 ** np.arange(10)
    shares /= shares.sum()
    assert counts[0] == 0
    assert abs(counts @ np.arange(11) / total - 3.797) < 0.1
    np.testing.assert_allclose(counts[1:] / total, shares, atol=4 * 0.5 / total**0.5)


def test_spans_contain_whole_words_and_no_special_tokens() -> None:
    generator = np.random.default_rng(1)
    for example in range(300):
        starts = random_word_starts(int(generator.integers(1, 60)), generator)
        number = np.cumsum(starts) - 1
        maskable = (generator.random(number[-1] + 1) < 0.8)[number]
        chosen = choose_spans(starts, maskable, 0.3, example_generator(2, 1, example))
        assert not (chosen >= 0)[~maskable].any()
        for word in range(number[-1] + 1):
            assert len(set(chosen[number == word])) == 1
        for span in set(chosen) - {-1}:
            inside = np.flatnonzero(chosen == span)
            assert inside[0] == span
            assert (np.diff(inside) == 1).all()
            assert 1 <= len(set(number[inside])) <= 10


def test_expected_share_of_span_tokens_is_exact_for_short_texts() -> None:
    for probability, count in ((0.15, 4), (0.15, 30), (0.4, 9), (0.9, 12)):
        chosen = tokens = 0
        squares = 0.0
        generator = np.random.default_rng(count)
        for _ in range(2_000):
            starts = random_word_starts(count, generator)
            count_chosen = int((choose_spans(starts, np.ones_like(starts), probability, generator) >= 0).sum())
            chosen, tokens = chosen + count_chosen, tokens + len(starts)
            squares += (count_chosen - probability * len(starts)) ** 2
        assert abs(chosen - probability * tokens) < 4 * squares**0.5


def test_no_span_without_maskable_tokens() -> None:
    starts = np.ones(3, dtype=bool)
    assert (choose_spans(starts, np.zeros(3, dtype=bool), 0.5, np.random.default_rng(0)) == -1).all()


def test_spans_cover_all_positions_of_a_short_text() -> None:
    """The budget shortens most spans: a question of 20 words has a budget of three."""
    starts = np.ones(20, dtype=bool)
    chosen = [choose_spans(starts, starts, 0.15, example_generator(1, 1, example)) >= 0 for example in range(4_000)]
    shares = np.mean(chosen, axis=0)
    assert abs(shares.mean() - 0.15) < 0.001
    assert shares.min() > 0.05  # words at the edges are in fewer spans
    np.testing.assert_allclose(shares[2:-2], 0.15, atol=0.04)
    np.testing.assert_allclose(shares, shares[::-1], atol=0.03)
