"""Which texts stand in two places: what leaks from training into what a model is measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence

import numpy as np


def overlap(train: np.ndarray, other: np.ndarray) -> dict[str, int]:
    """How much of `other` a model has seen: texts are compared normalised, and in any text column.

    `texts`: distinct texts of `other`; `texts_in_training`: those that also stand in `train`; `rows`: rows of `other`;
    `rows_in_training`: those with at least one text that also stands in `train`.

    Args: uint64 (N, C) each, the texts' `text_keys`.
    """
    texts = np.unique(other)
    return {
        "texts": len(texts),
        "texts_in_training": int(np.isin(texts, train).sum()),
        "rows": len(other),
        "rows_in_training": int(seen(train, other).sum()),
    }


def seen(train: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool (N,): rows of `other` with at least one text that also stands in `train`. Takes `text_keys`."""
    return np.asarray(np.isin(other, train).any(axis=1))


def text_keys(columns: Sequence[Iterable[str]]) -> np.ndarray:
    """A number for each text of each of C columns, equal where texts are equal when normalised: uint64 (N, C).

    They are hashes, so that texts need not be kept: among ten million distinct texts, the chance that any two have the
    same number is 3 in a million.
    """
    return np.stack([keys(normalise(text) for text in column) for column in columns], axis=1)


def normalise(text: str) -> str:
    """The form in which two texts count as the same: case folded, white space collapsed."""
    return " ".join(text.casefold().split())


def keys(values: Iterable[str]) -> np.ndarray:
    """A hash of each value: uint64 (N,)."""
    digests = (hashlib.blake2b(value.encode(), digest_size=8).digest() for value in values)
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), dtype=np.uint64)
