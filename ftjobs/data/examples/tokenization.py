"""Tokenize texts into flat, memory-mapped arrays of token ids, without padding, and locate word boundaries.

Memory use does not grow with the number of texts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase
from transformers.tokenization_utils_base import TruncationStrategy
from transformers.utils import PaddingStrategy

from ftjobs.data.memory_mapped import ArrayFile
from ftjobs.errors import UserError

#: Maximum texts and characters per batch encoded in parallel; encodings take about 100 bytes a token.
_BATCH_TEXTS, _BATCH_CHARACTERS = 2_000, 1_000_000
_PROBE = "one two three"
#: First character of tokens that begin a word in SentencePiece and in byte-level BPE vocabularies.
_WORD_MARKS = ("▁", "Ġ")
#: A longer sequence of tokens is not a word but text without spaces, a URL or a table: each token counts as a word.
LONGEST_WORD = 32


@dataclass(frozen=True)
class Tokens:
    """T token ids of N texts or text pairs. Text i is `offsets[i]:offsets[i + 1]`."""

    input_ids: np.ndarray
    """int32 (T,)"""
    special: np.ndarray
    """bool (T,): special tokens such as [CLS] and [SEP] that the tokenizer added."""
    token_type_ids: np.ndarray | None
    """int8 (T,): 0 for the first text of a pair, 1 for the second; None if the model takes none."""
    offsets: np.ndarray
    """int64 (N + 1,)"""
    truncated: int
    """Number of texts that exceeded `max_length` and were cut."""
    word_starts: np.ndarray | None = None
    """bool (T,): tokens that begin a word; None if not computed."""

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
    with_word_starts: bool = False,
    special_tokens: bool = True,
) -> Tokens:
    """Tokenize texts or text pairs; a pair that exceeds `max_length` loses tokens of its longer text first.

    Args:
        tokenizer: a fast tokenizer.
        texts: N texts.
        pairs: the second text of each pair, or None.
        max_length: maximum tokens per text or pair, including special tokens; None disables truncation.
        with_word_starts: also compute `Tokens.word_starts`, which takes longer.
        special_tokens: add the special tokens of the encoder's inputs.

    Raises:
        UserError: `with_word_starts`, but the tokenizer has no word boundaries.
    """
    ids, special = ArrayFile(np.int32), ArrayFile(bool)
    types = ArrayFile(np.int8) if "token_type_ids" in tokenizer.model_input_names else None
    starts, find_starts = (ArrayFile(bool), word_start_finder(tokenizer)) if with_word_starts else (None, None)
    lengths: list[np.ndarray] = []
    truncated = 0
    for encodings in _encode(tokenizer, texts, pairs, max_length, with_word_starts, special_tokens):
        for encoding in encodings:
            ids.append(encoding.ids)
            special.append(encoding.special_tokens_mask)
            if types is not None:
                types.append(encoding.type_ids)
            if starts is not None and find_starts is not None:
                starts.append(find_starts(encoding))
            # Reading `overflowing` copies it; only encodings of full length can have any.
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
    """Count the tokens of each text or pair, including special tokens, without truncation: int64 (N,)."""
    lengths = [_lengths(encodings) for encodings in _encode(tokenizer, texts, pairs, None)]
    return np.concatenate([np.zeros(0, np.int64), *lengths])


def _lengths(encodings: list[Any]) -> np.ndarray:
    return np.array([len(encoding) for encoding in encodings], dtype=np.int64)


def _encode(
    tokenizer: PreTrainedTokenizerBase,
    texts: Iterable[str],
    pairs: Iterable[str] | None,
    max_length: int | None,
    with_word_ids: bool = False,
    special_tokens: bool = True,
) -> Iterator[list[Any]]:
    """Yield batches of `tokenizers.Encoding`, with word ids and character offsets only if `with_word_ids`.

    Equal to `tokenizer(texts, pairs, truncation="longest_first")`, which would first copy every field into lists.
    """
    truncation = TruncationStrategy.DO_NOT_TRUNCATE if max_length is None else TruncationStrategy.LONGEST_FIRST
    tokenizer.set_truncation_and_padding(PaddingStrategy.DO_NOT_PAD, truncation, max_length, 0, None, None)
    backend = tokenizer.backend_tokenizer
    backend.encode_special_tokens = tokenizer.split_special_tokens
    encode_batch = backend.encode_batch if with_word_ids else backend.encode_batch_fast
    for batch in _batches(texts if pairs is None else zip(texts, pairs, strict=True)):
        yield encode_batch(batch, add_special_tokens=special_tokens)


def _batches(rows: Iterable[str | tuple[str, str]]) -> Iterator[list[str | tuple[str, str]]]:
    batch: list[str | tuple[str, str]] = []
    characters = 0
    for row in rows:
        batch.append(row)
        characters += len(row) if isinstance(row, str) else len(row[0]) + len(row[1])
        if len(batch) == _BATCH_TEXTS or characters >= _BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


WordStartFinder = Callable[[Any], np.ndarray]
"""Maps the `tokenizers.Encoding` of a text to bool (T,): tokens that begin a word. A special token is a word."""


def word_start_finder(tokenizer: PreTrainedTokenizerBase) -> WordStartFinder:
    """Return a function that locates word starts, by the tokenizer's word ids or by the word marks of its tokens.

    The tokenizer defines a word. BERT's WordPiece splits at white space, at every punctuation mark and at CJK
    characters; byte-level BPE between letters, digits and other characters, with a leading space belonging to the word;
    SentencePiece at white space only, so that a comma belongs to the preceding word. Some SentencePiece and byte-level
    tokenizers assign one word id to the whole text; words then begin at tokens with the mark of a space.

    Raises:
        UserError: neither method distinguishes words.
    """
    probe = tokenizer.backend_tokenizer.encode(_PROBE, add_special_tokens=False)
    probe_words = len(_PROBE.split())
    if len(set(probe.word_ids)) >= probe_words:
        return lambda encoding: _split_long_words(_new_word_ids(encoding))
    for mark in _WORD_MARKS:
        if sum(token.startswith(mark) for token in probe.tokens[1:]) >= probe_words - 1:
            return lambda encoding: _split_long_words(_new_word_ids(encoding) | _has_mark(encoding, mark))
    raise UserError(
        f"masking: the encoder's tokenizer has no word boundaries: it encodes {_PROBE!r} as one word "
        f"({' '.join(probe.tokens)}); set `masking: token`"
    )


def _new_word_ids(encoding: Any) -> np.ndarray:
    """bool (T,): tokens whose word id differs from the previous one. Special tokens have none: NaN equals nothing."""
    ids = np.array(encoding.word_ids, dtype=np.float64)
    return np.concatenate([[True], ids[1:] != ids[:-1]])[: len(ids)]


def _has_mark(encoding: Any, mark: str) -> np.ndarray:
    return np.array([token.startswith(mark) for token in encoding.tokens], dtype=bool)


def _split_long_words(starts: np.ndarray) -> np.ndarray:
    firsts = np.flatnonzero(starts)
    lengths = np.diff(firsts, append=len(starts))
    return starts | np.repeat(lengths > LONGEST_WORD, lengths)
