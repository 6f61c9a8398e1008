"""Batches for passes whose order does not matter."""

import numpy as np
import pytest

from ftjobs.data.examples.batching import batches_by_length


@pytest.mark.parametrize("tokens", [1, 40, 100, 10_000])
def test_batches_by_length_contain_every_text_once_within_the_token_limit(tokens):
    lengths = np.random.default_rng(0).integers(1, 90, size=200)
    batches = list(batches_by_length(lengths, tokens))
    assert sorted(np.concatenate(batches)) == list(range(200))
    assert list(lengths[np.concatenate(batches)]) == sorted(lengths, reverse=True)
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        longest = lengths[batch].max()
        assert len(batch) == 1 or len(batch) * longest <= tokens
        assert following is None or (len(batch) + 1) * longest > tokens, "a batch is full"


def test_batches_by_length_without_texts():
    assert list(batches_by_length(np.zeros(0, dtype=np.int64), 100)) == []
