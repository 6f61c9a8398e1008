"""New words for the tokenizer of an encoder that is adapted."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from ftjobs.jobfile.fields.base import Fields, NonEmpty

#: Occurrences that a chosen word needs unless `min_count` says otherwise.
_ENOUGH = 5


class Vocabulary(Fields):
    """Words of the domain that the tokenizer shatters, added to it whole (Gee et al. 2022, "Fast vocabulary transfer
    for language model compression", section 3; Sachidananda et al. 2021, "Efficient domain adaptation of language
    models via adaptive tokenization", section 3)."""

    add: Annotated[int, Field(ge=1, le=100_000)] | Annotated[list[NonEmpty], Field(min_length=1)] | NonEmpty
    """How many words to add, chosen by how many pieces they save in the texts of the stage: occurrences times pieces
    less one. Or the words themselves. Or a file with one word a line, relative to the job file. A word becomes one
    token wherever the tokenizer sees it as a word; other words that contain it are tokenized as before."""
    min_count: Annotated[int, Field(ge=1)] | None = None
    """Fewest occurrences, in the texts of the stage, of a word that is added: 5 for words that are chosen, unless set;
    words that are given are all added, unless set."""
    init: Literal["mean-of-pieces", "random"] = "mean-of-pieces"
    """Where new embeddings start. `mean-of-pieces`: at the mean of those of the word's old pieces, also in the output
    layer and its bias, so that a new word's logit is the mean of its pieces' (Gee et al. 2022, section 3; why a mean
    and not `random`: Hewitt 2021, "Initializing new word embeddings for pretrained language models"). `random`: as a
    new model's embeddings, with a bias of 0."""

    @field_validator("add")
    @classmethod
    def _whole_words(cls, add: int | list[str] | str) -> int | list[str] | str:
        if isinstance(add, list):
            for word in add:
                if word.split() != [word]:
                    raise ValueError(f"{word!r} is not one word; give words without spaces")
            twice = sorted({word for word in add if add.count(word) > 1}) if len(set(add)) < len(add) else []
            if twice:
                raise ValueError(f"{twice[0]!r} stands twice")
        if isinstance(add, str):  # the words of a file are put in its place before
            raise ValueError(f"{add!r} is no file here; give a number, words, or a path relative to the job file")
        return add

    @property
    def fewest(self) -> int:
        """Occurrences that a word needs to be added."""
        if self.min_count is not None:
            return self.min_count
        return _ENOUGH if isinstance(self.add, int) else 0
