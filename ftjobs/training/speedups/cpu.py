"""Faster training on a CPU: memory allocation, dropout masks, and bf16 attention with dropout."""

from __future__ import annotations

import ctypes
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from ftjobs.system.device import on_cpu

#: Options of glibc's mallopt (malloc.h), their values within `retain_freed_memory`, and their defaults:
#: M_TRIM_THRESHOLD, M_TOP_PAD and M_MMAP_MAX.
_MALLOC_OPTIONS = ((-1, 2**31 - 1, 2**17), (-2, 2**26, 2**17), (-4, 0, 2**16))
_LEVELS = 1 << 16
_REPLACED_ATTENTION = "sdpa"
#: Arguments that change the result of attention, and that no supported encoder passes.
_UNSUPPORTED_ARGUMENTS = {"position_bias", "softcap", "cache"}


@contextmanager
def retain_freed_memory() -> Iterator[None]:
    """Within the block, glibc's allocator keeps up to 2 GB of freed memory for later allocations.

    By default it allocates large tensors from the kernel and returns them at once, so every training step on a CPU
    spends a tenth of its time in page faults. No effect with a GPU or another C library.
    """
    try:
        glibc = ctypes.CDLL("libc.so.6") if on_cpu() else None
    except OSError:
        glibc = None
    if glibc is None:
        yield
        return
    for option, value, _ in _MALLOC_OPTIONS:
        glibc.mallopt(option, value)
    try:
        yield
    finally:
        for option, _, default in _MALLOC_OPTIONS:
            glibc.mallopt(option, default)
        glibc.malloc_trim(0)


@contextmanager
def fast_dropout_masks() -> Iterator[None]:
    """Within the block, `Tensor.bernoulli_(p)` on a CPU draws 16 random bits per element instead of a double: five
    times as fast.

    Every kind of dropout (modules, functions, attention) draws its mask with this operator, so replacing it in
    PyTorch's dispatcher covers all models. `p` is rounded to 1/65,536. The bits come from the same generator, so seeds
    keep their effect.
    """
    library = torch.library.Library("aten", "IMPL")
    with warnings.catch_warnings(action="ignore"):  # about the replaced operator
        library.impl("bernoulli_.float", _bernoulli, "CPU", allow_override=True)
    try:
        yield
    finally:
        library._destroy()


def _bernoulli(mask: torch.Tensor, p: float = 0.5, *, generator: torch.Generator | None = None) -> torch.Tensor:
    words = torch.empty(-(-mask.numel() // 4), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    bits = words.view(torch.int16)[: mask.numel()].view(mask.shape)  # uniform over -32,768 to 32,767
    threshold = round(p * _LEVELS) - _LEVELS // 2
    if threshold == _LEVELS // 2:
        return mask.fill_(1)
    return torch.lt(bits, threshold, out=mask)


@contextmanager
def bf16_attention() -> Iterator[None]:
    """Within the block, models with transformers' default attention (`sdpa`) use a bf16 implementation where it
    applies, in half the time.

    PyTorch's fast attention on a CPU has no dropout. With dropout, `scaled_dot_product_attention` falls back to a
    general path that converts bf16 to fp32 for its matrix products. Here the products are in bf16, like those of all
    other layers in bf16 training; the softmax accumulates in fp32.
    """
    ALL_ATTENTION_FUNCTIONS[_REPLACED_ATTENTION] = _attention
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS[_REPLACED_ATTENTION]


def _attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **arguments: Any,
) -> tuple[torch.Tensor, None]:
    """Return the attention output: (B, T, heads, D).

    Args:
        module: the attention module that calls this function.
        query: (B, heads, T, D)
        key: (B, heads, T, D)
        value: (B, heads, T, D)
        attention_mask: bool (B, 1 or heads, 1 or T, T), False at masked positions; None without a mask.
        dropout: probability of dropout on attention weights.
        scaling: factor of the scores.
        arguments: of some families only.
    """
    bf16_on_cpu = query.dtype == torch.bfloat16 and query.device.type == "cpu"
    if not (bf16_on_cpu and dropout and scaling) or not _is_supported(module, query, key, attention_mask, arguments):
        output: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout, scaling, **arguments
        )
        return output
    scores = torch.matmul(query * scaling, key.transpose(2, 3))  # (B, heads, T, T)
    if attention_mask is not None:
        bias = torch.zeros_like(attention_mask, dtype=scores.dtype)
        scores += bias.masked_fill(~attention_mask, torch.finfo(scores.dtype).min)
    weights = functional.dropout(torch.softmax(scores, -1), dropout)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), None


def _is_supported(
    module: nn.Module, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None, arguments: dict[str, Any]
) -> bool:
    """Return whether this is plain encoder attention: bidirectional, as many keys as queries, boolean mask."""
    bidirectional = not getattr(module, "is_causal", True) and not arguments.get("is_causal")
    boolean_mask = mask is None or mask.dtype == torch.bool
    same_length = query.shape == key.shape
    return bidirectional and boolean_mask and same_length and not _UNSUPPORTED_ARGUMENTS & arguments.keys()
