"""The encoder's last layer, computed only where it is read.

A classifier of BERT's kind reads the first token of a text, and masked language modelling reads one token in seven.
What the layer does behind its attention, three quarters of its work, it does to each position alone. So the positions
that nobody reads are dropped there: the same logits and gradients for less.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import nn
from transformers import PreTrainedModel

#: Encoders whose last layer is attention, then `attention.output` and the rest position by position, then nothing that
#: needs to know how long texts are.
_FAMILIES = ("bert", "roberta", "xlm-roberta", "camembert", "electra", "deberta-v2")


def keep_first_token(model: PreTrainedModel) -> bool:
    """Make the encoder's last hidden state that of the first token: (B, 1, H). False: not with this family."""
    return keep(model, lambda hidden: hidden[:, :1])


def keep(model: PreTrainedModel, read: Callable[[torch.Tensor], torch.Tensor]) -> bool:
    """Have the last layer go on, behind its attention, with what is read of it.

    Args:
        model: a transformers model with a head.
        read: (B, T, H) to what is read of it, by position alone; becomes the encoder's last hidden state.

    Returns:
        Whether the encoder's family allows it. If not, nothing is changed.
    """
    if model.config.model_type not in _FAMILIES or _knows_lengths(model):
        return False
    output: nn.Module = model.base_model.encoder.layer[-1].attention.output
    output.register_forward_pre_hook(lambda _, arguments: tuple(read(hidden) for hidden in arguments))
    return True


def _knows_lengths(model: PreTrainedModel) -> bool:
    """Whether something behind the last attention goes over several positions at once: feed-forward layers in chunks,
    or DeBERTa-v2's convolution where the first layer is also the last."""
    encoder = model.base_model.encoder
    convolved = getattr(encoder, "conv", None) is not None and len(encoder.layer) == 1
    return convolved or bool(getattr(model.config, "chunk_size_feed_forward", 0))
