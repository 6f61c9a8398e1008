"""Layer-wise fine-tuning: partial and gradual unfreezing, layer-wise learning-rate decay, new top layers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from ftjobs.errors import UserError
from ftjobs.jobfile.fields import Classify
from ftjobs.models import layers
from ftjobs.models.layers import Layers
from ftjobs.system.progress import LOG


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
    encoder_layers = layers.find(model, non_default[0])
    layerwise = LayerwiseTraining(encoder_layers, settings)
    if settings.reinitialise_layers:
        layers.reinitialize(model, encoder_layers, settings.reinitialise_layers)
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
