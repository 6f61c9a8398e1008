"""The encoder that every strategy starts from."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from ftjobs.jobfile.fields.base import Fields, NonEmpty, Seed


class Scratch(Fields):
    """An encoder made on the spot: a WordPiece vocabulary trained on the job's own texts, and a small BERT with random
    weights. For domains that no pretrained model covers, and for trying things out without a download."""

    vocab_size: Annotated[int, Field(ge=100, le=200_000)] = 8_000
    """Most entries the WordPiece vocabulary may have."""
    hidden_size: Annotated[int, Field(ge=8, le=4096)] = 128
    """Width of the encoder; a multiple of `num_attention_heads`."""
    num_hidden_layers: Annotated[int, Field(ge=1, le=96)] = 2
    """Number of transformer layers."""
    num_attention_heads: Annotated[int, Field(ge=1, le=128)] = 2
    """Attention heads per layer."""
    intermediate_size: Annotated[int, Field(ge=8)] | None = None
    """Width of the feed-forward layers; four times `hidden_size` unless set."""
    max_position_embeddings: Annotated[int, Field(ge=8, le=65_536)] = 512
    """Longest input, in tokens."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout of hidden states and attention."""
    lowercase: bool = True
    """Lower-case texts and strip accents before looking words up."""
    seed: Seed = 0
    """Seed of the initial weights."""

    @model_validator(mode="after")
    def _heads_divide_width(self) -> Scratch:
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size {self.hidden_size} is not a multiple of num_attention_heads {self.num_attention_heads}"
            )
        return self


class Encoder(Fields):
    """The pretrained encoder every strategy starts from: `model`, or `scratch`."""

    model: NonEmpty | None = None
    """Hub id such as `google-bert/bert-base-cased`, or a folder that `from_pretrained` loads."""
    revision: NonEmpty = "main"
    """Branch, tag or commit on the hub; resolved to a commit and recorded when the job is prepared."""
    scratch: Scratch | None = None
    """Make an encoder on the spot instead of loading one."""

    @model_validator(mode="after")
    def _one_origin(self) -> Encoder:
        if (self.model is None) == (self.scratch is None):
            raise ValueError("needs exactly one of `model` (hub id or folder) and `scratch` (made on the spot)")
        return self
