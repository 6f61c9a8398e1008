"""The fields of an `adapt` stage."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, model_validator

from ftjobs.jobfile.fields.common import Fields, TrainingFields
from ftjobs.jobfile.fields.encoder import Vocabulary
from ftjobs.jobfile.fields.text_sources import Corpus
from ftjobs.objectives import DEFAULT_OBJECTIVE, all_objectives, get_objective, objective_names

if TYPE_CHECKING:
    ObjectiveName = str
else:
    ObjectiveName = Literal[objective_names()]

Share = Annotated[float, Field(ge=0, le=1)]
_OBJECTIVES = " ".join(f"`{objective.name}`: {objective.description}" for objective in all_objectives())


class Replace(Fields):
    """Replacements of the tokens to predict, as shares that sum to 1 (Devlin et al. 2019, section 3.1)."""

    mask: Share = 0.8
    """Replaced by the mask token."""
    random: Share = 0.1
    """Replaced by a random token of the vocabulary."""
    keep: Share = 0.1
    """Left unchanged."""

    @model_validator(mode="after")
    def _sum_to_one(self) -> Replace:
        total = self.mask + self.random + self.keep
        if not math.isclose(total, 1, abs_tol=1e-9):
            raise ValueError(
                f"mask {self.mask:g}, random {self.random:g} and keep {self.keep:g} sum to {total:g}, not 1; "
                "set all three"
            )
        return self


class Adapt(TrainingFields):
    """Continue pretraining the encoder on texts of the domain, without labels."""

    kind: Literal["adapt"] = "adapt"
    objective: Annotated[ObjectiveName, Field(description=_OBJECTIVES)] = DEFAULT_OBJECTIVE
    mlm_probability: Annotated[float, Field(gt=0, lt=1)] = 0.15
    """Share of tokens to predict. `replace` determines their replacements: by default 80 % are masked, 10 % replaced by
    a random token, 10 % unchanged."""
    masking: Literal["token", "whole-word", "span"] = "token"
    """Unit of masking. `token`: each token independently (Devlin et al. 2019, section 3.1). `whole-word`: words with
    all their pieces (Devlin et al.'s later checkpoints; Cui et al. 2021, section 3.1), each piece replaced
    independently. `span`: one to ten consecutive words, 3.8 on average, replaced alike (SpanBERT: Joshi et al. 2020,
    section 3.1). Words are those of the encoder's tokenizer; the share of tokens is `mlm_probability` in all cases."""
    replace: Replace = Replace()
    """Replacements of the tokens to predict. Not for `replaced-token`, whose generator gets mask tokens only."""
    generator_size: Annotated[float, Field(gt=0, le=1)] = 0.25
    """Width of a new generator for `replaced-token`, as a share of the encoder's, with as many layers and the same
    embeddings; a quarter to a half is best (Clark et al. 2020, section 3.2). An encoder that was trained with this
    objective before has a generator, and so does an encoder folder with a subfolder `generator`."""
    corpus: Literal["train", "all"] | Corpus = "train"
    """`train`: texts of the training split. `all`: texts of all splits (validation and test texts without labels). Or a
    separate corpus, which a stage `<stage>-corpus` downloads and cleans once. The best epoch is then the one with the
    lowest loss on held-out passages of that corpus; the loss on the task's texts is reported too."""
    vocabulary: Vocabulary | None = None
    """Words of the domain to add to the tokenizer before training."""

    @model_validator(mode="after")
    def _vocabulary_needs_full_training(self) -> Adapt:
        if self.vocabulary is not None and self.lora is not None:
            raise ValueError(
                "`vocabulary` and `lora` exclude each other: LoRA does not train embeddings, so new words would keep "
                "their initial embeddings; remove one"
            )
        return self

    @model_validator(mode="after")
    def _settings_apply_to_objective(self) -> Adapt:
        objective = get_objective(self.objective)
        for field in sorted(frozenset().union(*(other.settings for other in all_objectives()))):
            if field not in objective.settings and getattr(self, field) != type(self).model_fields[field].default:
                applicable = ", ".join(other.name for other in all_objectives() if field in other.settings)
                raise ValueError(
                    f"{field} does not apply to objective: {self.objective}; remove it, or use one of: {applicable}"
                )
        return self

    @model_validator(mode="after")
    def _objective_determines_examples(self) -> Adapt:
        unit, corpus = get_objective(self.objective).example_unit, self.corpus
        if unit is not None and isinstance(corpus, Corpus) and (corpus.unit == "sentence" or corpus.isolate):
            raise ValueError(
                f"objective: {self.objective} builds {unit} of segments from each passage, so unit: sentence and "
                "isolate do not apply; remove corpus.unit and corpus.isolate"
            )
        return self
