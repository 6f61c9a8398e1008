"""Depth of parameters in an encoder: embeddings, one of the layers, or above them.

Every encoder in transformers has its layers in one `ModuleList` of `num_hidden_layers` entries, of any name
(`encoder.layer`, `transformer.layer`, `layers`). Parameters outside the list count as embeddings (word and position
embeddings, their projection, DeBERTa's and MPNet's relative positions), except a pooler and a final norm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ftjobs.errors import UserError

#: Modules outside the list of layers that follow the last layer.
_ABOVE = re.compile(r"(.*_)?(norm|ln|pooler)(_f|_after|_activation)?|layernorm", re.IGNORECASE)
#: Families whose norm outside the list of layers belongs to the relative position embeddings of all layers.
_NORM_OF_POSITIONS = ("deberta", "deberta-v2")


@dataclass(frozen=True)
class Layers:
    """The layers of the encoder in a model with a head."""

    encoder: str
    """Name prefix of the encoder's parameters: `bert.`"""
    prefix: str
    """Name prefix of parameters in a layer, before its number: `bert.encoder.layer.`"""
    count: int
    positions_have_norm: bool = False

    @property
    def top(self) -> int:
        """Depth of the head and of modules above the last layer."""
        return self.count + 1

    def depth(self, name: str) -> int:
        """Return a parameter's depth: 0 in embeddings, 1 in the lowest layer, `count` in the highest, `top` above."""
        if name.startswith(self.prefix):
            return int(name.removeprefix(self.prefix).partition(".")[0]) + 1
        if not name.startswith(self.encoder):
            return self.top
        parent = self.prefix.rpartition(".")[0].rpartition(".")[0] + "."  # of the list of layers: `bert.encoder.`
        prefix = parent if name.startswith(parent) else self.encoder
        module = name.removeprefix(prefix).partition(".")[0]
        is_above = _ABOVE.fullmatch(module) and not (self.positions_have_norm and prefix == parent)
        return self.top if is_above else 0


def find(model: PreTrainedModel, setting: str) -> Layers:
    """Find the layers of a model's encoder.

    Args:
        model: a transformers model with a head.
        setting: the setting that needs the layers, for errors: `layer_decay: 0.9`.

    Raises:
        UserError: the layers share weights, or there is no list of layers.
    """
    config = model.config
    count = getattr(config, "num_hidden_layers", 0)
    if getattr(config, "num_hidden_groups", count) < count:
        raise UserError(
            f"{setting} needs separate weights per layer, and the {count} layers of this `{config.model_type}` "
            f"share {config.num_hidden_groups} set{'s' if config.num_hidden_groups > 1 else ''} of weights; "
            "remove the setting, or freeze the whole encoder with freeze_encoder: true"
        )
    layer_lists: list[str] = []
    for name, module in model.base_model.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in layer_lists)
        if isinstance(module, nn.ModuleList) and len(module) == count and not inner:
            layer_lists.append(name)
    if len(layer_lists) != 1:
        lists = f"{len(layer_lists)} such lists ({', '.join(layer_lists)})" if layer_lists else "no such list"
        raise UserError(
            f"{setting} needs the encoder's layers, a module list of {count} entries (num_hidden_layers), and this "
            f"`{config.model_type}` has {lists}; remove the setting"
        )
    encoder = f"{model.base_model_prefix}."
    return Layers(encoder, f"{encoder}{layer_lists[0]}.", count, config.model_type in _NORM_OF_POSITIONS)


@torch.no_grad()
def reinitialize(model: PreTrainedModel, layers: Layers, highest: int) -> None:
    """Reinitialize the `highest` layers and the pooler by the encoder's configuration and torch's global generator
    (Zhang et al. 2021, "Revisiting few-sample BERT fine-tuning", section 4).

    Raises:
        UserError: the encoder has fewer layers.
    """
    if highest > layers.count:
        raise UserError(
            f"reinitialise_layers: {highest}, but the encoder has {layers.count} layers; write {layers.count} or less"
        )
    fresh = AutoModelForSequenceClassification.from_config(model.config).state_dict()
    for name, value in model.state_dict().items():
        if name.startswith(layers.encoder) and layers.depth(name) > layers.count - highest:
            value.copy_(fresh[name])
