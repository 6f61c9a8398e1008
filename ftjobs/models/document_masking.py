"""Attention that stays within a document where an example holds several: block-diagonal masks and positions anew.

What a document becomes must not depend on its neighbours, and must be what it is alone (Krell et al. 2021, section
3.2). How a model takes such a mask differs by family, and so do its positions. Where a family mixes tokens in another
way too, or nobody has looked, isolation is refused: to be nearly isolated is not to be.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.masking_utils import sliding_window_bidirectional_overlay

from ftjobs.errors import UserError

#: Families whose positions are counted from 0, from behind the padding index, or are relative alone.
_FROM_ZERO = ("bert", "distilbert", "albert", "electra", "modernbert", "deberta-v2")
_BEHIND_PADDING = ("roberta", "xlm-roberta", "camembert", "mpnet")
FAMILIES = _FROM_ZERO + _BEHIND_PADDING


def isolate(model: PreTrainedModel) -> None:
    """Have a model read `attention_mask` as numbers of documents, int64 (B, T): 0 for padding, else from 1, each number
    in one run. Where all numbers are 0 and 1 they are the usual mask, and the model computes what it always does.

    Raises:
        UserError: it cannot be done right with this encoder.
    """
    if reason := _why_not(model):
        raise UserError(f"corpus.isolate: {reason}; leave isolate out, or write `unit: document`")
    _Isolation(model)


def _why_not(model: PreTrainedModel) -> str | None:
    config = model.config
    if config.model_type not in FAMILIES:
        return (
            f"nobody has shown that encoders of type `{config.model_type}` can keep documents apart; "
            f"those that can are {', '.join(FAMILIES)}"
        )
    if getattr(config, "conv_kernel_size", 0):
        return "this encoder has a convolution over neighbouring tokens, which knows no documents"
    if config._attn_implementation not in ("sdpa", "eager"):
        return f"attention by `{config._attn_implementation}` takes no mask of pairs"
    return None


class _Isolation:
    """Hooks that put masks and positions in."""

    def __init__(self, model: PreTrainedModel) -> None:
        self._config = model.config
        self._dtype = next(model.parameters()).dtype
        self._mask: torch.Tensor | None = None
        encoder = model.base_model
        behind_padding = self._config.model_type in _BEHIND_PADDING
        self._first = encoder.embeddings.padding_idx + 1 if behind_padding else 0
        encoder.register_forward_pre_hook(self._before_encoder, with_kwargs=True)
        if self._config.model_type == "deberta-v2":  # its embeddings take the mask of padding, its layers that of pairs
            encoder.encoder.register_forward_pre_hook(self._before_layers)

    def _before_encoder(self, module: nn.Module, arguments: Any, given: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        documents: torch.Tensor = given["attention_mask"]
        same = (documents[:, :, None] == documents[:, None, :])[:, None]  # (B, 1, T, T); padding sees padding
        given = given | {"position_ids": self._positions(documents)}
        match self._config.model_type:
            case "deberta-v2":
                self._mask = same
                mask: Any = (documents > 0).to(documents.dtype)
            case "modernbert":
                place = torch.arange(documents.shape[1], device=documents.device)
                near = sliding_window_bidirectional_overlay(self._config.sliding_window)
                window = near(0, 0, place[:, None], place[None, :])
                mask = {"full_attention": self._as_taken(same), "sliding_attention": self._as_taken(same & window)}
            case _:
                mask = self._as_taken(same)
        return arguments, given | {"attention_mask": mask}

    def _before_layers(self, module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        return arguments[0], self._mask, *arguments[2:]

    def _positions(self, documents: torch.Tensor) -> torch.Tensor:
        """Positions that start anew with each document: int64 (B, T)."""
        place = torch.arange(documents.shape[1], device=documents.device).expand_as(documents)
        begins = torch.ones_like(documents, dtype=torch.bool)
        begins[:, 1:] = documents[:, 1:] != documents[:, :-1]
        start = torch.where(begins, place, 0).cummax(dim=1).values
        return place - start + self._first

    def _as_taken(self, mask: torch.Tensor) -> torch.Tensor:
        """A mask of pairs as the kind of attention takes it: bool, or what to add to the scores."""
        if self._config._attn_implementation == "sdpa":
            return mask
        return torch.zeros_like(mask, dtype=self._dtype).masked_fill(~mask, torch.finfo(self._dtype).min)
