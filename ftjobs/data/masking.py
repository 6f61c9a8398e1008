"""Choosing the tokens that masked language modelling predicts (Devlin et al. 2019, section 3.1 and appendix A.1)."""

from __future__ import annotations

import numpy as np


def example_generator(seed: int, epoch: int, example: int) -> np.random.Generator:
    """The random numbers of one example in one epoch.

    A counter-based generator (Philox, Salmon et al. 2011) gives every example its own stream without any state, so
    masks do not depend on the batch an example is in, on the number of processes, or on what ran before.
    """
    return np.random.Generator(np.random.Philox(key=[seed, epoch], counter=[0, 0, example, 0]))


def mask(
    input_ids: np.ndarray,
    maskable: np.ndarray,
    *,
    probability: float,
    mask_token_id: int,
    vocab_size: int,
    generator: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
    """Choose each maskable token with `probability`; replace 80 % of those by the mask token, 10 % by a random one.

    Args:
        input_ids: int (T,)
        maskable: bool (T,): False for special tokens.
        probability: share of tokens to predict.
        mask_token_id: id of the mask token.
        vocab_size: random tokens are drawn uniformly from all ids below this.
        generator: consumed the same way whatever is chosen.

    Returns:
        The inputs with masks in, int (T,), and the positions to predict, int64 (M,), ascending.
    """
    draws = generator.random((2, len(input_ids)))
    random_ids = generator.integers(vocab_size, size=len(input_ids), dtype=input_ids.dtype)
    chosen = (draws[0] < probability) & maskable
    masked = np.where(chosen & (draws[1] < 0.8), mask_token_id, input_ids)
    masked = np.where(chosen & (draws[1] >= 0.9), random_ids, masked)
    return masked.astype(input_ids.dtype), np.flatnonzero(chosen)
