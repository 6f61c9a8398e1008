"""Documents as runs of tokenized sentences: what objectives on pairs of segments are made from."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftjobs.data.examples.sentences import sentences
from ftjobs.data.examples.tokenization import Tokens, tokenize


@dataclass(frozen=True)
class Documents:
    """The sentences of D documents, S in all."""

    tokens: Tokens
    """Of the sentences, without special tokens."""
    offsets: np.ndarray
    """int64 (D + 1,): sentences `offsets[i]:offsets[i + 1]` are document i."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sentences(self) -> np.ndarray:
        """Sentences per document: int64 (D,)."""
        return np.diff(self.offsets)


def tokenize_documents(
    tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], longest: int, words: bool = False
) -> Documents:
    """Split documents into sentences, and tokenize these.

    A sentence of more than `longest` tokens is divided evenly into parts that count as sentences: to BERT "a sentence
    can be an arbitrary span of contiguous text" (Devlin et al. 2019, section 3).

    Args:
        tokenizer: a fast tokenizer.
        texts: D documents.
        longest: most tokens of a sentence.
        words: also find out where words begin.
    """
    counts = array("q")

    def in_order() -> Iterator[str]:
        for text in texts:
            found = sentences(text)
            counts.append(len(found))
            yield from found

    tokens = tokenize(tokenizer, in_order(), None, None, words, special_tokens=False)
    lengths = tokens.lengths
    parts = -(-lengths // longest)  # none of a sentence whose characters the tokenizer drops
    documents = np.cumsum(np.concatenate([[0], parts]))[np.cumsum(np.concatenate([[0], counts]), dtype=np.int64)]
    return Documents(replace(tokens, offsets=_divided(tokens.offsets, lengths, parts)), documents)


def _divided(offsets: np.ndarray, lengths: np.ndarray, parts: np.ndarray) -> np.ndarray:
    """Offsets of the parts of sentences, as even as can be."""
    first = np.repeat(np.cumsum(parts) - parts, parts)
    number = np.arange(len(first)) - first + 1  # of each part within its sentence, from 1
    ends = np.repeat(offsets[:-1], parts) + number * np.repeat(lengths, parts) // np.repeat(parts, parts)
    return np.concatenate([[0], ends]).astype(np.int64)
