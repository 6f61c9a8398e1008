"""Choose and replace the tokens that masked language modeling predicts (Devlin et al. 2019, section 3.1)."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np

from ftjobs.jobfile.fields import Replace

Masking = Literal["token", "whole-word", "span"]
BERT_REPLACEMENT = Replace()
#: Words per span: geometric distribution with this parameter, truncated at the maximum and renormalized; mean 3.8.
SPAN_PARAMETER, MAX_SPAN = 0.2, 10
_SPAN_PROBABILITIES = SPAN_PARAMETER * (1 - SPAN_PARAMETER) ** np.arange(MAX_SPAN)
_SPAN_CDF = np.cumsum(_SPAN_PROBABILITIES / _SPAN_PROBABILITIES.sum())


def example_generator(seed: int, epoch: int, example: int, stream: int = 0) -> np.random.Generator:
    """Return the random generator of one example in one epoch; different `stream`s are independent.

    A counter-based generator (Philox, Salmon et al. 2011) gives every example its own stream without any state, so
    masks do not depend on batch composition, on the number of processes, or on earlier steps.
    """
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, example, stream]))


def mask(
    input_ids: np.ndarray,
    maskable: np.ndarray,
    *,
    probability: float,
    mask_token_id: int,
    vocab_size: int,
    generator: np.random.Generator,
    masking: Masking = "token",
    word_starts: np.ndarray | None = None,
    replace: Replace = BERT_REPLACEMENT,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose the tokens to predict and replace them by the mask token, by random tokens, or not at all.

    `token` chooses each token with `probability`. `whole-word` chooses each word, with all of its tokens, with
    `probability`, so the expected share of tokens does not depend on word length; the replacement is drawn per token,
    as in BERT's whole-word masking (Devlin et al. 2019, `create_pretraining_data`; Cui et al. 2021, section 3.1).
    `span` chooses spans of words, and one replacement is drawn per span (Joshi et al. 2020, section 3.1).

    Args:
        input_ids: int (T,)
        maskable: bool (T,): False for special tokens.
        probability: share of tokens to predict.
        mask_token_id: id of the mask token.
        vocab_size: random tokens are drawn uniformly from the ids below this.
        generator: random generator of the example.
        masking: the unit that is chosen: tokens, whole words or spans.
        word_starts: bool (T,): tokens that begin a word; required unless `masking` is `token`.
        replace: shares of the chosen tokens per kind of replacement.

    Returns:
        The masked inputs, int (T,), and the positions to predict, int64 (M,), ascending.
    """
    draws = generator.random((2, len(input_ids)))
    random_ids = generator.integers(vocab_size, size=len(input_ids), dtype=input_ids.dtype)
    choice, replacement = draws  # uniform in [0, 1) per token
    if masking == "token":
        chosen = (choice < probability) & maskable
    elif word_starts is None:
        raise ValueError(f"masking {masking!r} requires word_starts")
    elif masking == "whole-word":
        starts = _split_at_special_tokens(word_starts, maskable)
        first_of_word = np.flatnonzero(starts)[np.cumsum(starts) - 1]
        chosen = (choice[first_of_word] < probability) & maskable
    else:
        first_of_span = choose_spans(_split_at_special_tokens(word_starts, maskable), maskable, probability, generator)
        chosen = first_of_span >= 0
        replacement = replacement[first_of_span]
    masked = np.where(chosen & (replacement < replace.mask), mask_token_id, input_ids)
    masked = np.where(chosen & (replacement >= replace.mask + replace.keep), random_ids, masked)
    return masked.astype(input_ids.dtype), np.flatnonzero(chosen)


def _split_at_special_tokens(word_starts: np.ndarray, maskable: np.ndarray) -> np.ndarray:
    """Mark a word start at and after every special token, for words whose beginning is in another example."""
    boundaries = np.concatenate([[True], ~maskable])
    starts: np.ndarray = word_starts | boundaries[:-1] | boundaries[1:]
    return starts


def choose_spans(
    word_starts: np.ndarray, maskable: np.ndarray, probability: float, generator: np.random.Generator
) -> np.ndarray:
    """Choose spans of whole words that contain `probability` of the maskable tokens (SpanBERT: Joshi et al. 2020).

    Each span's length is drawn first, then its position, uniformly among those where it fits. Spans do not touch each
    other while there is room; a span that fits nowhere or exceeds the remaining budget is shortened. The word that
    would exceed the budget ends its span, and is included with the probability that makes the expected number of tokens
    equal to the budget.

    Args:
        word_starts: bool (T,): tokens that begin a word.
        maskable: bool (T,): False for special tokens.
        probability: share of tokens to choose.
        generator: random generator of the example.

    Returns:
        int64 (T,): index of the first token of the span that contains the token, -1 outside of spans.
    """
    firsts = np.flatnonzero(word_starts)
    lengths = np.diff(firsts, append=len(word_starts))  # (W,)
    excluded = ~maskable[firsts]
    span_of_word = np.full(len(firsts), -1)
    budget = probability * float(maskable.sum())
    tokens_per_word = lengths[~excluded].mean() if budget else 1.0
    while budget > 0:
        # Shortened before the position is drawn: cutting the end afterwards would favor positions to the left.
        size = min(_draw_span_length(generator), math.ceil(budget / tokens_per_word))
        start, words = _draw_position(excluded, span_of_word >= 0, size, generator)
        for word in range(start, start + words):
            if lengths[word] > budget and generator.random() * lengths[word] >= budget:
                budget = 0
                break
            span_of_word[word] = firsts[start]
            budget -= lengths[word]
            if budget <= 0:
                break
    span_of_token: np.ndarray = span_of_word[np.cumsum(word_starts) - 1]
    return span_of_token


def _draw_span_length(generator: np.random.Generator) -> int:
    """Draw the number of words of a span."""
    return 1 + int(np.searchsorted(_SPAN_CDF[:-1], generator.random(), side="right"))


def _draw_position(
    excluded: np.ndarray, taken: np.ndarray, words: int, generator: np.random.Generator
) -> tuple[int, int]:
    """Draw the position of a span: the index of its first word, and the number of words that fit there."""
    blocked = excluded | taken
    taken_padded = np.concatenate([[False], taken, [False]])
    for apart in (True, False):
        for length in range(min(words, len(excluded)), 0, -1):
            fits = _windows_without(blocked, length)
            positions = np.flatnonzero(fits & _windows_without(taken_padded, length + 2) if apart else fits)
            if len(positions):
                return int(positions[generator.integers(len(positions))]), length
    raise AssertionError("at least one word is free while the budget is positive")


def _windows_without(flags: np.ndarray, width: int) -> np.ndarray:
    """bool (N - width + 1,): windows of `width` elements without a flag."""
    counts = np.concatenate([[0], np.cumsum(flags)])
    windows: np.ndarray = counts[width:] == counts[:-width]
    return windows
