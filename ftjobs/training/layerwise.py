"""Layer-wise fine-tuning: partial and gradual unfreezing, layer-wise learning-rate decay, new top layers.

Every encoder in transformers has its layers in one `ModuleList` of `num_hidden_layers` entries, of any name
(`encoder.layer`, `transformer.layer`, `layers`). Parameters outside the list count as embeddings (word and position
embeddings, their projection, DeBERTa's and MPNet's relative positions), except a pooler and a final norm.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, PreTrainedModel

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Classify
from ftjobs.system.progress import LOG

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


@dataclass(frozen=True)
class LayerwiseTraining:
    """Schedule and learning rates of the layers of a model."""

    layers: Layers
    settings: Classify

    def lr_factor(self, name: str) -> float:
        """Return the factor of a parameter's learning rate: 1 in the head, `layer_decay` in the highest layer, its
        square in the next; the embeddings count as the lowest layer."""
        return float(self.settings.layer_decay ** (self.layers.top - self.layers.depth(name)))

    def first_epoch(self, name: str) -> float:
        """Return the first epoch that trains a parameter, infinity for frozen ones. It depends on settings only, so it
        is not part of the training state."""
        below_top = self.layers.top - self.layers.depth(name)
        if self.settings.unfreeze == "gradual":
            return max(1, 1 + below_top - self.settings.reinitialise_layers)
        return 1 if below_top <= self.trained_layers else float("inf")

    @property
    def trained_layers(self) -> int:
        """Number of layers trained in the last epoch, from the top; the embeddings count as the lowest layer."""
        if self.settings.unfreeze == "all":
            return self.layers.top
        if self.settings.unfreeze == "gradual":
            return min(self.layers.top, self.settings.epochs - 1 + self.settings.reinitialise_layers)
        return int(self.settings.unfreeze.removeprefix("last-"))

    @property
    def changes(self) -> bool:
        """True if the set of trained parameters differs between epochs."""
        return self.settings.unfreeze == "gradual"

    def parameters(self, model: nn.Module) -> dict[str, int]:
        """Return the numbers of parameters: `trained` in any epoch, and `all`."""
        counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
        trained = sum(count for name, count in counts.items() if self.first_epoch(name) <= self.settings.epochs)
        return {"trained": trained, "all": sum(counts.values())}

    def start_epoch(self, epoch: int, parameters: Mapping[str, nn.Parameter]) -> None:
        """Enable gradients of the `parameters` that `epoch` trains, and disable those of the others. Optimizers skip
        parameters without gradients: no update, no decay, no moments."""
        for name, parameter in parameters.items():
            parameter.requires_grad = self.first_epoch(name) <= epoch


def prepare(model: PreTrainedModel, settings: Classify) -> LayerwiseTraining | None:
    """Reinitialize layers and freeze parameters that no epoch trains, as the settings require.

    Returns:
        None if all parameters are trained alike.

    Raises:
        UserError: the encoder has fewer layers than the settings name, or no separate layers.
    """
    non_default = [
        f"{name}: {getattr(settings, name)}"
        for name in ("unfreeze", "layer_decay", "reinitialise_layers")
        if getattr(settings, name) != Classify.model_fields[name].default
    ]
    if not non_default:
        return None
    encoder_layers = find_layers(model, non_default[0])
    layerwise = LayerwiseTraining(encoder_layers, settings)
    if settings.reinitialise_layers:
        reinitialize(model, encoder_layers, settings.reinitialise_layers)
        LOG.info(
            "reinitialized: the highest %d of %d layers, and the pooler",
            settings.reinitialise_layers,
            encoder_layers.count,
        )
    if settings.unfreeze not in ("all", "gradual") and layerwise.trained_layers > encoder_layers.count:
        raise UserError(
            f"unfreeze: {settings.unfreeze}, but the encoder has {encoder_layers.count} layers; write "
            f"last-{encoder_layers.count} to freeze its embeddings only, or all"
        )
    layerwise.start_epoch(settings.epochs, dict(model.named_parameters()))
    if frozen := encoder_layers.top - layerwise.trained_layers:
        LOG.info("frozen: the embeddings and the lowest %d of %d layers", frozen - 1, encoder_layers.count)
    return layerwise


def find_layers(model: PreTrainedModel, setting: str) -> Layers:
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
