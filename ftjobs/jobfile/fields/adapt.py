"""The fields of an `adapt` stage."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ftjobs.jobfile.fields.base import Fields
from ftjobs.jobfile.fields.corpus import Corpus
from ftjobs.jobfile.fields.training import TrainingFields

Share = Annotated[float, Field(ge=0, le=1)]


class Replace(Fields):
    """What becomes of the tokens to predict, as shares that sum to 1 (Devlin et al. 2019, section 3.1)."""

    mask: Share = 0.8
    """Replaced by the mask token."""
    random: Share = 0.1
    """Replaced by a random token of the vocabulary."""
    keep: Share = 0.1
    """Left as they are."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Replace:
        total = self.mask + self.random + self.keep
        if not math.isclose(total, 1, abs_tol=1e-9):
            raise ValueError(
                f"mask {self.mask:g}, random {self.random:g} and keep {self.keep:g} sum to {total:g} and not to 1; "
                "give all three"
            )
        return self


class Adapt(TrainingFields):
    """Go on pretraining the encoder on the domain's texts, without labels."""

    kind: Literal["adapt"] = "adapt"
    objective: Literal["mlm"] = "mlm"
    """Masked language modelling, one sentence an example (Devlin et al. 2019, section 3.1)."""
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of tokens to predict; of these 80 % are masked, 10 % replaced by a random token, 10 % kept, unless
    `replace` says otherwise."""
    masking: Literal["token", "whole-word", "span"] = "token"
    """What is chosen as a whole. `token`: each token on its own (Devlin et al. 2019, section 3.1). `whole-word`: words
    with all their pieces (Devlin et al.'s later checkpoints; Cui et al. 2021, section 3.1), each piece replaced on its
    own. `span`: one to ten words in a row, 3.8 on average, replaced alike (SpanBERT: Joshi et al. 2020, section 3.1).
    Words are those of the encoder's tokenizer; the share of tokens is `mlm_probability` with all three."""
    replace: Replace = Replace()
    """What the tokens to predict are replaced by."""
    corpus: Literal["train", "all"] | Corpus = "train"
    """Texts of the training split only, or of all splits (validation and test texts without their labels); or a corpus
    of its own, which a stage `<stage>-corpus` fetches and cleans once. The best epoch is then the one with the lowest
    loss on passages held out from that corpus; the loss on the task's texts is measured beside it."""

    @property
    def in_words(self) -> str:
        """What is trained on the texts, for cards and reports."""
        of = {"token": "", "whole-word": " of whole words", "span": " of spans of words"}[self.masking]
        return f"masked language modelling{of}"
