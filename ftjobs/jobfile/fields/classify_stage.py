"""The fields of a `classify` stage."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import AfterValidator, Field, WithJsonSchema, model_validator

from ftjobs.jobfile.fields.common import NonEmpty, TrainingFields
from ftjobs.jobfile.fields.text_sources import Data
from ftjobs.tasks import all_tasks, metric_names

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


_METRICS = (
    "Metric that selects the best epoch: the first epoch with its best value. By default the first metric of the "
    "label type. {}; `loss` for all."
).format(
    "; ".join(
        f"`{task.name}`: {', '.join(f'`{metric.key}`' for metric in task.metrics if metric.key != 'loss')}"
        for task in all_tasks()
    )
)


class Classify(TrainingFields):
    """Train a classifier: a linear probe on a frozen encoder, or the head and the encoder (fine-tuning)."""

    kind: Literal["classify"] = "classify"
    data: Data | None = None
    """Labeled data of an intermediate task; by default the job's data. A later stage with `encoder: <this stage>`
    continues from the encoder, with a new head if the classes differ (Phang et al. 2018, "Sentence encoders on STILTs",
    section 2; on the choice of tasks: Pruksachatkun et al. 2020, "Intermediate-task transfer learning", section 4). The
    stage is evaluated on this data and not compared with the job's strategies."""
    freeze_encoder: bool = False
    """Train the head only (linear probe). The encoder keeps every weight of its checkpoint and runs in eval mode."""
    encoder_dropout: bool = False
    """With `freeze_encoder`: keep the encoder's dropout on, which requires running it in every epoch. Slower and
    noisier; for comparison only."""
    metric_for_best: Annotated[MetricName, Field(description=_METRICS)] = "accuracy"
    unfreeze: Annotated[str, AfterValidator(_unfreeze), WithJsonSchema({"type": "string", "pattern": _UNFREEZE})] = (
        "all"
    )
    """Encoder layers to train with the head and the pooler. `all`; `last-N`: the top N layers; `gradual`: none in the
    first epoch, then one more layer per epoch from the top, and finally the embeddings (gradual unfreezing: Howard and
    Ruder 2018, "Universal language model fine-tuning for text classification", section 3.3). Dropout is active in all
    layers."""
    layer_decay: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Layer-wise learning-rate decay: the learning rate of each layer is this share of that of the layer above; the
    head has `learning_rate`, the embeddings have the lowest (discriminative fine-tuning: Howard and Ruder 2018, section
    3.1, with 1 / 2.6; Clark et al. 2020, "ELECTRA", appendix B, with 0.8 or 0.9). 1 disables it."""
    reinitialise_layers: Annotated[int, Field(ge=0, le=999)] = 0
    """Number of top layers to reinitialize with random weights before training, together with the pooler (Zhang et al.
    2021, "Revisiting few-sample BERT fine-tuning", section 4)."""
    class_weights: Literal["balanced"] | ClassWeights | None = None
    """Weight of each class in the training loss, as in `torch.nn.CrossEntropyLoss(weight=...)`. `balanced`: examples /
    (classes * examples of the class) in the training split, as in scikit-learn; or `{name: weight}`, by default 1.
    Evaluation is unweighted."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of the target that the training loss distributes evenly over all classes (Szegedy et al. 2016, "Rethinking
    the Inception architecture for computer vision", section 7). Evaluation losses are not smoothed."""

    @model_validator(mode="after")
    def _check_encoder_dropout(self) -> Classify:
        if self.encoder_dropout and not self.freeze_encoder:
            raise ValueError("encoder_dropout: true requires freeze_encoder: true; remove one or set the other")
        return self

    @model_validator(mode="after")
    def _check_frozen_encoder(self) -> Classify:
        if not self.freeze_encoder:
            return self
        if self.unfreeze != "all":
            raise ValueError(f"freeze_encoder: true and unfreeze: {self.unfreeze} contradict each other; remove one")
        if self.layer_decay != 1:
            raise ValueError(
                f"layer_decay: {self.layer_decay:g} has no effect with freeze_encoder: true, which trains no layer; "
                "remove one"
            )
        if self.reinitialise_layers:
            raise ValueError(
                f"reinitialise_layers: {self.reinitialise_layers} with freeze_encoder: true would freeze random "
                f"weights; use unfreeze: last-{self.reinitialise_layers} to train the head and these layers"
            )
        return self

    @model_validator(mode="after")
    def _check_lora(self) -> Classify:
        if self.lora is None:
            return self
        for name, default in (
            ("freeze_encoder", False),
            ("unfreeze", "all"),
            ("layer_decay", 1),
            ("reinitialise_layers", 0),
        ):
            if (value := getattr(self, name)) != default:
                raise ValueError(
                    f"{name}: {str(value).lower()} configures the training of the encoder's weights, which lora "
                    "freezes; remove one"
                )
        return self

    @model_validator(mode="after")
    def _check_reinitialized_layers(self) -> Classify:
        if self.unfreeze in ("all", "gradual"):
            return self
        if int(self.unfreeze.removeprefix("last-")) < self.reinitialise_layers:
            raise ValueError(
                f"reinitialise_layers: {self.reinitialise_layers} with unfreeze: {self.unfreeze} would freeze random "
                f"weights; use last-{self.reinitialise_layers} or more"
            )
        return self
