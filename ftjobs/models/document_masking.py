"""Document masking: attention within each document of a packed example, by block-diagonal masks and new positions.

The output for a document must not depend on its neighbors and must equal its output without them (Krell et al. 2021,
section 3.2). Masks and positions differ by family. Families that mix tokens in other ways, or that are untested, are
refused.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.masking_utils import sliding_window_bidirectional_overlay

from ftjobs.errors import UserError

#: Families whose positions start at 0 or are relative.
_FROM_ZERO = ("bert", "distilbert", "albert", "electra", "modernbert", "deberta-v2")
#: Families whose positions start after the padding index.
_AFTER_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
FAMILIES = _FROM_ZERO + _AFTER_PADDING


def enable(model: PreTrainedModel) -> None:
    """Let a model interpret `attention_mask` as document numbers, int64 (B, T): 0 for padding, else from 1, each number
    in one contiguous run. A mask of zeros and ones keeps its usual meaning and result.

    Raises:
        UserError: document masking is not supported for this encoder.
    """
    if reason := _unsupported(model):
        raise UserError(f"corpus.isolate: {reason}; remove isolate, or write `unit: document`")
    _DocumentMasking(model)


def _unsupported(model: PreTrainedModel) -> str | None:
    config = model.config
    if config.model_type not in FAMILIES:
        return (
            f"document masking is untested for encoders of type `{config.model_type}`; supported types are "
            f"{', '.join(FAMILIES)}"
        )
    if getattr(config, "conv_kernel_size", 0):
        return "this encoder has a convolution over neighboring tokens, which crosses document boundaries"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention implementation `{config._attn_implementation}` supports no block-diagonal masks"
    return None


class _DocumentMasking:
    """Forward hooks that replace attention masks and positions."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._config = model.config
        self._dtype = next(model.parameters()).dtype
        self._mask: torch.Tensor | None = None
        encoder = model.base_model
        after_padding = self._config.model_type in _AFTER_PADDING
        self._first = encoder.embeddings.padding_idx + 1 if after_padding else 0
        encoder.register_forward_pre_hook(self._before_encoder, with_kwargs=True)
        if self._config.model_type == "deberta-v2":  # embeddings take the padding mask, layers the pair mask
            encoder.encoder.register_forward_pre_hook(self._before_layers)

    def _before_encoder(self, module: nn.Module, arguments: Any, inputs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        documents: torch.Tensor = inputs["attention_mask"]
        same = (documents[:, :, None] == documents[:, None, :])[:, None]  # (B, 1, T, T); padding attends to padding
        inputs = inputs | {"position_ids": self._positions(documents)}
        match self._config.model_type:
            case "deberta-v2":
                self._mask = same
                mask: Any = (documents > 0).to(documents.dtype)
            case "modernbert":
                index = torch.arange(documents.shape[1], device=documents.device)
                sliding_window = sliding_window_bidirectional_overlay(self._config.sliding_window)
                window = sliding_window(0, 0, index[:, None], index[None, :])
                mask = {
                    "full_attention": self._format_mask(same),
                    "sliding_attention": self._format_mask(same & window),
                }
            case _:
                mask = self._format_mask(same)
        return arguments, inputs | {"attention_mask": mask}

    def _before_layers(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return arguments[0], self._mask, *arguments[2:]

    def _positions(self, documents: torch.Tensor) -> torch.Tensor:
        """Return positions that restart with each document: int64 (B, T)."""
        index = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
        is_start = torch.ones_like(documents, dtype=torch.bool)
        is_start[:, 1:] = documents[:, 1:] != documents[:, :-1]
        start = torch.where(is_start, index, 0).cummax(dim=1).values
        return index - start + self._first

    def _format_mask(self, mask: torch.Tensor) -> torch.Tensor:
        """Return a pair mask in the format of the attention implementation: bool, or a term to add to the scores."""
        if self._config._attn_implementation == "sdpa":
            return mask
        return torch.zeros_like(mask, dtype=self._dtype).masked_fill(~mask, torch.finfo(self._dtype).min)
