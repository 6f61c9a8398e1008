"""Detect texts that appear both in training and in an evaluation split."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import TypedDict

import numpy as np


class Overlap(TypedDict):
    """Texts and rows of an evaluation split that also appear in training, in any text column, after normalization."""

    texts: int
    """Distinct texts of the split."""
    texts_in_training: int
    """Those that also appear in training."""
    rows: int
    rows_in_training: int
    """Rows with at least one text that appears in training."""


def measure_overlap(train: np.ndarray, other: np.ndarray) -> Overlap:
    """Count the texts and rows of a split that share a text with training.

    Args:
        train: uint64 (N, C): `text_keys` of the training split.
        other: uint64 (M, C): `text_keys` of the other split.
    """
    texts = np.unique(other)
    return {
        "texts": len(texts),
        "texts_in_training": int(np.isin(texts, train).sum()),
        "rows": len(other),
        "rows_in_training": int(shares_text(train, other).sum()),
    }


def shares_text(train: np.ndarray, other: np.ndarray) -> np.ndarray:
    """bool (M,): rows of `other` with at least one text that also appears in `train`. Takes `text_keys`."""
    return np.asarray(np.isin(other, train).any(axis=1))


def text_keys(columns: Sequence[Iterable[str]]) -> np.ndarray:
    """Hash the texts of C columns, equal for texts that are equal after normalization: uint64 (N, C).

    Among ten million distinct texts, the probability of any collision is 3 in a million.
    """
    return np.stack([hash_strings(normalize(text) for text in column) for column in columns], axis=1)


def normalize(text: str) -> str:
    """Case-fold a text and collapse white space. Texts count as equal if their normalized forms are."""
    return " ".join(text.casefold().split())


def hash_strings(values: Iterable[str]) -> np.ndarray:
    """Hash strings: uint64 (N,)."""
    digests = (hashlib.blake2b(value.encode(), digest_size=8).digest() for value in values)
    return np.fromiter((int.from_bytes(digest, "little") for digest in digests), dtype=np.uint64)
