"""Choosing the tokens that masked language modelling predicts (Devlin et al. 2019, section 3.1 and appendix A.1)."""

from __future__ import annotations

from typing import Literal

import numpy as np

from ftjobs.data.examples.spans import choose_spans
from ftjobs.jobfile.fields import Replace

Masking = Literal["token", "whole-word", "span"]
AS_BERT = Replace()


def example_generator(seed: int, epoch: int, example: int, stream: int = 0) -> np.random.Generator:
    """The random numbers of one example in one epoch; those of another `stream` are independent of them.

    A counter-based generator (Philox, Salmon et al. 2011) gives every example its own stream without any state, so
    masks do not depend on the batch an example is in, on the number of processes, or on what ran before.
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
    replace: Replace = AS_BERT,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose tokens to predict, and replace most of them by the mask token, some by random ones.

    `token` chooses each token with `probability`. `whole-word` chooses each word with `probability`, with all of its
    tokens, so that the expected share of tokens is the same however long words are; what a token is replaced by is
    drawn for each token on its own, as in BERT's own whole-word masking (Devlin et al. 2019, `create_pretraining_data`;
    Cui et al. 2021, section 3.1). `span` chooses spans of words, and what they are replaced by is drawn for each span
    (Joshi et al. 2020, section 3.1): all mask tokens, all random ones, or kept.

    Args:
        input_ids: int (T,)
        maskable: bool (T,): False for special tokens.
        probability: share of tokens to predict.
        mask_token_id: id of the mask token.
        vocab_size: random tokens are drawn uniformly from all ids below this.
        generator: of the example.
        masking: what is chosen as a whole.
        word_starts: bool (T,): tokens that begin a word; needed unless `masking` is `token`.
        replace: shares of the chosen tokens.

    Returns:
        The inputs with masks in, int (T,), and the positions to predict, int64 (M,), ascending.
    """
    draws = generator.random((2, len(input_ids)))
    random_ids = generator.integers(vocab_size, size=len(input_ids), dtype=input_ids.dtype)
    choice, fate = draws  # of each token
    if masking == "token":
        chosen = (choice < probability) & maskable
    elif word_starts is None:
        raise ValueError(f"masking {masking!r} needs to know where words start")
    elif masking == "whole-word":
        starts = _within(word_starts, maskable)
        first_of_word = np.flatnonzero(starts)[np.cumsum(starts) - 1]
        chosen = (choice[first_of_word] < probability) & maskable
    else:
        first_of_span = choose_spans(_within(word_starts, maskable), maskable, probability, generator)
        chosen = first_of_span >= 0
        fate = fate[first_of_span]
    masked = np.where(chosen & (fate < replace.mask), mask_token_id, input_ids)
    masked = np.where(chosen & (fate >= replace.mask + replace.keep), random_ids, masked)
    return masked.astype(input_ids.dtype), np.flatnonzero(chosen)


def _within(word_starts: np.ndarray, maskable: np.ndarray) -> np.ndarray:
    """Where words begin of which some were cut: what is left of a word that another example has the beginning of."""
    around = np.concatenate([[True], ~maskable])
    found: np.ndarray = word_starts | around[:-1] | around[1:]
    return found
