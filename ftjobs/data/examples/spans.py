"""Choosing spans of words to mask (SpanBERT: Joshi et al. 2020, section 3.1)."""

from __future__ import annotations

import math

import numpy as np

#: Words in a span: the geometric distribution with this parameter, cut off (and scaled) at the longest; 3.8 on average.
PARAMETER, LONGEST = 0.2, 10
_SHARES = PARAMETER * (1 - PARAMETER) ** np.arange(LONGEST)
_UP_TO = np.cumsum(_SHARES / _SHARES.sum())


def choose_spans(
    word_starts: np.ndarray, maskable: np.ndarray, probability: float, generator: np.random.Generator
) -> np.ndarray:
    """Choose spans of whole words until `probability` of the maskable tokens are in one.

    Each span's length is drawn first, then its place, evenly among those where it fits in; spans do not touch each
    other while there is room, and a span that fits nowhere, or is longer than what is left of the budget, gets shorter.
    The word that would exceed the budget ends its span and is taken with the probability that makes the expected number
    of tokens the budget exactly.

    Args:
        word_starts: bool (T,): tokens that begin a word.
        maskable: bool (T,): False for special tokens.
        probability: share of tokens to choose.
        generator: of the example.

    Returns:
        int64 (T,): the first token of the span that a token is in, -1 for tokens in none.
    """
    firsts = np.flatnonzero(word_starts)
    lengths = np.diff(firsts, append=len(word_starts))  # (W,)
    closed = ~maskable[firsts]
    span_of = np.full(len(firsts), -1)
    left = probability * float(maskable.sum())
    tokens_per_word = lengths[~closed].mean() if left else 1.0
    while left > 0:
        wanted = min(_length(generator), math.ceil(left / tokens_per_word))  # cut before it has a place, not behind
        start, words = _place(closed, span_of >= 0, wanted, generator)
        for word in range(start, start + words):
            if lengths[word] > left and generator.random() * lengths[word] >= left:
                left = 0
                break
            span_of[word] = firsts[start]
            left -= lengths[word]
            if left <= 0:
                break
    found: np.ndarray = span_of[np.cumsum(word_starts) - 1]
    return found


def _length(generator: np.random.Generator) -> int:
    """Words of a span."""
    return 1 + int(np.searchsorted(_UP_TO[:-1], generator.random(), side="right"))


def _place(closed: np.ndarray, taken: np.ndarray, words: int, generator: np.random.Generator) -> tuple[int, int]:
    """A place for a span: the number of its first word, and how many words it can have there."""
    blocked = closed | taken
    around = np.concatenate([[False], taken, [False]])
    for apart in (True, False):
        for length in range(min(words, len(closed)), 0, -1):
            fits = _none_in(blocked, length)
            found = np.flatnonzero(fits & _none_in(around, length + 2) if apart else fits)
            if len(found):
                return int(found[generator.integers(len(found))]), length
    raise AssertionError("words are left as long as less than all tokens are to be chosen")


def _none_in(flags: np.ndarray, width: int) -> np.ndarray:
    """bool (N - width + 1,): windows without a flag."""
    counts = np.concatenate([[0], np.cumsum(flags)])
    windows: np.ndarray = counts[width:] == counts[:-width]
    return windows
