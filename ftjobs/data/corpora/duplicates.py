"""Finding passages that stand more than once in a corpus, exactly or nearly.

Near duplicates are passages whose sets of 5-word runs have a Jaccard similarity of at least a threshold (Broder 1997;
as Lee et al. 2022, section 4.2, clean corpora of language models). The similarity is estimated from 128 minima of
hashed runs; passages to compare are found by banding (Leskovec et al. 2020, section 3.4). Nothing is random: the same
passages in the same order give the same answer. In memory are a few numbers for each passage, its minima lie in files.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from ftjobs.data.corpora.shingles import Words, odd_constant, shingle_keys
from ftjobs.data.memory_mapped import ArrayFile

#: Words in a run, and minima of a passage. With 128 the estimate's standard error is 0.035 at a similarity of 0.8.
_RUN, _MINIMA = 5, 128
#: Of pairs that are as similar as the threshold, this share at least is found.
_FOUND = 0.99
#: Pairs compared at a time.
_PAIRS = 2**14


class Duplicates:
    """Passages are added in their order; then it says which ones repeat earlier ones."""

    def __init__(self, threshold: float | None) -> None:
        """Args: threshold: similarity of near duplicates; None looks for exact ones only."""
        self._threshold = threshold
        self._keys = ArrayFile(np.uint64)
        self._minima = ArrayFile(np.uint32)
        self._rows = _rows_of_a_band(threshold) if threshold is not None else 0
        self._bands = [ArrayFile(np.uint64) for _ in range(_MINIMA // self._rows)] if self._rows else []

    def add(self, keys: np.ndarray, words: Words) -> None:
        """Args: keys: uint64 (N,): equal for passages that count as exactly equal; words: those of the same passages,
        at least one each."""
        self._keys.append(keys)
        if not len(words) or self._threshold is None:
            return
        minima = _minima(words)
        self._minima.append(minima.reshape(-1))
        for number, band in enumerate(self._bands):
            rows = minima[:, number * self._rows : (number + 1) * self._rows].astype(np.uint64)
            band.append(shingle_keys(rows.reshape(-1), np.arange(0, rows.size, self._rows), self._rows))

    def repeated(self) -> tuple[np.ndarray, np.ndarray]:
        """For each of N passages the first passage that it repeats exactly, and the first of its near duplicates:
        itself if it is the first, int64 (N,) each. Near duplicates of near duplicates count as one cluster."""
        keys = self._keys.mapped()
        _, first, inverse = np.unique(keys, return_index=True, return_inverse=True)
        exact = first[inverse]
        if self._threshold is None or not len(keys):
            return exact, exact
        minima = self._minima.mapped().reshape(len(keys), _MINIMA)
        pairs = [self._similar(minima, band.mapped()) for band in self._bands]
        left, right = np.concatenate([*pairs, np.stack([np.arange(len(keys)), exact])], axis=1)
        graph = coo_matrix((np.ones(len(left), dtype=np.int8), (left, right)), shape=(len(keys), len(keys)))
        clusters = connected_components(graph, directed=False)[1]
        _, first, inverse = np.unique(clusters, return_index=True, return_inverse=True)
        return exact, first[inverse]

    def _similar(self, minima: np.ndarray, band: np.ndarray) -> np.ndarray:
        """Pairs of similar passages among those that agree in a band: int64 (2, P)."""
        found = [
            pairs[:, (minima[pairs[0]] == minima[pairs[1]]).mean(axis=1) >= self._threshold] for pairs in _pairs(band)
        ]
        return np.concatenate([np.zeros((2, 0), dtype=np.int64), *found], axis=1)


def _pairs(band: np.ndarray) -> Iterator[np.ndarray]:
    """Pairs of passages that agree in a band, int64 (2, P): each with the first such, and with the one before it. So a
    heading that stands in every passage makes as many pairs as passages, and not as many as its square."""
    order = np.argsort(band, kind="stable")
    same = band[order[1:]] == band[order[:-1]]
    starts = np.concatenate([[True], ~same])
    first = order[np.flatnonzero(starts)[np.cumsum(starts) - 1]]
    both = np.stack(
        [np.concatenate([first[1:][same], order[:-1][same]]), np.concatenate([order[1:][same], order[1:][same]])]
    )
    for start in range(0, both.shape[1], _PAIRS):
        yield both[:, start : start + _PAIRS]


def _minima(words: Words) -> np.ndarray:
    """The minima of each passage: uint32 (N, 128). A passage shorter than a run is one run."""
    runs, starts = words.grams(_RUN)
    owners = np.searchsorted(words.offsets, starts, side="right") - 1
    short = np.flatnonzero(words.counts < _RUN)
    whole = [shingle_keys(words.of(int(one)), np.zeros(1, dtype=np.int64), int(words.counts[one])) for one in short]
    owners = np.concatenate([owners, short])
    order = np.argsort(owners, kind="stable")
    runs = _mixed(np.concatenate([runs, *whole])[order])
    firsts = np.searchsorted(owners[order], np.arange(len(words)))
    found = np.empty((len(words), _MINIMA), dtype=np.uint32)
    for number in range(_MINIMA):  # multiply-shift: another order of the same runs for each
        hashed = runs * odd_constant(2 * number) + odd_constant(2 * number + 1)
        found[:, number] = np.minimum.reduceat(hashed, firsts) >> np.uint64(32)
    return found


def _mixed(keys: np.ndarray) -> np.ndarray:
    """The finalizer of SplitMix64 (Steele et al. 2014): every bit of the result depends on every bit."""
    keys = (keys ^ (keys >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    keys = (keys ^ (keys >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = keys ^ (keys >> np.uint64(31))
    return mixed


def _rows_of_a_band(threshold: float) -> int:
    """The most minima in a band, of which fewer passages agree in all, that still finds nearly every similar pair."""
    for rows in (32, 16, 8, 4, 2):
        if 1 - (1 - threshold**rows) ** (_MINIMA // rows) >= _FOUND:
            return rows
    return 1
