"""The fields of an `adapt` stage."""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ftjobs.jobfile.fields.base import Fields
from ftjobs.jobfile.fields.corpus import Corpus
from ftjobs.jobfile.fields.training import TrainingFields
from ftjobs.jobfile.fields.vocabulary import Vocabulary

Share = Annotated[float, Field(ge=0, le=1)]
#: Shares that objectives measure beside that of masked tokens guessed right: their names in metrics, and in words.
OBJECTIVE_FIGURES = {
    "nsp_accuracy": "next segments told from others",
    "sop_accuracy": "segments in order told from swapped ones",
    "replaced_accuracy": "replaced tokens told from original ones",
    "replaced_f1": "F1 of replaced tokens",
}


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
    objective: Literal["mlm", "mlm+nsp", "mlm+sop", "replaced-token"] = "mlm"
    """`mlm`: masked language modelling, one text an example (Devlin et al. 2019, section 3.1). `mlm+nsp`: besides,
    whether the second of two segments is the next one of the document, which half of them are (same section); for BERT.
    `mlm+sop`: besides, whether two segments are in order (Lan et al. 2020, section 3.1); for ALBERT. `replaced-token`:
    which tokens a small generator, trained beside it by masked language modelling, has replaced (Clark et al. 2020,
    section 3); for ELECTRA."""
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of tokens to predict; of these 80 % are masked, 10 % replaced by a random token, 10 % kept, unless
    `replace` says otherwise."""
    masking: Literal["token", "whole-word", "span"] = "token"
    """What is chosen as a whole. `token`: each token on its own (Devlin et al. 2019, section 3.1). `whole-word`: words
    with all their pieces (Devlin et al.'s later checkpoints; Cui et al. 2021, section 3.1), each piece replaced on its
    own. `span`: one to ten words in a row, 3.8 on average, replaced alike (SpanBERT: Joshi et al. 2020, section 3.1).
    Words are those of the encoder's tokenizer; the share of tokens is `mlm_probability` with all three."""
    replace: Replace = Replace()
    """What the tokens to predict are replaced by. Not for `replaced-token`, whose generator sees mask tokens only."""
    generator_size: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Of `replaced-token`: the width of the generator as a share of the encoder's, with as many layers and the same
    embeddings; a quarter to a half is best (Clark et al. 2020, section 3.2). An encoder that was trained so before
    brings its generator, and so does a folder of an encoder with that of its generator, `generator`, within."""
    corpus: Literal["train", "all"] | Corpus = "train"
    """Texts of the training split only, or of all splits (validation and test texts without their labels); or a corpus
    of its own, which a stage `<stage>-corpus` fetches and cleans once. The best epoch is then the one with the lowest
    loss on passages held out from that corpus; the loss on the task's texts is measured beside it."""
    vocabulary: Vocabulary | None = None
    """Words of the domain to add to the tokenizer before training."""

    @model_validator(mode="after")
    def _new_words_are_trained(self) -> Adapt:
        if self.vocabulary is not None and self.lora is not None:
            raise ValueError(
                "`vocabulary` and `lora` do not go together: LoRA leaves embeddings as they are, so new words would "
                "stay where they start; leave out one"
            )
        if self.vocabulary is not None and self.objective == "replaced-token":
            raise ValueError(
                "`vocabulary` is not for objective: replaced-token, whose generator has a vocabulary too; add words "
                "in a stage with objective: mlm, and let one with replaced-token take its encoder"
            )
        return self

    @model_validator(mode="after")
    def _of_the_objective(self) -> Adapt:
        if self.objective == "replaced-token" and self.replace != Replace():
            raise ValueError("replace has no meaning with objective: replaced-token, whose generator sees masks only")
        if (
            self.makes_pairs
            and isinstance(self.corpus, Corpus)
            and (self.corpus.unit == "sentence" or self.corpus.isolate)
        ):
            raise ValueError(
                f"objective: {self.objective} makes pairs of segments of each passage, so single sentences have "
                "nothing for it, and nothing is there to isolate; leave corpus.unit and corpus.isolate out"
            )
        if self.objective != "replaced-token" and self.generator_size != 0.25:
            raise ValueError("generator_size only has a meaning with objective: replaced-token")
        return self

    @property
    def makes_pairs(self) -> bool:
        """Whether the objective is on pairs of segments."""
        return self.objective in ("mlm+nsp", "mlm+sop")

    @property
    def in_words(self) -> str:
        """What is trained on the texts, for cards and reports."""
        of = {"token": "", "whole-word": " of whole words", "span": " of spans of words"}[self.masking]
        if self.objective == "replaced-token":
            return f"replaced-token detection, with a generator trained by masked language modelling{of}"
        pairs = {"mlm+nsp": " and next-sentence prediction", "mlm+sop": " and sentence-order prediction"}
        return f"masked language modelling{of}{pairs.get(self.objective, '')}"
