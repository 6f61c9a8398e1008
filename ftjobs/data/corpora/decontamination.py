"""Find texts of the evaluation splits in passages of a training corpus.

A passage is contaminated if it contains such a text as a sequence of words: the exact form of the 13-gram matching of
Brown et al. 2020, appendix C. Shingles of the first words of each text are looked up in a table, and only matches are
compared word by word, so the time grows with the passages and hardly with the number of texts.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ftjobs.data.corpora.near_duplicates import HashedWords, hash_words, shingle_keys
from ftjobs.data.overlap import normalize

#: Number of leading words by which a longer text is looked up.
_PREFIX = 8


class EvaluationTexts:
    """Index of the texts that no passage may contain."""

    def __init__(self, texts: Iterable[str], min_words: int = 1) -> None:
        """Build the index.

        Args:
            texts: for example those of the test split; may contain repetitions.
            min_words: texts with fewer words are skipped.
        """
        distinct = list(dict.fromkeys(map(normalize, texts)))
        words = hash_words(distinct)
        indexed = np.flatnonzero(words.counts >= max(min_words, 1))
        self.skipped = len(distinct) - len(indexed)
        """Number of distinct texts with fewer words than `min_words`."""
        self.texts = [distinct[index] for index in indexed]
        self._words = [words.of_text(int(index)) for index in indexed]
        self._tables = {
            size: self._build_table(size) for size in sorted({self._prefix(words) for words in self._words})
        }

    def __len__(self) -> int:
        return len(self.texts)

    def find(self, passages: HashedWords) -> np.ndarray:
        """Return, for each of N passages, the index of a text that it contains, or -1: int64 (N,)."""
        matches = np.full(len(passages), -1)
        for size, (keys, texts) in self._tables.items():
            shingles, starts = passages.shingles(size)
            places = np.searchsorted(keys, shingles).clip(max=len(keys) - 1)
            hits = np.flatnonzero(keys[places] == shingles)
            owners = np.searchsorted(passages.offsets, starts[hits], side="right") - 1
            for start, place, owner in zip(starts[hits], places[hits], owners, strict=True):
                if matches[owner] < 0:
                    rest = passages.keys[start : passages.offsets[owner + 1]]
                    matches[owner] = next((text for text in texts[place] if self._is_prefix(text, rest)), -1)
        return matches

    def _is_prefix(self, text: int, words: np.ndarray) -> bool:
        """Return whether a sequence of words begins with a text."""
        expected = self._words[text]
        return np.array_equal(words[: len(expected)], expected)

    def _build_table(self, size: int) -> tuple[np.ndarray, list[list[int]]]:
        """Return the distinct shingles of the first `size` words, ascending, uint64 (K,), and the texts of each."""
        by_key: dict[int, list[int]] = {}
        for number, words in enumerate(self._words):
            if self._prefix(words) == size:
                key = int(shingle_keys(words, np.zeros(1, dtype=np.int64), size)[0])
                by_key.setdefault(key, []).append(number)
        keys = sorted(by_key)
        return np.array(keys, dtype=np.uint64), [by_key[key] for key in keys]

    @staticmethod
    def _prefix(words: np.ndarray) -> int:
        """Return the number of leading words by which a text is looked up."""
        return min(len(words), _PREFIX)
