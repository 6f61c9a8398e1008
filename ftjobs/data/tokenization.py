"""Texts to token ids, kept as flat arrays: no padding is stored, and a million texts are three arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from transformers import PreTrainedTokenizerBase

_CHUNK = 2_000


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

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per text: int64 (N,)."""
        return np.diff(self.offsets)


def tokenize(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], pairs: Sequence[str] | None, max_length: int
) -> Tokens:
    """Tokenize texts, or pairs of texts, cutting the longer text first where a pair exceeds `max_length`.

    Args:
        tokenizer: a fast tokenizer.
        texts: N texts.
        pairs: the second text of each pair, or None.
        max_length: most tokens per text or pair, special tokens included.
    """
    ids: list[np.ndarray] = []
    special: list[np.ndarray] = []
    types: list[np.ndarray] = []
    lengths: list[int] = []
    truncated = 0
    takes_types = "token_type_ids" in tokenizer.model_input_names
    for start in range(0, len(texts), _CHUNK):
        chunk = slice(start, start + _CHUNK)
        encodings = tokenizer(
            list(texts[chunk]),
            None if pairs is None else list(pairs[chunk]),
            truncation="longest_first",
            max_length=max_length,
            return_attention_mask=False,
        ).encodings
        for encoding in encodings:
            ids.append(np.array(encoding.ids, dtype=np.int32))
            special.append(np.array(encoding.special_tokens_mask, dtype=bool))
            if takes_types:
                types.append(np.array(encoding.type_ids, dtype=np.int8))
            lengths.append(len(encoding.ids))
            truncated += bool(encoding.overflowing)
    return Tokens(
        input_ids=_joined(ids, np.int32),
        special=_joined(special, bool),
        token_type_ids=_joined(types, np.int8) if takes_types else None,
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        truncated=truncated,
    )


def _joined(arrays: list[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate(arrays) if arrays else np.zeros(0, dtype=dtype)
