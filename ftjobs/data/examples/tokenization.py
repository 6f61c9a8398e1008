"""Texts to token ids, kept as flat arrays in files: no padding is stored, and memory does not grow with the texts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from ftjobs.data.examples.words import word_starts
from ftjobs.data.memory_mapped import ArrayFile

#: Texts tokenized at once, in parallel: their encodings take about 100 bytes a token.
_TEXTS, _CHARACTERS = 2_000, 1_000_000


@dataclass(frozen=True)
class Tokens:
    """Token ids of N texts (or pairs), T tokens in all. Text i lies at `offsets[i]:offsets[i + 1]`."""

    input_ids: np.ndarray
    """int32 (T,)"""
    special: np.ndarray
    """bool (T,): added by the tokenizer, such as [CLS] and [SEP], not part of the text."""
    token_type_ids: np.ndarray | None
    """int8 (T,): 0 for the first text of a pair, 1 for the second; None where the model takes none."""
    offsets: np.ndarray
    """int64 (N + 1,)"""
    truncated: int
    """Texts that were longer than `max_length` and lost their end."""
    word_starts: np.ndarray | None = None
    """bool (T,): tokens that begin a word; None where nobody asked for words."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text: int64 (N,)."""
        return np.diff(self.offsets)


def tokenize(
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    pairs: Iterable[str] | None,
    max_length: int | None,
    words: bool = False,
    special_tokens: bool = True,
) -> Tokens:
    """Tokenize texts, or pairs of texts, cutting the longer text first where a pair exceeds `max_length`.

    Args:
        tokenizer: a fast tokenizer.
        texts: N texts.
        pairs: the second text of each pair, or None.
        max_length: most tokens per text or pair, special tokens included; None to cut nothing.
        words: also find out where words begin, which takes longer.
        special_tokens: add those that the encoder's inputs have.

    Raises:
        UserError: words are asked for, and the tokenizer does not tell them apart.
    """
    ids, special = ArrayFile(np.int32), ArrayFile(bool)
    types = ArrayFile(np.int8) if "token_type_ids" in tokenizer.model_input_names else None
    starts, of_words = (ArrayFile(bool), word_starts(tokenizer)) if words else (None, None)
    lengths: list[np.ndarray] = []
    truncated = 0
    for encodings in _encoded(tokenizer, texts, pairs, max_length, words, special_tokens):
        for encoding in encodings:
            ids.append(encoding.ids)
            special.append(encoding.special_tokens_mask)
            if types is not None:
                types.append(encoding.type_ids)
            if starts is not None and of_words is not None:
                starts.append(of_words(encoding))
            # What was cut off is copied where it is asked for, and whatever lost some of it has the full length.
            truncated += len(encoding) == max_length and bool(encoding.overflowing)
        lengths.append(_lengths(encodings))
    return Tokens(
        input_ids=ids.mapped(),
        special=special.mapped(),
        token_type_ids=None if types is None else types.mapped(),
        offsets=np.concatenate([[0], *lengths]).cumsum(dtype=np.int64),
        truncated=truncated,
        word_starts=None if starts is None else starts.mapped(),
    )


def count_tokens(tokenizer: PreTrainedTokenizerBase, texts: Iterable[str], pairs: Iterable[str] | None) -> np.ndarray:
    """Tokens per text or pair, special tokens included and nothing cut: int64 (N,)."""
    lengths = [_lengths(encodings) for encodings in _encoded(tokenizer, texts, pairs, None)]
    return np.concatenate([np.zeros(0, np.int64), *lengths])


def _lengths(encodings: list[Any]) -> np.ndarray:
    return np.array([len(encoding) for encoding in encodings], dtype=np.int64)


def _encoded(
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    pairs: Iterable[str] | None,
    max_length: int | None,
    words: bool = False,
    special_tokens: bool = True,
) -> Iterator[list[Any]]:
    """The `tokenizers.Encoding` of each text, a batch at a time, without word ids and character offsets unless asked.

    As `tokenizer(texts, pairs, truncation="longest_first")` encodes them, without copying all fields to lists first.
    """
    cut = TruncationStrategy.DO_NOT_TRUNCATE if max_length is None else TruncationStrategy.LONGEST_FIRST
    tokenizer.set_truncation_and_padding(PaddingStrategy.DO_NOT_PAD, cut, max_length, 0, None, None)
    rust = tokenizer.backend_tokenizer
    rust.encode_special_tokens = tokenizer.split_special_tokens
    encode = rust.encode_batch if words else rust.encode_batch_fast
    for batch in _batches(texts if pairs is None else zip(texts, pairs, strict=True)):
        yield encode(batch, add_special_tokens=special_tokens)


def _batches(rows: Iterable[str | tuple[str, str]]) -> Iterator[list[str | tuple[str, str]]]:
    batch: list[str | tuple[str, str]] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row) if isinstance(row, str) else len(row[0]) + len(row[1])
        if len(batch) == _TEXTS or characters >= _CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
