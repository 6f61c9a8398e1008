"""Attention written out is attention: results and gradients are those of fp64, and nothing else is touched."""

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
from ftjobs.training.speedups.attention import bf16_attention
from tests.helpers.families import FAMILIES
from tests.training.test_features import labelled

SHAPE = (3, 4, 24, 16)
SCALING = 0.25


class Encoder(nn.Module):
    is_causal = False


def inputs(kind: torch.dtype) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.randn(SHAPE, generator=generator).to(torch.bfloat16).to(kind).requires_grad_() for _ in range(3)]


def mask() -> torch.Tensor:
    """The second text is six tokens shorter."""
    seen = torch.ones(3, 1, 24, 24, dtype=torch.bool)
    seen[1, :, :, -6:] = False
    return seen


def attend(tensors: list[torch.Tensor], seen: torch.Tensor | None, **given: Any) -> torch.Tensor:
    torch.manual_seed(2)
    function = ALL_ATTENTION_FUNCTIONS["sdpa"]
    found: torch.Tensor = function(given.pop("module", Encoder()), *tensors, seen, **({"scaling": SCALING} | given))[0]
    return found


@pytest.mark.parametrize("seen", [None, mask()])
def test_results_and_gradients_are_those_of_fp64(seen: torch.Tensor | None) -> None:
    ours, exact = inputs(torch.bfloat16), inputs(torch.float64)
    with bf16_attention():
        found = attend(ours, seen, dropout=0.3)
    query, key, value = exact
    scores = query @ key.transpose(2, 3) * SCALING
    if seen is not None:
        scores = scores.masked_fill(~seen, -torch.inf)
    torch.manual_seed(2)
    kept = functional.dropout(torch.ones(3, 4, 24, 24, dtype=torch.bfloat16), 0.3).double()  # the same draws
    expected = (scores.softmax(-1) * kept @ value).transpose(1, 2)
    torch.testing.assert_close(found.double(), expected, rtol=0.03, atol=0.02)
    weights = torch.randn(expected.shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    (found * weights.to(torch.bfloat16)).sum().backward()
    (expected * weights).sum().backward()
    for one, other in zip(ours, exact, strict=True):
        assert one.grad is not None
        assert other.grad is not None
        assert float((one.grad - other.grad).norm() / other.grad.norm()) < 0.01
    if seen is not None:
        for tensor in ours[1:]:
            assert tensor.grad is not None
            assert not tensor.grad[1, :, -6:].any()  # what is not seen teaches nothing


class Decoder(nn.Module):
    is_causal = True


@pytest.mark.parametrize(
    ("kind", "seen", "given"),
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
def test_everything_else_is_left_to_pytorch(
    kind: torch.dtype, seen: torch.Tensor | None, given: dict[str, Any]
) -> None:
    expected = attend(inputs(kind), seen, **given)
    with bf16_attention():
        found = attend(inputs(kind), seen, **given)
    assert torch.equal(found, expected)


def test_afterwards_it_is_gone() -> None:
    before = ALL_ATTENTION_FUNCTIONS["sdpa"]
    with pytest.raises(KeyError, match="broken"), bf16_attention():
        assert ALL_ATTENTION_FUNCTIONS["sdpa"] is not before
        raise KeyError("broken")
    assert ALL_ATTENTION_FUNCTIONS["sdpa"] is before


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_the_same_from_it(make_encoder: Callable[..., Path], family: str) -> None:
    """Loss and gradients of a step with dropout, within the rounding of bf16."""
    torch.manual_seed(0)
    model, _ = heads.load_classifier(make_encoder(family), ["a", "b"])
    batch = labelled(family, 8, model.config.vocab_size).batch(torch.arange(8).numpy(), 1)

    def gradients() -> torch.Tensor:
        model.train().zero_grad()
        torch.manual_seed(1)
        with torch.autocast("cpu", torch.bfloat16):
            logits = model(**batch.inputs).logits
        functional.cross_entropy(logits.float(), batch.labels).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])

    expected = gradients()
    with bf16_attention():
        found = gradients()
    assert float((found - expected).norm() / expected.norm()) < 0.05
