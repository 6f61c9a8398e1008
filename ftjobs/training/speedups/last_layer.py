"""Compute the encoder's last layer only at the positions that the head reads.

BERT-like classifiers read the first token of a text, and masked language modeling reads one token in seven. After
attention, which is a quarter of its work, the layer processes each position independently. Positions that no head reads
are dropped there, without changing logits or gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel

#: Encoders whose last layer is attention, followed by `attention.output` and modules that process each position
#: independently, and in which no later module needs the sequence length.
_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "deberta-v2")


def keep_first_token(model: PreTrainedModel) -> bool:
    """Reduce the encoder's last hidden state to the first token: (B, 1, H). Returns False for unsupported families."""
    return keep_positions(model, lambda hidden: hidden[:, :1])


def keep_positions(model: PreTrainedModel, select: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Reduce the hidden state of the last layer, after its attention, to selected positions.

    Args:
        model: a transformers model with a head.
        select: maps hidden states (B, T, H) to the selected positions, which become the encoder's last hidden state.

    Returns:
        True if the encoder's family is supported. If not, the model is unchanged.
    """
    if model.config.model_type not in _FAMILIES or _mixes_positions(model):
        return False
    output: nn.Module = model.base_model.encoder.layer[-1].attention.output
    output.register_forward_pre_hook(lambda _, arguments: tuple(select(hidden) for hidden in arguments))
    return True


def _mixes_positions(model: PreTrainedModel) -> bool:
    """Return whether a module after the last attention processes several positions at once: chunked feed-forward
    layers, or DeBERTa-v2's convolution if the first layer is also the last."""
    encoder = model.base_model.encoder
    convolution = getattr(encoder, "conv", None) is not None and len(encoder.layer) == 1
    return convolution or bool(getattr(model.config, "chunk_size_feed_forward", 0))
