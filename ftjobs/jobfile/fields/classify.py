"""The fields of a `classify` stage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from ftjobs.jobfile.fields.base import NonEmpty
from ftjobs.jobfile.fields.data import Data
from ftjobs.jobfile.fields.training import TrainingFields
from ftjobs.tasks import metric_names

if TYPE_CHECKING:
    MetricName = str
else:
    MetricName = Literal[metric_names()]

ClassWeights = Annotated[dict[NonEmpty, Annotated[float, Field(gt=0, le=1e6)]], Field(min_length=1)]
_UNFREEZE = r"^(all|gradual|last-[1-9][0-9]{0,2})$"


def _unfreeze(value: str) -> str:
    if not re.match(_UNFREEZE, value):
        raise ValueError(f"should be `all`, `gradual`, or `last-N` such as `last-2`, not {value!r}")
    return value


class Classify(TrainingFields):
    """Train a classifier on the labels, on a frozen or a fine-tuned encoder."""

    kind: Literal["classify"] = "classify"
    data: Data | None = None
    """Data of its own: an intermediate task, whose encoder a later stage takes (`encoder: <this stage>`) and whose head
    is rebuilt there for the other classes (Phang et al. 2018, Sentence Encoders on STILTs, section 2; which tasks help:
    Pruksachatkun et al. 2020, Intermediate-Task Transfer Learning, section 4). It is trained and measured on that data
    only, so it is not compared with the job's strategies."""
    freeze_encoder: bool = False
    """Train only the head: the encoder keeps every weight that came from its checkpoint."""
    encoder_dropout: bool = False
    """With a frozen encoder: leave its dropout on and run it every epoch. Slow and noisy; for comparison only."""
    metric_for_best: MetricName = "accuracy"
    """The best epoch is the first with the highest accuracy or F1, or the lowest loss. Labels that are numbers
    (`label_type: float`) have `mse`, which is their default and the lowest is best, `pearson` and `spearman`, the
    correlations; `multi` has `accuracy` (every label of a row right), `f1` (micro) and `f1_macro`."""
    unfreeze: Annotated[str, AfterValidator(_unfreeze), WithJsonSchema({"type": "string", "pattern": _UNFREEZE})] = (
        "all"
    )
    """Which of the encoder's layers are trained with the head (and its pooler): `all`; `last-N`, the highest N, while
    those below and the embeddings keep their weights; or `gradual`, none in the first epoch, then in each epoch one
    more from the top, and after the lowest the embeddings (Howard and Ruder 2018, "Universal language model fine-tuning
    for text classification", section 3.3). Layers that the epochs do not suffice for stay as they were. Dropout acts
    in all layers."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Learning rate of each layer as a share of that of the one above it: the head has `learning_rate`, the highest
    layer this times as much, and the embeddings, as the lowest layer, least (Howard and Ruder 2018, section 3.1, who
    take 1 / 2.6; Clark et al. 2020, "ELECTRA", appendix B, who take 0.8 or 0.9). 1 is off."""
    reinitialise_layers: Annotated[int, Field(ge=0, le=999)] = 0
    """Give this many layers, from the top, and the pooler new random weights before training, as the encoder's
    configuration initialises them (Zhang et al. 2021, "Revisiting few-sample BERT fine-tuning", section 4)."""
    class_weights: Literal["balanced"] | ClassWeights | None = None
    """How much an example counts in the training loss, by its class: `balanced`, as scikit-learn has it, examples /
    (classes * examples of the class) in the training split; or `{name: weight}`, 1 where no weight is given. The loss
    is the weighted mean, that of `torch.nn.CrossEntropyLoss(weight=...)`; evaluation is unweighted."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that training spreads evenly over all classes (Szegedy et al. 2016, "Rethinking the Inception
    architecture for computer vision", section 7); the losses that evaluation reports are unsmoothed."""

    @model_validator(mode="after")
    def _dropout_needs_frozen(self) -> Classify:
        if self.encoder_dropout and not self.freeze_encoder:
            raise ValueError("encoder_dropout only has a meaning with freeze_encoder: true")
        return self

    @model_validator(mode="after")
    def _frozen_is_not_tuned(self) -> Classify:
        if not self.freeze_encoder:
            return self
        if self.unfreeze != "all":
            raise ValueError(f"freeze_encoder: true and unfreeze: {self.unfreeze} contradict each other; keep one")
        if self.layer_decay != 1:
            raise ValueError("layer_decay has no meaning with freeze_encoder: true, which trains no layer")
        if self.reinitialise_layers:
            raise ValueError(
                "reinitialise_layers with freeze_encoder: true would freeze random weights; "
                f"unfreeze: last-{self.reinitialise_layers} trains the head and those layers only"
            )
        return self

    @model_validator(mode="after")
    def _lora_keeps_the_encoder(self) -> Classify:
        if self.lora is None:
            return self
        for name, plain in (
            ("freeze_encoder", False),
            ("unfreeze", "all"),
            ("layer_decay", 1),
            ("reinitialise_layers", 0),
        ):
            if (value := getattr(self, name)) != plain:
                raise ValueError(
                    f"{name}: {str(value).lower()} says how the encoder's own weights are trained, and with lora they "
                    "are not; keep one"
                )
        return self

    @model_validator(mode="after")
    def _new_layers_are_trained(self) -> Classify:
        if self.unfreeze in ("all", "gradual"):
            return self
        if int(self.unfreeze.removeprefix("last-")) < self.reinitialise_layers:
            raise ValueError(
                f"reinitialise_layers: {self.reinitialise_layers} with unfreeze: {self.unfreeze} would freeze random "
                f"weights; write last-{self.reinitialise_layers} or more"
            )
        return self
