"""Masks that are drawn faster are masks: the share, independence and seeds are right, and the operator comes back."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from ftjobs.training.speedups.dropout import fast_masks

N = 1_000_000


@pytest.mark.parametrize("p", [0.0, 0.1, 0.25, 0.9, 1.0])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_share_of_ones(p: float, kind: torch.dtype) -> None:
    torch.manual_seed(1)
    with fast_masks():
        mask = torch.empty(N, dtype=kind).bernoulli_(p).double()
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert abs(float(mask.mean()) - p) <= 4 * (p * (1 - p) / N) ** 0.5 + 1 / 65_536


def test_elements_are_independent() -> None:
    """The 16-bit parts of one 64-bit word, too: neighbours at distance 1, 2, 3 and 4."""
    torch.manual_seed(2)
    with fast_masks():
        mask = torch.empty(N, dtype=torch.float64).bernoulli_(0.1) - 0.1
    for distance in (1, 2, 3, 4, 1_000):
        correlation = float((mask[:-distance] * mask[distance:]).mean()) / 0.09
        assert abs(correlation) < 4 / N**0.5


def test_any_shape_and_layout() -> None:
    with fast_masks():
        for shape in [(0,), (1,), (3,), (5, 7, 3)]:
            assert torch.empty(shape).bernoulli_(1.0).sum() == torch.Size(shape).numel()
        assert 0.2 < float(torch.empty(50, 61).t().bernoulli_(0.25).mean()) < 0.3
        assert torch.empty(1000, dtype=torch.bool).bernoulli_(0.5).dtype == torch.bool


def test_every_dropout_uses_them_and_seeds_mean_what_they_meant() -> None:
    query = torch.ones(2, 2, 8, 4)

    def drawn() -> list[torch.Tensor]:
        torch.manual_seed(3)
        attention = functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5)
        return [functional.dropout(torch.ones(100), 0.3), torch.nn.Dropout(0.3)(torch.ones(100)), attention]

    before = drawn()
    with fast_masks():
        inside, again = drawn(), drawn()
    after = drawn()
    for a, b, c, d in zip(before, inside, again, after, strict=True):
        assert not torch.equal(a, b)
        assert torch.equal(b, c)
        assert torch.equal(a, d)
