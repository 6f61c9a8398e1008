"""Where a parameter stands in an encoder: in the embeddings, in one of the layers, or above them all.

Every encoder of transformers keeps its layers in one `ModuleList` of `num_hidden_layers` entries, whatever the list is
called (`encoder.layer`, `transformer.layer`, `layers`). What is in none of them is read by the lowest one (word and
position embeddings, their projection, DeBERTa's and MPNet's relative positions), except a pooler and a final norm.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ftjobs.errors import UserError

#: What a family keeps beside its list of layers and reads after the last of them.
_ABOVE = re.compile(r"(.*_)?(norm|ln|pooler)(_f|_after|_activation)?|layernorm", re.IGNORECASE)
#: Families whose norm beside the layers is that of the relative position embeddings, which every layer reads.
_NORM_OF_POSITIONS = ("deberta", "deberta-v2")


@dataclass(frozen=True)
class Layers:
    """The layers of the encoder of one model with a head."""

    encoder: str
    """Prefix of the names of the encoder's parameters: `bert.`"""
    prefix: str
    """Prefix of those in a layer, before its number: `bert.encoder.layer.`"""
    count: int
    positions_have_a_norm: bool = False

    @property
    def top(self) -> int:
        """The depth of the head, and of all else above the last layer."""
        return self.count + 1

    def depth(self, name: str) -> int:
        """Of a parameter: 0 in the embeddings, from 1 in the lowest layer to `count` in the highest, `top` above."""
        if name.startswith(self.prefix):
            return int(name.removeprefix(self.prefix).partition(".")[0]) + 1
        if not name.startswith(self.encoder):
            return self.top
        beside = self.prefix.rpartition(".")[0].rpartition(".")[0] + "."  # `bert.encoder.`
        inside = beside if name.startswith(beside) else self.encoder
        module = name.removeprefix(inside).partition(".")[0]
        above = _ABOVE.fullmatch(module) and not (self.positions_have_a_norm and inside == beside)
        return self.top if above else 0


def find(model: PreTrainedModel, setting: str) -> Layers:
    """The layers of a model's encoder.

    Args:
        model: a transformers model with a head.
        setting: what needs to know, for the error: `layer_decay: 0.9`.

    Raises:
        UserError: its layers share their weights, or there is no list of them.
    """
    config = model.config
    count = getattr(config, "num_hidden_layers", 0)
    if getattr(config, "num_hidden_groups", count) < count:
        raise UserError(
            f"{setting} needs layers with weights of their own, and the {count} layers of this `{config.model_type}` "
            f"share {config.num_hidden_groups} set{'s' if config.num_hidden_groups > 1 else ''} of weights; "
            "leave the setting out, or freeze the whole encoder with freeze_encoder: true"
        )
    found: list[str] = []
    for name, module in model.base_model.named_modules():
        inner = any(name.startswith(f"{outer}.") for outer in found)
        if isinstance(module, nn.ModuleList) and len(module) == count and not inner:
            found.append(name)
    if len(found) != 1:
        lists = f"{len(found)} such lists ({', '.join(found)})" if found else "no such list"
        raise UserError(
            f"{setting} needs the encoder's layers, a module list of {count} entries (num_hidden_layers), and this "
            f"`{config.model_type}` has {lists}; leave the setting out"
        )
    encoder = f"{model.base_model_prefix}."
    return Layers(encoder, f"{encoder}{found[0]}.", count, config.model_type in _NORM_OF_POSITIONS)


@torch.no_grad()
def reinitialise(model: PreTrainedModel, layers: Layers, highest: int) -> None:
    """Give the highest layers and what the encoder has above them, its pooler, new weights as its configuration says,
    drawn from torch's global generator (Zhang et al. 2021, "Revisiting few-sample BERT fine-tuning", section 4).

    Raises:
        UserError: it has fewer layers.
    """
    if highest > layers.count:
        raise UserError(f"reinitialise_layers: {highest}, and the encoder has {layers.count} layers")
    fresh = AutoModelForSequenceClassification.from_config(model.config).state_dict()
    for name, value in model.state_dict().items():
        if name.startswith(layers.encoder) and layers.depth(name) > layers.count - highest:
            value.copy_(fresh[name])
