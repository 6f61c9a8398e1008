"""Hash words and shingles (word n-grams) of texts, and find exact and near-duplicate passages of a corpus with MinHash.

Words are case folded and compared without surrounding punctuation. A text is therefore found in every text that
contains it after `overlap.normalize`, and also in quotes or before other punctuation.

Near-duplicates are passages whose sets of 5-word shingles have a Jaccard similarity of at least a threshold (Broder
1997; used to deduplicate training corpora by Lee et al. 2022, section 4.2). The similarity is estimated from 128
minimum hashes, and candidate pairs are found by banding (Leskovec et al. 2020, section 3.4). The result is
deterministic. Memory holds a few numbers per passage; minimum hashes are in memory-mapped files.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np

from ftjobs.data.memory_mapped import ArrayFile

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


#: Words per shingle, and hashes per passage. 128 hashes give a standard error of 0.035 at a similarity of 0.8.
_SHINGLE, _HASHES = 5, 128
#: Minimum share of the pairs at the threshold similarity that banding finds.
_RECALL = 0.99
#: Candidate pairs compared at a time.
_BATCH_PAIRS = 2**14


class DuplicateFinder:
    """Collect passages in order, then determine which ones repeat earlier ones."""

    def __init__(self, threshold: float | None) -> None:
        """Args: threshold: Jaccard similarity of near-duplicates; None finds exact duplicates only."""
        self._threshold = threshold
        self._keys = ArrayFile(np.uint64)
        self._minima = ArrayFile(np.uint32)
        self._rows = _rows_per_band(threshold) if threshold is not None else 0
        self._bands = [ArrayFile(np.uint64) for _ in range(_HASHES // self._rows)] if self._rows else []

    def add(self, keys: np.ndarray, words: HashedWords) -> None:
        """Add passages.

        Args:
            keys: uint64 (N,): equal for exact duplicates.
            words: words of the passages, at least one each.
        """
        self._keys.append(keys)
        if not len(words) or self._threshold is None:
            return
        minima = _min_hashes(words)
        self._minima.append(minima.reshape(-1))
        for number, band in enumerate(self._bands):
            rows = minima[:, number * self._rows : (number + 1) * self._rows].astype(np.uint64)
            band.append(shingle_keys(rows.reshape(-1), np.arange(0, rows.size, self._rows), self._rows))

    def first_occurrences(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first exact duplicate and the first near-duplicate of each of N passages: int64 (N,) each.

        A passage that repeats none is its own first occurrence. Near-duplicates are transitive.
        """
        from scipy.sparse import coo_matrix  # slow to import, and readers of corpora do not need it
        from scipy.sparse.csgraph import connected_components

        keys = self._keys.mapped()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        exact = first[inverse]
        if self._threshold is None or not len(keys):
            return exact, exact
        minima = self._minima.mapped().reshape(len(keys), _HASHES)
        pairs = [self._similar_pairs(minima, band.mapped()) for band in self._bands]
        left, right = np.concatenate([*pairs, np.stack([np.arange(len(keys)), exact])], axis=1)
        graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(keys), len(keys)))
        clusters = connected_components(graph, directed=False)[1]
        _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
        return exact, first[inverse]

    def _similar_pairs(self, minima: np.ndarray, band: np.ndarray) -> np.ndarray:
        """Return the pairs of similar passages with equal hashes in a band: int64 (2, P)."""
        similar = [
            pairs[:, (minima[pairs[0]] == minima[pairs[1]]).mean(axis=1) >= self._threshold]
            for pairs in _candidate_pairs(band)
        ]
        return np.concatenate([np.zeros((2, 0), dtype=np.int64), *similar], axis=1)


def _candidate_pairs(band: np.ndarray) -> Iterator[np.ndarray]:
    """Yield pairs of passages with equal hashes in a band: int64 (2, P).

    A passage is paired with the first such passage and with the preceding one only, so that a heading that all passages
    share produces a linear number of pairs instead of a quadratic one.
    """
    order = np.argsort(band, kind="stable")
    same = band[order[1:]] == band[order[:-1]]
    starts = np.concatenate([[True], ~same])
    first = order[np.flatnonzero(starts)[np.cumsum(starts) - 1]]
    pairs = np.stack(
        [np.concatenate([first[1:][same], order[:-1][same]]), np.concatenate([order[1:][same], order[1:][same]])]
    )
    for start in range(0, pairs.shape[1], _BATCH_PAIRS):
        yield pairs[:, start : start + _BATCH_PAIRS]


def _min_hashes(words: HashedWords) -> np.ndarray:
    """Return the minimum hashes of each passage: uint32 (N, 128). A passage of fewer than 5 words is one shingle."""
    shingles, starts = words.shingles(_SHINGLE)
    owners = np.searchsorted(words.offsets, starts, side="right") - 1
    short = np.flatnonzero(words.counts < _SHINGLE)
    whole = [
        shingle_keys(words.of_text(int(index)), np.zeros(1, dtype=np.int64), int(words.counts[index]))
        for index in short
    ]
    owners = np.concatenate([owners, short])
    order = np.argsort(owners, kind="stable")
    shingles = _mix(np.concatenate([shingles, *whole])[order])
    firsts = np.searchsorted(owners[order], np.arange(len(words)))
    minima = np.empty((len(words), _HASHES), dtype=np.uint32)
    for number in range(_HASHES):  # multiply-shift hashing: one permutation of the shingles per number
        hashes = shingles * odd_constant(2 * number) + odd_constant(2 * number + 1)
        minima[:, number] = np.minimum.reduceat(hashes, firsts) >> np.uint64(32)
    return minima


def _mix(keys: np.ndarray) -> np.ndarray:
    """Apply the finalizer of SplitMix64 (Steele et al. 2014), so that every output bit depends on every input bit."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = keys ^ (keys >> np.uint64(31))
    return mixed


def _rows_per_band(threshold: float) -> int:
    """Return the largest band, which has the fewest candidate pairs, that still finds `_RECALL` of similar pairs."""
    for rows in (32, 16, 8, 4, 2):
        if 1 - (1 - threshold**rows) ** (_HASHES // rows) >= _RECALL:
            return rows
    return 1
