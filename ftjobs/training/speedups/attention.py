"""Attention with dropout in bf16 on a CPU, in half the time that PyTorch takes for it.

PyTorch's fast attention on a CPU cannot drop out. With dropout `scaled_dot_product_attention` goes a general way, which
takes bf16 up to fp32 for its matrix products and looks for rows in which nothing is seen. Written out, the products are
in bf16, as those of all other layers in bf16 training are; the softmax adds up in fp32.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

_REPLACED = "sdpa"
#: Arguments that change what is computed, and that no encoder here has.
_UNKNOWN = {"position_bias", "softcap", "cache"}


@contextmanager
def bf16_attention() -> Iterator[None]:
    """Within the block, models with transformers' default attention, `sdpa`, take this one where it applies."""
    ALL_ATTENTION_FUNCTIONS[_REPLACED] = _attention
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS[_REPLACED]


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """What each position makes of those it sees: (B, T, heads, D), of queries, keys and values (B, heads, T, D).

    Args:
        module: the attention that asks.
        query: of every position.
        key: of every position.
        value: of every position.
        attention_mask: bool (B, 1 or heads, 1 or T, T), False where a position is not seen; None where all are.
        dropout: share of what is seen that is left out.
        scaling: of the scores.
        others: what only some families have.
    """
    bf16_on_cpu = query.dtype == torch.bfloat16 and query.device.type == "cpu"
    if not (bf16_on_cpu and dropout and scaling) or not _is_plain(module, query, key, attention_mask, others):
        found: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **others
        )
        return found
    scores = torch.matmul(query * scaling, key.transpose(2, 3))  # (B, heads, T, T)
    if attention_mask is not None:
        unseen = torch.zeros_like(attention_mask, dtype=scores.dtype)
        scores += unseen.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    shares = functional.dropout(torch.softmax(scores, -1), dropout)
    return torch.matmul(shares, value).transpose(1, 2).contiguous(), None


def _is_plain(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, others: dict[str, Any]
) -> bool:
    """Whether it is an encoder's: in both directions, as many keys as queries, nothing added to the scores."""
    both_ways = not getattr(module, "is_causal", True) and not others.get("is_causal")
    seen_or_not = mask is None or mask.dtype == torch.bool
    return both_ways and seen_or_not and query.shape == key.shape and not _UNKNOWN & others.keys()
