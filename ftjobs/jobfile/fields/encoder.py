"""The encoder, and its extension by new vocabulary."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from ftjobs.jobfile.fields.common import Fields, NonEmpty, Seed

#: Default `min_count` of words that are selected from the texts.
_DEFAULT_MIN_COUNT = 5


class Scratch(Fields):
    """A new encoder: a WordPiece vocabulary trained on the job's texts and a BERT with random weights. For domains
    without a pretrained model, and for tests without a download."""

    vocab_size: Annotated[int, Field(ge=100, le=200_000)] = 8_000
    """Maximum size of the WordPiece vocabulary."""
    hidden_size: Annotated[int, Field(ge=8, le=4096)] = 128
    """Dimension of the hidden states; a multiple of `num_attention_heads`."""
    num_hidden_layers: Annotated[int, Field(ge=1, le=96)] = 2
    """Number of transformer layers."""
    num_attention_heads: Annotated[int, Field(ge=1, le=128)] = 2
    """Number of attention heads per layer."""
    intermediate_size: Annotated[int, Field(ge=8)] | None = None
    """Dimension of the feed-forward layers; by default four times `hidden_size`."""
    max_position_embeddings: Annotated[int, Field(ge=8, le=65_536)] = 512
    """Maximum input length in tokens."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.1
    """Dropout probability of hidden states and attention."""
    lowercase: bool = True
    """Lower-case texts and strip accents before tokenization."""
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
    """The encoder that every strategy starts from: a pretrained `model`, or one from `scratch`."""

    model: NonEmpty | None = None
    """Hub id such as `google-bert/bert-base-cased`; or a folder or s3:// prefix that `from_pretrained` can load."""
    revision: NonEmpty = "main"
    """Branch, tag or commit on the hub. `prepare` records the resolved commit."""
    scratch: Scratch | None = None
    """Create a new encoder instead of loading a pretrained one."""

    @model_validator(mode="after")
    def _one_origin(self) -> Encoder:
        if (self.model is None) == (self.scratch is None):
            raise ValueError("requires exactly one of `model` (hub id or folder) and `scratch` (a new encoder)")
        return self


class Vocabulary(Fields):
    """Domain words to add to the tokenizer as single tokens (Gee et al. 2022, "Fast vocabulary transfer for language
    model compression", section 3; Sachidananda et al. 2021, "Efficient domain adaptation of language models via
    adaptive tokenization", section 3)."""

    add: Annotated[int, Field(ge=1, le=100_000)] | Annotated[list[NonEmpty], Field(min_length=1)] | NonEmpty
    """Words to add: a number, which selects the words that save most tokens in the stage's texts (occurrences times
    tokens less one); a list of words; or the path of a file with one word per line, relative to the job file. Other
    words that contain an added word are tokenized as before."""
    min_count: Annotated[int, Field(ge=1)] | None = None
    """Minimum occurrences of an added word in the stage's texts; by default 5 for selected words, none for listed
    ones."""
    init: Literal["mean-of-pieces", "random"] = "mean-of-pieces"
    """Initialization of the new embeddings. `mean-of-pieces`: mean of the embeddings of the word's former tokens, also
    in the output layer and its bias (Gee et al. 2022, section 3; compared with `random` by Hewitt 2021, "Initializing
    new word embeddings for pretrained language models"). `random`: as in a new model, with a bias of 0."""

    @field_validator("add")
    @classmethod
    def _check_words(cls, add: int | list[str] | str) -> int | list[str] | str:
        if isinstance(add, list):
            for word in add:
                if word.split() != [word]:
                    raise ValueError(f"{word!r} is not a single word; write words without spaces")
            repeated = sorted({word for word in add if add.count(word) > 1}) if len(set(add)) < len(add) else []
            if repeated:
                raise ValueError(f"{repeated[0]!r} is repeated; remove one")
        if isinstance(add, str):  # `read` has replaced the paths of word lists by their words
            raise ValueError(f"{add!r} is not a file here; write a number, words, or a path relative to the job file")
        return add

    @property
    def required_count(self) -> int:
        """Minimum occurrences of an added word."""
        if self.min_count is not None:
            return self.min_count
        return _DEFAULT_MIN_COUNT if isinstance(self.add, int) else 0
