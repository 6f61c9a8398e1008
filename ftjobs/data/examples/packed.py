"""Packed documents as training examples."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ftjobs.data.examples.batching import Batch, MaskedExamples
from ftjobs.data.examples.packing import PackedTokens, Packing
from ftjobs.data.examples.tokenization import Tokens


class PackedExamples:
    """Packed documents, masked anew and in another order in every epoch."""

    def __init__(self, packing: Packing, masked: MaskedExamples) -> None:
        """Args: masked: how to mask; its tokens are not used."""
        self._packing, self._masked = packing, masked
        self._epoch: int | None = None

    def __len__(self) -> int:
        return len(self._packing)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example, the same for all epochs, though in one they may be a few less: int64 (N,)."""
        return self._packing.lengths

    @property
    def seed(self) -> int:
        """Of masks."""
        return self._masked.seed

    @property
    def texts(self) -> int:
        """How many texts the examples are made of."""
        return len(self._packing.documents)

    @property
    def tokens(self) -> Tokens:
        """Of the texts, without the special tokens between them."""
        return self._packing.documents

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """The examples at `indices` as they are in `epoch`. If documents are isolated, `attention_mask` has their
        numbers, which `models.isolation` makes masks of."""
        masked = self._of(epoch)
        batch = masked.batch(indices, epoch)
        if self._packing.isolated:
            tokens = masked.tokens
            assert isinstance(tokens, PackedTokens), "they come from `Packing.tokens`"
            mask = batch.inputs["attention_mask"].numpy()
            for row, index in enumerate(indices):
                span = slice(tokens.offsets[index], tokens.offsets[index + 1])
                mask[row, : span.stop - span.start] = tokens.documents[span]
        return batch

    def _of(self, epoch: int) -> MaskedExamples:
        if self._epoch != epoch:
            self._masked = replace(self._masked, tokens=self._packing.tokens(epoch))
            self._epoch = epoch
        return self._masked
