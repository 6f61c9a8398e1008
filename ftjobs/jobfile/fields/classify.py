"""The fields of a `classify` stage."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from ftjobs.jobfile.fields.data import Data
from ftjobs.jobfile.fields.training import TrainingFields


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
    metric_for_best: Literal["accuracy", "f1", "loss"] = "accuracy"
    """The best epoch is the first with the highest accuracy or F1, or the lowest loss."""

    @model_validator(mode="after")
    def _dropout_needs_frozen(self) -> Classify:
        if self.encoder_dropout and not self.freeze_encoder:
            raise ValueError("encoder_dropout only has a meaning with freeze_encoder: true")
        return self
