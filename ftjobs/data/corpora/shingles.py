"""Texts as runs of words, and n-grams of words as numbers: what is needed to find texts within texts, and like texts.

Words are compared case folded and without the punctuation around them, so a text is found in every text that holds it
when both are normalised as in `overlap.normalise`, and also in quotes or before another mark.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

#: Scripts without spaces between words: there, every character counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W{_UNSPACED}]+")
#: Words whose numbers are kept; those of rarer ones are computed again.
_KEPT = 2**17


@dataclass(frozen=True)
class Words:
    """The words of N texts, W in all, as numbers. Those of text i lie at `offsets[i]:offsets[i + 1]`."""

    keys: np.ndarray
    """uint64 (W,): equal for equal words. Hashes: among a million distinct words, the chance that any two have the same
    number is 3 in a hundred million."""
    offsets: np.ndarray
    """int64 (N + 1,)"""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def counts(self) -> np.ndarray:
        """Words per text: int64 (N,)."""
        return np.diff(self.offsets)

    def of(self, index: int) -> np.ndarray:
        """The words of one text."""
        return self.keys[self.offsets[index] : self.offsets[index + 1]]

    def grams(self, size: int) -> tuple[np.ndarray, np.ndarray]:
        """All runs of `size` words within a text: their numbers, uint64 (G,), and where each starts, int64 (G,)."""
        last = np.repeat(self.offsets[1:], self.counts) - size
        starts = np.flatnonzero(np.arange(len(self.keys)) <= last)
        return shingle_keys(self.keys, starts, size), starts


def words_of(texts: Iterable[str]) -> Words:
    """The words of texts."""
    keys: list[int] = []
    offsets = [0]
    for text in texts:
        keys += map(_key, _WORD.findall(text.casefold()))
        offsets.append(len(keys))
    return Words(np.array(keys, dtype=np.uint64), np.array(offsets, dtype=np.int64))


def shingle_keys(keys: np.ndarray, starts: np.ndarray, size: int) -> np.ndarray:
    """The numbers of the runs of `size` words that start at `starts`: uint64 (G,).

    Each is a sum of the words' numbers times odd constants, modulo 2**64 (multilinear hashing, Lemire & Kaser 2014,
    section 3); the words' numbers being hashes, equal sums mean equal runs but for chances like those of the words.
    """
    found = np.zeros(len(starts), dtype=np.uint64)
    for place in range(size):
        found += keys[starts + place] * odd_constant(place)
    return found


@cache
def odd_constant(number: int) -> np.uint64:
    """An odd number of 64 bits for each number from 0, the same on every machine."""
    return np.uint64(_digest(f"constant {number}") | 1)


@lru_cache(maxsize=_KEPT)
def _key(word: str) -> int:
    return _digest(word)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
