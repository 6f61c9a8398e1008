"""Where words begin among the tokens of a text, for tokenizers of every kind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from ftjobs.errors import UserError

_PROBE = "one two three"
#: What pieces that begin a word begin with, in SentencePiece's vocabularies and in byte-level ones.
_MARKS = ("▁", "Ġ")
#: A chain of more pieces is no word but a text without spaces, an address or a table: each piece is taken on its own.
LONGEST_WORD = 32

WordStarts = Callable[[Any], np.ndarray]
"""From the `tokenizers.Encoding` of a text to bool (T,): tokens that begin a word; special tokens are words of one."""


def word_starts(tokenizer: PreTrainedTokenizerBase) -> WordStarts:
    """How to tell where words begin: by the tokenizer's word ids, or by the marks of its pieces.

    What a word is, the tokenizer says: BERT's WordPiece parts at white space and at every punctuation mark and CJK
    character; byte-level BPE at changes between letters, digits and other marks, a leading space belonging to the
    word; SentencePiece at white space alone, so there a comma belongs to the word before it. Some SentencePiece and
    byte-level tokenizers take a text whole, and give all of it one word id; then words begin at pieces with the mark of
    a space.

    Raises:
        UserError: neither of both tells words apart.
    """
    probe = tokenizer.backend_tokenizer.encode(_PROBE, add_special_tokens=False)
    spaces = len(_PROBE.split())
    if len(set(probe.word_ids)) >= spaces:
        return lambda encoding: _without_chains(_new_ids(encoding))
    for mark in _MARKS:
        if sum(piece.startswith(mark) for piece in probe.tokens[1:]) >= spaces - 1:
            return lambda encoding: _without_chains(_new_ids(encoding) | _marked(encoding, mark))
    raise UserError(
        f"masking: whole words cannot be told apart with this encoder's tokenizer: it takes {_PROBE!r} for one word "
        f"({' '.join(probe.tokens)}); write `masking: token`"
    )


def _new_ids(encoding: Any) -> np.ndarray:
    """Tokens with another word id than the one before. Special tokens have none: nan, which equals nothing."""
    ids = np.array(encoding.word_ids, dtype=np.float64)
    return np.concatenate([[True], ids[1:] != ids[:-1]])[: len(ids)]


def _marked(encoding: Any, mark: str) -> np.ndarray:
    return np.array([piece.startswith(mark) for piece in encoding.tokens], dtype=bool)


def _without_chains(starts: np.ndarray) -> np.ndarray:
    firsts = np.flatnonzero(starts)
    lengths = np.diff(firsts, append=len(starts))
    return starts | np.repeat(lengths > LONGEST_WORD, lengths)
