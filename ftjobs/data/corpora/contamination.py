"""Finding the texts that a model is measured on inside the texts that it learns from.

A passage is contaminated if it holds such a text as a run of words: the exact form of what Brown et al. 2020 (appendix
C) did with runs of 13 words. Runs of the first words of each text are looked up in a table, and only where one is found
are all words compared; so the work grows with the passages, and hardly with the number of texts.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ftjobs.data.corpora.shingles import Words, shingle_keys, words_of
from ftjobs.data.overlap import normalise

#: Words by which a longer text is looked up.
_PREFIX = 8


class HeldTexts:
    """Texts that no passage may hold."""

    def __init__(self, texts: Iterable[str], shortest: int = 1) -> None:
        """
        Args:
            texts: such as those of the test split; the same text may come more than once.
            shortest: fewest words of a text that is looked for.
        """
        distinct = list(dict.fromkeys(map(normalise, texts)))
        words = words_of(distinct)
        wanted = np.flatnonzero(words.counts >= max(shortest, 1))
        self.passed_over = len(distinct) - len(wanted)
        """Distinct texts that are shorter than that."""
        self.texts = [distinct[index] for index in wanted]
        self._words = [words.of(int(index)) for index in wanted]
        self._tables = {size: self._table(size) for size in sorted({min(len(one), _PREFIX) for one in self._words})}

    def __len__(self) -> int:
        return len(self.texts)

    def find(self, passages: Words) -> np.ndarray:
        """For each of N passages the number of a text that it holds, -1 if it holds none: int64 (N,)."""
        found = np.full(len(passages), -1)
        for size, (keys, texts) in self._tables.items():
            grams, starts = passages.grams(size)
            places = np.searchsorted(keys, grams).clip(max=len(keys) - 1)
            hits = np.flatnonzero(keys[places] == grams)
            owners = np.searchsorted(passages.offsets, starts[hits], side="right") - 1
            for start, place, owner in zip(starts[hits], places[hits], owners, strict=True):
                if found[owner] < 0:
                    rest = passages.keys[start : passages.offsets[owner + 1]]
                    found[owner] = next((text for text in texts[place] if self._begins(rest, text)), -1)
        return found

    def _begins(self, words: np.ndarray, text: int) -> bool:
        """Whether a run of words begins with a text."""
        wanted = self._words[text]
        return np.array_equal(words[: len(wanted)], wanted)

    def _table(self, size: int) -> tuple[np.ndarray, list[list[int]]]:
        """The first `size` words of the texts that are looked up by as many: as numbers, ascending, uint64 (K,), and
        the texts that begin with each."""
        by_key: dict[int, list[int]] = {}
        for number, words in enumerate(self._words):
            if min(len(words), _PREFIX) == size:
                key = int(shingle_keys(words, np.zeros(1, dtype=np.int64), size)[0])
                by_key.setdefault(key, []).append(number)
        keys = sorted(by_key)
        return np.array(keys, dtype=np.uint64), [by_key[key] for key in keys]
