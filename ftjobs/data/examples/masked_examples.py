"""Examples for masked language modeling: sentences, documents, or packed documents, with new masks in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from itertools import chain
from typing import Literal

import numpy as np
import torch
from transformers import PreTrainedTokenizerBase

from ftjobs.data.examples.batching import Batch, pad
from ftjobs.data.examples.documents import split_sentences
from ftjobs.data.examples.masking import BERT_REPLACEMENT, Masking, example_generator, mask
from ftjobs.data.examples.packing import PackedTokens, Packing, SpecialTokens
from ftjobs.data.examples.tokenization import Tokens, tokenize
from ftjobs.jobfile.fields import Replace

Unit = Literal["sentence", "document", "packed", "isolated"]
"""The unit of text in one example. `isolated`: packed, with document masking."""


@dataclass(frozen=True)
class MaskedExamples:
    """Tokenized texts with new masks in every epoch."""

    tokens: Tokens
    seed: int
    probability: float
    mask_token_id: int
    vocab_size: int
    pad_token_id: int
    masking: Masking = "token"
    replace: Replace = BERT_REPLACEMENT
    numbers: np.ndarray | None = None
    """int64 (N,): numbers that seed the examples' masks; by default the examples' positions."""

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def texts(self) -> int:
        """Number of texts in the examples."""
        return len(self)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example: int64 (N,)."""
        return self.tokens.lengths

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """Return the examples at `indices` with the masks of `epoch`."""
        inputs = pad(self.tokens, indices, self.pad_token_id)
        words = self.tokens.word_starts
        input_ids = inputs["input_ids"].numpy()  # shares memory: masks are written into the batch
        width = input_ids.shape[1]
        labels, positions = [], []
        for row, index in enumerate(indices):
            span = slice(self.tokens.offsets[index], self.tokens.offsets[index + 1])
            original = self.tokens.input_ids[span]
            masked, chosen = mask(
                original,
                ~self.tokens.special[span],
                probability=self.probability,
                mask_token_id=self.mask_token_id,
                vocab_size=self.vocab_size,
                generator=example_generator(self.seed, epoch, self._number(int(index))),
                masking=self.masking,
                word_starts=None if words is None else words[span],
                replace=self.replace,
            )
            input_ids[row, : len(masked)] = masked
            labels.append(original[chosen])
            positions.append(row * width + chosen)
        return Batch(
            inputs,
            torch.from_numpy(np.concatenate([*labels, np.zeros(0)]).astype(np.int64)),
            torch.from_numpy(np.concatenate([*positions, np.zeros(0)]).astype(np.int64)),
        )

    def _number(self, index: int) -> int:
        return index if self.numbers is None else int(self.numbers[index])


class PackedExamples:
    """Packed documents with new masks and a new document order in every epoch."""

    def __init__(self, packing: Packing, masked: MaskedExamples) -> None:
        """Args: packing: the documents; masked: the masking settings, whose tokens are not used."""
        self._packing, self._masked = packing, masked
        self._epoch: int | None = None

    def __len__(self) -> int:
        return len(self._packing)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens per example: int64 (N,). An example may have a few tokens less in some epochs."""
        return self._packing.lengths

    @property
    def seed(self) -> int:
        """Seed of the masks."""
        return self._masked.seed

    @property
    def texts(self) -> int:
        """Number of documents in the examples."""
        return len(self._packing.documents)

    @property
    def tokens(self) -> Tokens:
        """Tokens of the documents, without the special tokens between them."""
        return self._packing.documents

    def batch(self, indices: np.ndarray, epoch: int) -> Batch:
        """Return the examples at `indices` of `epoch`.

        With document masking, `attention_mask` contains document numbers, from which `models.document_masking` builds
        block-diagonal attention masks.
        """
        masked = self._of_epoch(epoch)
        batch = masked.batch(indices, epoch)
        if self._packing.document_masking:
            tokens = masked.tokens
            assert isinstance(tokens, PackedTokens), "`Packing.tokens` returns PackedTokens"
            attention_mask = batch.inputs["attention_mask"].numpy()
            for row, index in enumerate(indices):
                span = slice(tokens.offsets[index], tokens.offsets[index + 1])
                attention_mask[row, : span.stop - span.start] = tokens.documents[span]
        return batch

    def _of_epoch(self, epoch: int) -> MaskedExamples:
        if self._epoch != epoch:
            self._masked = replace(self._masked, tokens=self._packing.tokens(epoch))
            self._epoch = epoch
        return self._masked


def build_masked_examples(
    documents: Iterable[str],
    unit: Unit,
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    masked: Callable[[Tokens], MaskedExamples],
    with_word_starts: bool,
) -> MaskedExamples | PackedExamples:
    """Tokenize documents and divide them into examples.

    Args:
        documents: D texts.
        unit: the unit of text in one example.
        tokenizer: tokenizer of the encoder.
        max_length: maximum tokens per example. Longer sentences and documents are cut; packed documents continue in the
            next example.
        masked: adds the masking settings to tokens; their seed also determines the order of packed documents.
        with_word_starts: compute word starts, which whole-word and span masking require.

    Raises:
        UserError: packing, but the tokenizer has no special token to separate documents.
    """
    if unit in ("packed", "isolated"):
        special_tokens = SpecialTokens.of_tokenizer(tokenizer)
        examples = masked(tokenize(tokenizer, documents, None, None, with_word_starts, special_tokens=False))
        packing = Packing(examples.tokens, special_tokens, max_length, unit == "isolated", examples.seed)
        return PackedExamples(packing, examples)
    if unit == "sentence":
        documents = chain.from_iterable(map(split_sentences, documents))
    return masked(tokenize(tokenizer, documents, None, max_length, with_word_starts))
