"""Hashed words and shingles (word n-grams) of texts, for decontamination and near-duplicate detection.

Words are case folded and compared without surrounding punctuation. A text is therefore found in every text that
contains it after `overlap.normalize`, and also in quotes or before other punctuation.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

#: Scripts without spaces between words: every character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
#: Number of words whose hashes are cached.
_CACHED_WORDS = 2**17


@dataclass(frozen=True)
class HashedWords:
    """W hashed words of N texts. The words of text i are `offsets[i]:offsets[i + 1]`."""

    keys: np.ndarray
    """uint64 (W,): equal for equal words. Among a million distinct words, the probability of any collision is
    3 in a hundred million."""
    offsets: np.ndarray
    """int64 (N + 1,)"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> np.ndarray:
        """Words per text: int64 (N,)."""
        return np.diff(self.offsets)

    def of_text(self, index: int) -> np.ndarray:
        """Return the words of one text: uint64 (W_i,)."""
        return self.keys[self.offsets[index] : self.offsets[index + 1]]

    def shingles(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the hashes, uint64 (G,), and start positions, int64 (G,), of all shingles of `size` words."""
        last = np.repeat(self.offsets[1:], self.counts) - size
        starts = np.flatnonzero(np.arange(len(self.keys)) <= last)
        return shingle_keys(self.keys, starts, size), starts


def hash_words(texts: Iterable[str]) -> HashedWords:
    """Split texts into words and hash them."""
    keys: list[int] = []
    offsets = [0]
    for text in texts:
        keys += map(_word_key, _WORD.findall(text.casefold()))
        offsets.append(len(keys))
    return HashedWords(np.array(keys, dtype=np.uint64), np.array(offsets, dtype=np.int64))


def shingle_keys(keys: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """Hash the sequences of `size` words that begin at `starts`: uint64 (G,).

    Each hash is the sum of the word hashes times odd constants, modulo 2**64 (multilinear hashing, Lemire & Kaser 2014,
    section 3). As the word hashes are uniform, the collision probability is similar to that of words.
    """
    sums = np.zeros(len(starts), dtype=np.uint64)
    for position in range(size):
        sums += keys[starts + position] * odd_constant(position)
    return sums


@cache
def odd_constant(number: int) -> np.uint64:
    """Return an odd 64-bit constant per number, identical on every machine."""
    return np.uint64(_digest(f"constant {number}") | 1)


@lru_cache(maxsize=_CACHED_WORDS)
def _word_key(word: str) -> int:
    return _digest(word)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
