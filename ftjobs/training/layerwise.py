"""Fine-tuning an encoder unevenly: which of its layers are trained, from which epoch on, and how fast."""

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
    """What the settings of a stage mean for the layers of its model."""

    layers: Layers
    settings: Classify

    def factor(self, name: str) -> float:
        """What the learning rate of a parameter is multiplied with: 1 in the head, `layer_decay` in the highest layer,
        its square in the next; the embeddings are the lowest layer."""
        return float(self.settings.layer_decay ** (self.layers.top - self.layers.depth(name)))

    def first_epoch(self, name: str) -> float:
        """The epoch from which on a parameter is trained, infinity for never; a function of nothing that training
        does, so a resumed run needs not be told."""
        below_top = self.layers.top - self.layers.depth(name)
        if self.settings.unfreeze == "gradual":
            return max(1, 1 + below_top - self.settings.reinitialise_layers)
        return 1 if below_top <= self.trained_layers else float("inf")

    @property
    def trained_layers(self) -> int:
        """Trained in the end, counted from the top; the embeddings count as one below the lowest."""
        if self.settings.unfreeze == "all":
            return self.layers.top
        if self.settings.unfreeze == "gradual":
            return min(self.layers.top, self.settings.epochs - 1 + self.settings.reinitialise_layers)
        return int(self.settings.unfreeze.removeprefix("last-"))

    @property
    def changes(self) -> bool:
        """Whether other parameters are trained in one epoch than in another."""
        return self.settings.unfreeze == "gradual"

    def parameters(self, model: nn.Module) -> dict[str, int]:
        """How many parameters the model has in `all`, and how many are `trained` in any epoch."""
        counts = {name: parameter.numel() for name, parameter in model.named_parameters()}
        trained = sum(count for name, count in counts.items() if self.first_epoch(name) <= self.settings.epochs)
        return {"trained": trained, "all": sum(counts.values())}

    def begin(self, epoch: int, parameters: Mapping[str, nn.Parameter]) -> None:
        """Let those of `parameters` have gradients that `epoch` trains. An optimizer passes over the others: without a
        gradient there is no update, no decay, and no moment."""
        for name, parameter in parameters.items():
            parameter.requires_grad = self.first_epoch(name) <= epoch


def prepare(model: PreTrainedModel, settings: Classify) -> LayerwiseTraining | None:
    """Make new what is to be made new, and freeze for good what is never trained.

    Returns:
        None where all parameters are trained alike.

    Raises:
        UserError: the encoder has not as many layers, or none that could be told apart.
    """
    asked = [
        f"{name}: {getattr(settings, name)}"
        for name in ("unfreeze", "layer_decay", "reinitialise_layers")
        if getattr(settings, name) != Classify.model_fields[name].default
    ]
    if not asked:
        return None
    found = layers.find(model, asked[0])
    tuning = LayerwiseTraining(found, settings)
    if settings.reinitialise_layers:
        layers.reinitialise(model, found, settings.reinitialise_layers)
        LOG.info("new weights: the highest %d of %d layers, and the pooler", settings.reinitialise_layers, found.count)
    if settings.unfreeze not in ("all", "gradual") and tuning.trained_layers > found.count:
        raise UserError(
            f"unfreeze: {settings.unfreeze}, and the encoder has {found.count} layers; write last-{found.count} to "
            "freeze its embeddings only, or all"
        )
    tuning.begin(settings.epochs, dict(model.named_parameters()))
    if frozen := found.top - tuning.trained_layers:
        LOG.info("frozen: the embeddings and the lowest %d of %d layers", frozen - 1, found.count)
    return tuning
