"""bf16 attention matches fp64 within rounding; fast dropout masks have the right distribution; both are reverted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ftjobs.models import heads
from ftjobs.training.speedups.cpu import bf16_attention, fast_dropout_masks
from tests.helpers.families import FAMILIES
from tests.helpers.training import labeled_examples

SHAPE = (3, 4, 24, 16)
SCALING = 0.25


class Encoder(nn.Module):
    is_causal = False


def inputs(kind: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(SHAPE, generator=generator).to(torch.bfloat16).to(kind).requires_grad_() for _ in range(3)]


def mask() -> torch.Tensor:
    """Return a mask in which the second text is six tokens shorter."""
    seen = torch.ones(3, 1, 24, 24, dtype=torch.bool)
    seen[1, :, :, -6:] = False
    return seen


def attend(tensors: list[torch.Tensor], seen: torch.Tensor | None, **arguments: Any) -> torch.Tensor:
    torch.manual_seed(2)
    function = ALL_ATTENTION_FUNCTIONS["sdpa"]
    output: torch.Tensor = function(
        arguments.pop("module", Encoder()), *tensors, seen, **({"scaling": SCALING} | arguments)
    )[0]
    return output


@pytest.mark.parametrize("seen", [None, mask()])
def test_attention_and_gradients_match_fp64(seen: torch.Tensor | None) -> None:
    ours, exact = inputs(torch.bfloat16), inputs(torch.float64)
    with bf16_attention():
        output = attend(ours, seen, dropout=0.3)
    query, key, value = exact
    scores = query @ key.transpose(2, 3) * SCALING
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    torch.manual_seed(2)
    kept = functional.dropout(torch.ones(3, 4, 24, 24, dtype=torch.bfloat16), 0.3).double()  # the same draws
    expected = (scores.softmax(-1) * kept @ value).transpose(1, 2)
    torch.testing.assert_close(output.double(), expected, rtol=0.03, atol=0.02)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (output * weights.to(torch.bfloat16)).sum().backward()
    (expected * weights).sum().backward()
    for tensor, reference in zip(ours, exact, strict=True):
        assert tensor.grad is not None
        assert reference.grad is not None
        assert float((tensor.grad - reference.grad).norm() / reference.grad.norm()) < 0.01
    if seen is not None:
        for tensor in ours[1:]:
            assert tensor.grad is not None
            assert not tensor.grad[1, :, -6:].any()  # masked positions have no gradient


class Decoder(nn.Module):
    is_causal = True


@pytest.mark.parametrize(
    ("kind", "seen", "arguments"),
    [
        (torch.float32, mask(), {"dropout": 0.3}),
        (torch.bfloat16, mask(), {"dropout": 0.0}),
        (torch.bfloat16, mask(), {"dropout": 0.3, "scaling": None}),
        (torch.bfloat16, torch.zeros(3, 1, 24, 24, dtype=torch.bfloat16), {"dropout": 0.3}),
        (torch.bfloat16, None, {"dropout": 0.3, "module": Decoder()}),
        (torch.bfloat16, None, {"dropout": 0.3, "is_causal": True}),
        (torch.bfloat16, mask(), {"dropout": 0.3, "position_bias": torch.ones(1, 4, 24, 24, dtype=torch.bfloat16)}),
    ],
)
def test_unsupported_attention_uses_pytorch(
    kind: torch.dtype, seen: torch.Tensor | None, arguments: dict[str, Any]
) -> None:
    expected = attend(inputs(kind), seen, **arguments)
    with bf16_attention():
        output = attend(inputs(kind), seen, **arguments)
    assert torch.equal(output, expected)


def test_attention_is_restored() -> None:
    before = ALL_ATTENTION_FUNCTIONS["sdpa"]
    with pytest.raises(KeyError, match="broken"), bf16_attention():
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is not before
        raise KeyError("broken")
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before


@pytest.mark.parametrize("family", FAMILIES)
def test_gradients_match_in_every_family(make_encoder: Callable[..., Path], family: str) -> None:
    """Gradients of a step with dropout, within the rounding of bf16."""
    torch.manual_seed(0)
    model, _ = heads.load_classifier(make_encoder(family), ["a", "b"])
    batch = labeled_examples(family, 8, model.config.vocab_size).batch(torch.arange(8).numpy(), 1)

    def gradients() -> torch.Tensor:
        model.train().zero_grad()
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**batch.inputs).logits
        functional.cross_entropy(logits.float(), batch.labels).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])

    expected = gradients()
    with bf16_attention():
        actual = gradients()
    assert float((actual - expected).norm() / expected.norm()) < 0.05


N = 1_000_000


@pytest.mark.parametrize("p", [0.0, 0.1, 0.25, 0.9, 1.0])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
def test_dropout_mask_share_of_ones(p: float, kind: torch.dtype) -> None:
    torch.manual_seed(1)
    with fast_dropout_masks():
        mask = torch.empty(N, dtype=kind).bernoulli_(p).double()
    assert set(mask.unique().tolist()) <= {0.0, 1.0}
    assert abs(float(mask.mean()) - p) <= 4 * (p * (1 - p) / N) ** 0.5 + 1 / 65_536


def test_dropout_mask_elements_are_independent() -> None:
    """Including the 16-bit parts of one 64-bit word: distances 1, 2, 3 and 4."""
    torch.manual_seed(2)
    with fast_dropout_masks():
        mask = torch.empty(N, dtype=torch.float64).bernoulli_(0.1) - 0.1
    for distance in (1, 2, 3, 4, 1_000):
        correlation = float((mask[:-distance] * mask[distance:]).mean()) / 0.09
        assert abs(correlation) < 4 / N**0.5


def test_dropout_mask_of_any_shape_and_layout() -> None:
    with fast_dropout_masks():
        for shape in [(0,), (1,), (3,), (5, 7, 3)]:
            assert torch.empty(shape).bernoulli_(1.0).sum() == torch.Size(shape).numel()
        assert 0.2 < float(torch.empty(50, 61).t().bernoulli_(0.25).mean()) < 0.3
        assert torch.empty(1000, dtype=torch.bool).bernoulli_(0.5).dtype == torch.bool


def test_every_kind_of_dropout_uses_fast_masks_and_seeds() -> None:
    query = torch.ones(2, 2, 8, 4)

    def drawn() -> list[torch.Tensor]:
        torch.manual_seed(3)
        attention = functional.scaled_dot_product_attention(query, query, query, dropout_p=0.5)
        return [functional.dropout(torch.ones(100), 0.3), torch.nn.Dropout(0.3)(torch.ones(100)), attention]

    before = drawn()
    with fast_dropout_masks():
        inside, again = drawn(), drawn()
    after = drawn()
    for a, b, c, d in zip(before, inside, again, after, strict=True):
        assert not torch.equal(a, b)
        assert torch.equal(b, c)
        assert torch.equal(a, d)
