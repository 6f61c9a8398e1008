"""The fields of an `adapt` stage."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from ftjobs.jobfile.fields.training import TrainingFields


class Adapt(TrainingFields):
    """Go on pretraining the encoder on the domain's texts, without labels."""

    kind: Literal["adapt"] = "adapt"
    objective: Literal["mlm"] = "mlm"
    """Masked language modelling, one sentence an example (Devlin et al. 2019, section 3.1)."""
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of tokens to predict; of these 80 % are masked, 10 % replaced by a random token, 10 % kept."""
    corpus: Literal["train", "all"] = "train"
    """Texts of the training split only, or of all splits (validation and test texts without their labels)."""
