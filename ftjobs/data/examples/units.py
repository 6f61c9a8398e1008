"""Documents to training examples: each sentence one, each document one, or packed to full length."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Literal

from transformers import PreTrainedTokenizerBase

from ftjobs.data.examples.batching import MaskedExamples
from ftjobs.data.examples.packed import PackedExamples
from ftjobs.data.examples.packing import Frame, Packing
from ftjobs.data.examples.sentences import sentences
from ftjobs.data.examples.tokenization import Tokens, tokenize

Unit = Literal["sentence", "document", "packed", "isolated"]
"""What an example is. `isolated`: packed, and each document opens and closes as it would alone."""


def examples(
    documents: Iterable[str],
    unit: Unit,
    tokenizer: PreTrainedTokenizerBase,
    limit: int,
    masked: Callable[[Tokens], MaskedExamples],
    words: bool,
) -> MaskedExamples | PackedExamples:
    """Tokenize documents, and say how they are masked.

    Args:
        documents: texts.
        unit: what of them an example is.
        tokenizer: of the encoder.
        limit: most tokens of an example; longer sentences and documents are cut, packed ones go on in the next.
        masked: tokens to examples; their seed is that of the order in which documents are packed, too.
        words: find out where words begin.

    Raises:
        UserError: the tokenizer has nothing to put between packed documents.
    """
    if unit in ("packed", "isolated"):
        frame = Frame.of(tokenizer)
        how = masked(tokenize(tokenizer, documents, None, None, words, special_tokens=False))
        return PackedExamples(Packing(how.tokens, frame, limit, unit == "isolated", how.seed), how)
    if unit == "sentence":
        documents = chain.from_iterable(map(sentences, documents))
    return masked(tokenize(tokenizer, documents, None, limit, words))
