"""Batches of passes whose order does not matter."""

import numpy as np
import pytest

from ftjobs.data.examples.batching import by_length


@pytest.mark.parametrize("tokens", [1, 40, 100, 10_000])
def test_by_length_takes_every_text_once_longest_first_and_a_bounded_number_of_tokens(tokens):
    lengths = np.random.default_rng(0).integers(1, 90, size=200)
    batches = list(by_length(lengths, tokens))
    assert sorted(np.concatenate(batches)) == list(range(200))
    assert list(lengths[np.concatenate(batches)]) == sorted(lengths, reverse=True)
    for batch, following in zip(batches, [*batches[1:], None], strict=True):
        longest = lengths[batch].max()
        assert len(batch) == 1 or len(batch) * longest <= tokens
        assert following is None or (len(batch) + 1) * longest > tokens, "as many as will fit"


def test_by_length_of_no_texts():
    assert list(by_length(np.zeros(0, dtype=np.int64), 100)) == []
